"""Where ComfyUI is, and ComfyUI as a library inside the test process."""

import importlib
import os
import sys
import tempfile
from pathlib import Path
from types import ModuleType

ROOT = Path(__file__).resolve().parents[2]


def comfy_tree() -> Path:
    """The ComfyUI folder the tests run against: ``COMFYUI_PATH``, else the one dev.py unpacked."""
    tree = Path(os.environ.get("COMFYUI_PATH") or ROOT / ".comfyui" / "ComfyUI").resolve()
    if not (tree / "main.py").is_file():
        raise AssertionError(f"There is no ComfyUI at {tree}: run python3 dev.py test")
    return tree


def comfy_library() -> ModuleType:
    """ComfyUI's own ``nodes`` module, after which ``import comfy.sd`` and the like work in this process.

    It runs on the CPU, ignores pytest's arguments and sees empty model, input and output folders of its own.
    Call nodes under ``torch.inference_mode()``, as ComfyUI does.
    """
    host = sys.modules.get("nodes")
    if host is None:
        host = _import_comfy(comfy_tree())
    if not hasattr(host, "NODE_CLASS_MAPPINGS"):
        raise AssertionError(
            f"`import nodes` gave {host.__file__}, not ComfyUI's: the checkout's root is on sys.path. "
            "Run pytest with python -P, or python3 dev.py test"
        )
    return host


def _import_comfy(tree: Path) -> ModuleType:
    sys.path.insert(0, str(tree))
    from comfy.cli_args import args

    base = Path(tempfile.mkdtemp(prefix="cascade-comfy-library-"))
    for folder in ("models", "custom_nodes", "input", "output", "temp", "user"):
        (base / folder).mkdir()
    args.cpu = True  # before comfy.model_management, which asks for a driver when it is imported
    args.base_directory = str(base)  # before folder_paths, which reads it when it is imported
    return importlib.import_module("nodes")
