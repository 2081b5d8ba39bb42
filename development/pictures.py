"""Every picture that README.md and the template browser show, drawn anew by the cascade that ships."""

from __future__ import annotations

import copy
import json
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from .environment import ROOT, WORK, venv_program
from .progress import Steps
from .server import Comfy
from .workflow import find_node, find_nodes, set_widget

PROMPTS = (
    "a red boat on the sea at sunset",
    "a blue house on the snow at night",
    "three yellow flowers on the grass by day",
    "a black cat on the sand by day on the left",
    "two pink balloons over the grass at sunset",
    "a green tree on the snow by day on the right",
    "an orange star over the sea at night",
    "a white car on the sand at sunset",
)
"""What README.md shows, as it comes with ``SEED``."""

SEED = 1
NOT_RUN = ("text_to_image_official", "text_to_image_checkpoint", "identity")
"""Workflows whose weights do not ship; ``cards.py`` draws what stands for them."""


def draw_all(comfy: Comfy, step: Steps) -> None:
    """Write docs/prompts and a thumbnail beside each workflow.

    Args:
        comfy: a running server.
        step: told what is drawn.
    """
    workflows = ROOT / "workflows"
    text_to_image = json.loads((workflows / "text_to_image.json").read_text(encoding="utf-8"))
    for number, prompt in enumerate(PROMPTS, 1):
        step(f"Draw {prompt}")
        (ROOT / "docs" / "prompts" / f"{number}.png").write_bytes(
            comfy.draw(with_prompt(text_to_image, prompt, SEED))[-1]
        )
    for path in sorted(workflows.glob("*.json")):
        if path.stem not in NOT_RUN:
            step(f"Run {path.name}")
            workflow = json.loads(path.read_text(encoding="utf-8"))
            _write_thumbnail(path.with_suffix(".jpg"), _first(workflow), comfy.draw(workflow))
    _in_venv("cards.py", workflows)


def with_prompt(workflow: dict[str, Any], prompt: str, seed: int) -> dict[str, Any]:
    """A copy of a workflow that draws something else."""
    changed = copy.deepcopy(workflow)
    set_widget(find_node(changed, title="Prompt"), "text", prompt)
    set_widget(find_node(changed, type="CascadeSampler"), "seed", seed)
    return changed


def _first(workflow: dict[str, Any]) -> Path | None:
    """The picture that a workflow starts from."""
    for node in find_nodes(workflow, type="CascadeExamplePicture"):
        return ROOT / "pictures" / f"{node['widgets_values'][0]}.png"
    return None


def _write_thumbnail(path: Path, begins_from: Path | None, pictures: Sequence[bytes]) -> None:
    first = ["--begins-from", begins_from] if begins_from else []
    with tempfile.TemporaryDirectory(dir=WORK, prefix="thumbnail-") as folder:
        drawn = [Path(folder) / f"{number}.png" for number in range(len(pictures))]
        for place, picture in zip(drawn, pictures, strict=True):
            place.write_bytes(picture)
        _in_venv("thumbnail.py", path, *first, "--drawn", *drawn)


def _in_venv(script: str, *arguments: str | Path) -> None:
    """Run a script beside this one in .venv, where Pillow is."""
    command = [venv_program("python"), Path(__file__).with_name(script), *arguments]
    subprocess.run(command, check=True)
