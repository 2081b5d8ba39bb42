"""The pictures of the help pages, drawn anew: each node wired, and what it does."""

from __future__ import annotations

import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path

from .environment import ROOT, WORK, venv_program
from .help_examples import EXAMPLES
from .help_graphs import CHECKPOINT
from .progress import Problem, Steps
from .server import Comfy, free_port

IN_CHECKPOINT = ("stage_c", "text_encoder", "semantic_encoder", "previewer")
"""Parts of the small cascade in the all-in-one file."""


def draw_all(tree: Path, step: Steps, flags: tuple[str, ...], names: Sequence[str] = ()) -> None:
    """Write wired.webp and effect.webp for each node into web/docs.

    Args:
        tree: of ComfyUI.
        step: told what is drawn.
        flags: for the server.
        names: ids of nodes; all of them without.

    Raises:
        Problem: a name is none of a node's, or a picture cannot be drawn.
    """
    unknown = sorted(set(names) - set(EXAMPLES))
    if unknown:
        raise Problem(f"There are no nodes {', '.join(unknown)}: give ids such as CascadeSampler.")
    with tempfile.TemporaryDirectory(dir=WORK, prefix="help-") as folder:
        place = Path(folder)
        _write_checkpoint(place / "checkpoints" / CHECKPOINT)
        paths = place / "paths.yaml"
        paths.write_text(f"help:\n  base_path: {place}\n  checkpoints: checkpoints\n", encoding="utf-8")
        # Temporary files of its own: another server of this checkout empties the usual place when it starts.
        own = ("--output-directory", str(place / "output"), "--temp-directory", str(place / "temp"))
        own += ("--extra-model-paths-config", str(paths))
        with Comfy(tree, free_port(), step, (*flags, *own)) as comfy:
            _run("comfyui_cascade.development.help_pictures", comfy.url, *names)


def _write_checkpoint(path: Path) -> None:
    path.parent.mkdir(parents=True)
    parts = [str(ROOT / "weights" / f"{part}.safetensors") for part in IN_CHECKPOINT]
    _run("comfyui_cascade", "convert", "--layout", "comfyui", *parts, str(path))


def _run(module: str, *arguments: str) -> None:
    command = [venv_program("python"), "-P", "-m", module, *arguments]
    if subprocess.run(command).returncode:
        raise Problem(f"{module} could not do its part of the help pages' pictures: it says why above.")
