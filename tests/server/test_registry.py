"""What the registry gets: the archive that comfy-cli packs, installed into a clean ComfyUI."""

import json
import os
import subprocess
import sys
import urllib.request
import zipfile
from pathlib import Path

import numpy as np
import pytest
from comfy_host import ROOT
from comfy_server import PACK, ComfyServer

from development.workflow import find_node, set_widget

LARGEST = 16 * 2**20
"""Bytes of the archive; most of them are the small cascade's."""


@pytest.fixture(scope="module")
def checkout(tmp_path_factory):
    """What git has of the pack; comfy-cli packs that and writes its archive beside it."""
    if not (ROOT / ".git").exists():
        pytest.skip("needs a git checkout, of which comfy-cli packs what git knows")
    folder = tmp_path_factory.mktemp("registry") / PACK
    subprocess.run(["git", "clone", "--quiet", "--shared", ROOT, folder], check=True)
    return folder


def comfy(checkout, *words):
    """What comfy-cli says, run in a checkout with settings of its own."""
    home = checkout.parent / "home"
    home.mkdir(exist_ok=True)
    done = subprocess.run(
        [Path(sys.executable).with_name("comfy"), "--skip-prompt", "--no-json", *words],
        cwd=checkout, env={**os.environ, "HOME": str(home), "USERPROFILE": str(home), "DO_NOT_TRACK": "1"},
        stdin=subprocess.DEVNULL, capture_output=True, text=True,
    )  # fmt: skip
    assert not done.returncode, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def archive(checkout):
    comfy(checkout, "node", "pack")
    with zipfile.ZipFile(checkout / "node.zip") as packed:
        yield packed


@pytest.fixture(scope="module")
def clean_server(archive, tmp_path_factory):
    """A ComfyUI with nothing but the archive's pack, unpacked as its manager does it."""
    folder = tmp_path_factory.mktemp("clean")
    archive.extractall(folder / "unpacked")
    running = ComfyServer(folder / "base", folder / "unpacked")
    yield running
    running.stop()


def test_registry_takes_the_pack(checkout):
    assert "All validation checks passed" in comfy(checkout, "node", "validate")


def test_archive_has_the_pack_and_nothing_of_its_development(archive):
    names = [Path(name) for name in archive.namelist()]
    roots = {name.parts[0] for name in names}
    assert {"__init__.py", "nodes", "weights", "web", "locales", "workflows", "pyproject.toml"} <= roots
    assert not roots & {"tests", "benchmarks", "development", "docs", "dev.py", ".ci", ".comfyui", ".venv"}
    assert not [name for name in names if "__pycache__" in name.parts]
    assert Path("web/docs/CascadeSampler/en.md") in names or Path("web/docs/CascadeSampler.md") in names
    assert Path(archive.filename).stat().st_size < LARGEST


def test_archive_draws_in_a_clean_comfyui(clean_server, tmp_path):
    workflow = json.loads((ROOT / "workflows" / "text_to_image.json").read_text())
    for node, name, value in (
        ("CascadeSampler", "steps_c", 2), ("CascadeSampler", "steps_b", 1),
        ("CascadeEmptyLatents", "width", 64), ("CascadeEmptyLatents", "height", 64),
    ):  # fmt: skip
        set_widget(find_node(workflow, type=node), name, value)
    path = tmp_path / "workflow.json"
    path.write_text(json.dumps(workflow))
    (picture,) = clean_server.run_workflow(path)
    assert np.asarray(picture).shape == (64, 64, 3)


def test_archive_brings_its_templates_and_help(clean_server):
    def get(path):
        with urllib.request.urlopen(clean_server.url + path, timeout=60) as answer:
            return answer.read()

    templates = json.loads(get("/workflow_templates"))[PACK]
    assert set(templates) == {path.stem for path in (ROOT / "workflows").glob("*.json")}
    assert get(f"/extensions/{PACK}/docs/CascadeSampler.md")
