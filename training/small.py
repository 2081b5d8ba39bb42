"""The small cascade: its runs in the order in which they need each other, and the files that ship."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import torch

from ..checkpoints.header import read_header
from ..checkpoints.identify import Part
from ..checkpoints.layout import Layout
from ..checkpoints.open import read_all, read_weights
from ..checkpoints.save import save, save_tensors
from .loop import Run, train
from .parts import task_of
from .settings import read_settings

RECIPES = Path(__file__).with_name("recipes") / "small"

ORDER = ("stage_a", "semantic_encoder", "text_encoder", "image_encoder", "stage_b", "stage_c")
"""Every run needs those before it. The previewer comes with the semantic encoder."""

CONTROLNETS = ("controlnet_canny", "controlnet_inpaint", "controlnet_super_resolution")
"""Runs of the ControlNets, which need all of the above."""

STAGES = {
    "a": ("stage_a",),
    "semantic": ("semantic_encoder",),
    "text": ("text_encoder",),
    "image": ("image_encoder",),
    "b": ("stage_b",),
    "c": ("stage_c",),
    "previewer": ("previewer",),
    "lcm": ("lcm",),
    "lora_lcm": ("lora_lcm",),
    "image_adapter": ("image_adapter",),
    "lora": ("lora_cyanotype",),
    **{name: (name,) for name in CONTROLNETS},
    "all": ORDER,
}
"""Runs by the names that the command line gives them."""

SHIPPED = {
    Part.STAGE_A: ("stage_a",),
    Part.SEMANTIC_ENCODER: ("semantic_encoder",),
    Part.PREVIEWER: ("previewer", "semantic_encoder"),
    Part.TEXT_ENCODER: ("text_encoder",),
    Part.IMAGE_ENCODER: ("image_encoder",),
    Part.STAGE_B: ("stage_b",),
    Part.STAGE_C: ("stage_c",),
}
"""The runs that write each part's file; the first that is there counts."""


def train_small(
    names: Sequence[str], base: Path, minutes: float | None, device: str, say: Callable[[str], None]
) -> None:
    """Train parts of the small cascade one after the other, or go on with them.

    Args:
        names: of recipes.
        base: folder of the runs, which get a folder each in it, and of their cache.
        minutes: of training in all, after which everything stops, to go on another time; None for no end.
        device: see ``Run``.
        say: takes lines for the person who waits.
    """
    for name in names:
        settings = read_settings(RECIPES / f"{name}.toml")
        done = train(Run(settings, base, base / name, minutes, device, say), task_of(settings.part))
        if minutes is not None:
            minutes -= done.minutes
        if not done.finished:
            say(f"{name}: stopped at step {done.step} of {settings.schedule.steps}; the same command goes on")
            return


def _export_adapter(source: Path, folder: Path) -> None:
    """Write a LoRA, a ControlNet or an image adapter in bf16, as it ships; whole numbers stay as they are."""
    header = read_header(source)
    tensors = {
        name: tensor.bfloat16() if tensor.is_floating_point() else tensor
        for name, tensor in read_all(header).items()
    }
    save_tensors(folder / source.name, tensors, header.metadata)


def export(base: Path, folder: Path) -> dict[Part, int]:
    """Write the files that ship, in bf16, from those that the runs have written.

    LoRAs, ControlNets and the image adapter are written beside them.

    Returns:
        Bytes of the file of each part.
    """
    sizes = {}
    folder.mkdir(parents=True, exist_ok=True)
    for part, runs in SHIPPED.items():
        written = (base / run / f"{part.value}.safetensors" for run in runs)
        source = next((file for file in written if file.exists()), None)
        if source is None:
            continue
        header = read_header(source)
        path = folder / source.name
        weights = read_weights(part, header)
        save(path, part, weights, layout=Layout.STABILITY, dtype=torch.bfloat16, metadata=header.metadata)
        sizes[part] = path.stat().st_size
    names = (
        "lora_*/lora_*.safetensors",
        "controlnet_*/controlnet_*.safetensors",
        "image_adapter/image_adapter.safetensors",
    )
    for source in sorted(path for name in names for path in base.glob(name)):
        _export_adapter(source, folder)
    return sizes
