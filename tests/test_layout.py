"""The import table of the package, read from every file, and the list of packages that is installed."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).resolve().parent.parent
OUTSIDE = {"tests", "benchmarks", "build", "development", "dist", "docs", "typings", "workflows"}

STAGES = {"stage_a", "stage_b", "stage_c"}
BELOW_NODES = STAGES | {
    "adapters", "checkpoints", "conditioning", "latents", "layers", "samplers", "weights",
}  # fmt: skip
MAY_IMPORT = {  # package: those of ours it may import besides itself
    "layers": set(),
    "samplers": set(),
    "latents": set(),
    "weights": set(),
    "stage_a": {"layers"},
    "stage_b": {"layers"},
    "stage_c": {"layers"},
    "conditioning": {"layers"},
    "adapters": STAGES | {"checkpoints", "conditioning", "latents", "layers"},
    "checkpoints": STAGES | {"conditioning", "layers"},
    "pipeline": BELOW_NODES | {"training"},
    "cli": {"checkpoints", "latents", "pipeline"},
    "training": BELOW_NODES,
    "nodes": BELOW_NODES | {"training"},
}
TORCH_ONLY = {"layers", "samplers", "latents"}
TORCH_ONLY_IMPORTS = {"torch", "einops", *sys.stdlib_module_names}
HOST = {
    "app", "comfy", "comfy_api", "comfy_execution", "comfy_extras", "comfyui_version", "execution",
    "folder_paths", "latent_preview", "node_helpers", "nodes", "server",
}  # fmt: skip


def packages():
    """Names below the root, with dots: ``["checkpoints", …, "nodes", "nodes.host", …]``."""
    places = (file.parent.relative_to(ROOT).parts for file in ROOT.glob("[a-z]*/**/__init__.py"))
    return sorted(".".join(parts) for parts in places if parts[0] not in OUTSIDE)


def sources():
    folders = (ROOT.joinpath(*name.split(".")) for name in packages())
    return [ROOT / "__init__.py", *(file for folder in folders for file in sorted(folder.glob("*.py")))]


def imports(file):
    """Every import of a file, wherever in it: ``("host", "comfy.sd")`` or ``("ours", "layers.ops")``."""
    package = file.relative_to(ROOT).parent.parts
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (("other", alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and not node.level:
            yield "other", node.module
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) + 1 - node.level]
            if node.module or base:
                yield "ours", ".".join([*base, *filter(None, [node.module])])
            else:  # from .. import layers, stage_c
                yield from (("ours", alias.name) for alias in node.names if alias.name != "__version__")


def test_pyproject_lists_the_packages_on_disk():
    listed = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["packages"]
    assert listed == ["comfyui_cascade", *(f"comfyui_cascade.{name}" for name in packages())]


def test_import_table_covers_every_package():
    assert {name.partition(".")[0] for name in packages()} <= set(MAY_IMPORT)


@pytest.mark.parametrize("file", sources(), ids=lambda file: str(file.relative_to(ROOT)))
def test_file_imports_what_its_package_may(file):
    place = file.relative_to(ROOT)
    package = place.parts[0] if len(place.parts) > 1 else None
    wrong = []
    for kind, name in imports(file):
        top = name.partition(".")[0]
        if kind == "ours" and package and top != package and top not in MAY_IMPORT[package]:
            wrong.append(f"{name}: {package} may import {sorted(MAY_IMPORT[package]) or 'nothing of ours'}")
        elif kind == "other" and top == "comfyui_cascade":
            wrong.append(f"{name}: package code imports its neighbours relatively")
        elif kind == "other" and top in HOST and place.parent != Path("nodes/host"):
            wrong.append(f"{name}: only nodes/host imports ComfyUI")
        elif kind == "other" and package in TORCH_ONLY and top not in TORCH_ONLY_IMPORTS:
            wrong.append(f"{name}: {package} imports torch and einops only")
    assert not wrong, f"{place} imports {wrong}"


def test_importing_the_root_imports_no_torch_and_no_host():
    code = f"""
import importlib.util, sys
before = set(sys.modules)
spec = importlib.util.spec_from_file_location("pack", {str(ROOT / "__init__.py")!r})
module = importlib.util.module_from_spec(spec)
spec.loader.exec_module(module)
print(*sorted(set(sys.modules) - before))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []


def test_root_has_no_python_besides_the_package_and_dev():
    assert {file.name for file in ROOT.glob("*.py")} == {"__init__.py", "__main__.py", "dev.py"}
