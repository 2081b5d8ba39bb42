"""The documentation site is built from the whole repository, and none of its links leads nowhere."""

import html
import re
import shutil

import pytest
from comfy_host import ROOT
from dev_script import dev  # noqa: F401, makes development importable

from development import docs
from development.progress import Problem


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    folder = tmp_path_factory.mktemp("site")
    docs.build(folder)  # strict: a broken link raises
    return folder


def page(site, address):
    return (site / address / "index.html").read_text(encoding="utf-8")


def text(site, address):
    return html.unescape(re.sub(r"<[^>]+>", "", page(site, address)))


def test_readme_is_the_first_page(site):
    first = (ROOT / "README.md").read_text(encoding="utf-8").splitlines()[0].removeprefix("# ")
    assert f"{first}" in text(site, ".")


def test_every_help_page_and_every_guide_is_on_the_site(site):
    helped = {file.stem for file in (ROOT / "web" / "docs").glob("*.md")}
    assert helped == {file.parent.name for file in site.glob("nodes/*/index.html")}
    assert all((site / file.stem / "index.html").is_file() for file in (ROOT / "docs").glob("*.md"))


def test_list_of_nodes_leads_to_each_help_page(site):
    links = re.findall(r'href="(Cascade\w+)/"', page(site, "nodes"))
    assert set(links) == {file.parent.name for file in site.glob("nodes/*/index.html")}


def test_reference_shows_signature_description_and_example(site):
    found = text(site, "reference/latents")
    assert "stage_c_size" in found
    assert "Size of the Stage C latents of a picture, rounded up." in found
    assert "stage_c_size(1024, 1024)" in found


def test_pictures_on_pages_are_on_the_site(site):
    for file in site.rglob("index.html"):
        for source in re.findall(r'<img[^>]*\ssrc="([^":]+)"', file.read_text(encoding="utf-8")):
            assert (file.parent / source).is_file(), f"{file.relative_to(site)} shows {source}"


def test_formulas_need_no_script(site):
    assert "<math" in page(site, "method")
    assert "arithmatex" not in page(site, "method")


def test_help_in_another_language_says_so_and_leads_to_english(site):
    translated = sorted((ROOT / "web" / "docs").glob("*/es.md"))
    for file in translated:
        found = page(site, f"nodes/{file.parent.name}/es")
        assert '<html lang="es"' in found
        assert 'href="../">English' in found


def test_link_that_leads_nowhere_fails_the_build(tmp_path, monkeypatch):
    copy = tmp_path / "pack"
    for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md", "LICENSES.md", "weights/CARD.md"):
        (copy / name).parent.mkdir(parents=True, exist_ok=True)
        (copy / name).write_text("# Page\n\n[nothing](missing.md)\n", encoding="utf-8")
    (copy / "__init__.py").touch()
    (copy / "docs").mkdir()
    shutil.copytree(ROOT / "development", copy / "development")
    monkeypatch.setattr(docs, "SETTINGS", copy / "development" / "site" / "mkdocs.yml")
    with pytest.raises(Problem, match=r"link 'missing\.md', but"):
        docs.build(tmp_path / "site")
