"""Which files of the repository are the site, where on it they go, and where their links lead.

Everything here is text and paths; hooks.py hands it to MkDocs.
"""

from __future__ import annotations

import posixpath
import re
import shutil
from collections.abc import Callable, Iterable, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from schemas import Node

ROOT = Path(__file__).resolve().parents[2]
HELP = "web/docs"
NODE_LIST = f"{HELP}/index.md"
SINGLE_PAGES = ("README.md", "CONTRIBUTING.md", "CHANGELOG.md", "LICENSES.md", "weights/CARD.md")
PUBLIC = (
    "pipeline", "stage_c", "stage_b", "stage_a", "samplers", "layers", "latents", "conditioning",
    "checkpoints", "adapters",
)  # fmt: skip
"""Packages of the reference, in its order."""

ENGLISH = "en"
LANGUAGES = {ENGLISH: "English", "es": "Español", "zh": "\u4e2d\u6587"}
STEPS = ("load", "condition", "sample", "latent", "adapt", "inspect", "save")
"""Categories of nodes, in the order of work; others follow."""

ICON = "docs/registry/icon.png"
SHOWN = {".png", ".jpg", ".jpeg", ".webp", ".gif", ".svg", ".mp4", ".webm"}
LINK = re.compile(r"(\]\()([^)\s]+)((?: \"[^\"]*\")?\))")
PICTURE = re.compile(r"(<(?:img|video|source)\b[^>]*?\bsrc=\")(?!\w+:)([^\"]+)(\")")
CODE = re.compile(r"^(`{3,}|~{3,})[^\n]*\n.*?^\1[ \t]*$|(`+)(?!`).*?(?<!`)\2(?!`)", re.DOTALL | re.MULTILINE)


@cache
def pages() -> tuple[str, ...]:
    """Every Markdown file that is a page, by its place in the repository."""
    folders = [ROOT / "docs", ROOT / HELP]
    found = [file.relative_to(ROOT).as_posix() for folder in folders for file in folder.rglob("*.md")]
    return (*SINGLE_PAGES, *sorted(found))


def media() -> list[str]:
    """Every picture or film that a page shows, and the icon of the site."""
    shown = {ICON} | {resolve(place, target) for place in pages() for target in _targets(place)}
    return sorted(place for place in shown if Path(place).suffix in SHOWN and (ROOT / place).is_file())


def _targets(place: str) -> list[str]:
    text = CODE.sub("", (ROOT / place).read_text(encoding="utf-8"))
    return [match[2] for pattern in (LINK, PICTURE) for match in pattern.finditer(text)]


def resolve(place: str, target: str) -> str:
    """The place in the repository that a link in the file at ``place`` leads to."""
    return posixpath.normpath(posixpath.join(_base(place), target.partition("#")[0]))


def _base(place: str) -> str:
    """The folder that links count from; ComfyUI's page counts from web/docs in translations, too."""
    return HELP if place.startswith(f"{HELP}/") else posixpath.dirname(place)


def address(place: str) -> str:
    """The file of the site that a page becomes: ``web/docs/X/es.md`` is ``nodes/X/es/index.html``."""
    path = place.removesuffix(".md").removesuffix("/index")
    if path == "README":
        return "index.html"
    if path.startswith(HELP):
        return f"nodes{path.removeprefix(HELP)}/index.html"
    return f"{path.removeprefix('docs/').lower()}/index.html"


def language(place: str) -> str:
    """The language that a page is written in: that of ``web/docs/X/es.md`` is ``es``."""
    return posixpath.basename(place).removesuffix(".md") if _is_translated(place) else ENGLISH


def _is_translated(place: str) -> bool:
    return place.startswith(f"{HELP}/") and place.count("/") > HELP.count("/") + 1


def with_languages(place: str, markdown: str) -> str:
    """A help page with links, under its heading, to itself in other languages."""
    versions = _versions(place)
    if len(versions) < 2:
        return markdown
    here = posixpath.dirname(place)
    names = [
        f"**{LANGUAGES[code]}**"
        if version == place
        else f"[{LANGUAGES[code]}]({posixpath.relpath(version, here)})"
        for code, version in versions.items()
    ]
    heading, _, rest = markdown.partition("\n")
    return f"{heading}\n\n{' · '.join(names)}\n{rest}"


def _versions(place: str) -> dict[str, str]:
    """The places of a help page by language, itself among them; of any other page, none."""
    if not place.startswith(f"{HELP}/") or place == NODE_LIST:
        return {}
    node = place.removeprefix(f"{HELP}/").removesuffix(".md").partition("/")[0]
    others = {code: f"{HELP}/{node}/{code}.md" for code in LANGUAGES if code != ENGLISH}
    return {ENGLISH: f"{HELP}/{node}.md"} | {
        code: other for code, other in others.items() if (ROOT / other).is_file()
    }


def elsewhere(place: str, target: str, repository: str) -> str:
    """The target of a link as the site needs it: for files that are no part of it, where the code is kept."""
    if re.match(r"\w+:|#|/", target):
        return target
    found = resolve(place, target)
    path = ROOT / found
    if found in pages() or path.suffix in SHOWN or not path.exists():
        return posixpath.relpath(found, posixpath.dirname(place)) if _is_translated(place) else target
    return f"{repository}/{'tree' if path.is_dir() else 'blob'}/main/{found}"


def outside_code(markdown: str, pattern: re.Pattern, replace: Callable[[re.Match], str]) -> str:
    """Like ``pattern.sub``, with fenced blocks and code between backticks left as they are."""
    parts, start = [], 0
    for code in CODE.finditer(markdown):
        parts += [pattern.sub(replace, markdown[start : code.start()]), code[0]]
        start = code.end()
    return "".join([*parts, pattern.sub(replace, markdown[start:])])


def copy_packages(folder: Path) -> Path:
    """The public packages under the package's name: the checkout holds far more than Griffe should read."""
    package = folder / "comfyui_cascade"
    shutil.rmtree(package, ignore_errors=True)
    package.mkdir()
    shutil.copy(ROOT / "__init__.py", package)
    for name in public():
        shutil.copytree(ROOT / name, package / name, ignore=shutil.ignore_patterns("__pycache__"))
    return folder


def public() -> list[str]:
    """Packages of the reference that are there."""
    return [name for name in PUBLIC if (ROOT / name / "__init__.py").is_file()]


def modules(package: str) -> list[str]:
    """Modules of a package: first those it offers itself, in its order, then the others by name."""
    offered = re.findall(r"^from \.(\w+) import", _read(package), re.MULTILINE)
    others = sorted(file.stem for file in (ROOT / package).glob("*.py") if not file.stem.startswith("_"))
    return [*offered, *(name for name in others if name not in offered)]


def _read(package: str) -> str:
    return (ROOT / package / "__init__.py").read_text(encoding="utf-8")


def written(nodes: Sequence[Node]) -> dict[str, str]:
    """Pages that are in no file: the list of nodes, and a page for each package."""
    reference = {f"reference/{name}.md": _reference(name) for name in public()}
    return {NODE_LIST: _node_list(nodes), "reference/index.md": _package_list(), **reference}


def _reference(package: str) -> str:
    about = "    options: {members: false, show_root_heading: false, show_root_toc_entry: false}"
    return "\n\n".join(
        [
            f"# {package}",
            f"::: comfyui_cascade.{package}\n{about}",
            *(f"::: comfyui_cascade.{package}.{name}" for name in modules(package)),
        ]
    )


def _package_list() -> str:
    rows = [f"| [{name}]({name}.md) | {_first_sentence(name)} |" for name in public()]
    head = ["# Reference", "", "Plain PyTorch, without ComfyUI: `import comfyui_cascade.samplers`.", ""]
    return "\n".join([*head, "| Package | What it holds |", "|---|---|", *rows])


def _first_sentence(package: str) -> str:
    return _read(package).lstrip().removeprefix('"""').partition("\n")[0].removesuffix('"""')


def by_category(nodes: Iterable[Node]) -> dict[str, list[Node]]:
    """Nodes under the last part of their category, categories in the order of work."""
    groups: dict[str, list[Node]] = {name: [] for name in STEPS}
    for node in nodes:
        groups.setdefault(node.category.rpartition("/")[2], []).append(node)
    return {name: sorted(group, key=lambda node: node.name) for name, group in groups.items() if group}


def _node_list(nodes: Sequence[Node]) -> str:
    lines = [
        "# Nodes",
        "",
        "All of them, as the menu under *cascade* has them; in the graph each name ends in *(Cascade)*.",
    ]
    for category, group in by_category(nodes).items():
        lines += ["", f"## {category.capitalize()}", "", "| Node | What it does |", "|---|---|"]
        for node in group:
            lines.append(f"| [{_short(node.name)}]({node.id}.md) | {node.description} |")
    return "\n".join(lines)


def navigation(nav: list[dict[str, Any]], nodes: Sequence[Node]) -> list[dict[str, Any]]:
    """The navigation of mkdocs.yml with nodes, packages and the guides that it does not name."""
    named = str(nav)
    guides = [place for place in pages() if place.startswith("docs/") and place not in named]
    filled = {
        "Guides": guides,
        "Nodes": [NODE_LIST, *_node_navigation(nodes)],
        "Reference": ["reference/index.md", *(f"reference/{name}.md" for name in public())],
    }
    return [
        {title: [*places, *filled.get(title, [])] if isinstance(places, list) else places}
        for section in nav
        for title, places in section.items()
    ]


def _node_navigation(nodes: Sequence[Node]) -> list[dict[str, Any]]:
    return [
        {category.capitalize(): [{_short(node.name): f"{HELP}/{node.id}.md"} for node in group]}
        for category, group in by_category(nodes).items()
    ]


def _short(name: str) -> str:
    return name.removesuffix(" (Cascade)")
