"""The examples in docstrings give what they say."""

import doctest
import importlib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent


def modules_with_examples():
    files = [*ROOT.glob("[a-z]*/**/*.py"), ROOT / "__init__.py"]
    files = [
        file
        for file in files
        if file.relative_to(ROOT).parts[0] not in ("tests", "benchmarks", "build", "development")
    ]
    for file in sorted(f for f in files if ">>> " in f.read_text(encoding="utf-8")):
        place = file.relative_to(ROOT).with_suffix("")
        yield ".".join(["comfyui_cascade", *(part for part in place.parts if part != "__init__")])


@pytest.mark.parametrize("name", [*modules_with_examples(), "comfy_graph"])
def test_examples_hold(name):
    found = doctest.testmod(importlib.import_module(name), optionflags=doctest.ELLIPSIS)
    assert found.attempted
    assert not found.failed
