"""A size for a new picture, picked by its proportions."""

from __future__ import annotations

from typing import Any

from ..latents.geometry import SMALLEST_IMAGE, STAGE_B_MULTIPLE
from ..latents.resolution import (
    ASPECTS,
    MULTIPLE,
    RELEASED,
    SMALL,
    described,
    doubts,
    size_of_area,
    size_of_side,
    trained_at,
)
from .host import io, traits
from .host.catalogue import shown

AS_TRAINED, MEGAPIXELS, LONG_SIDE = "as trained", "megapixels", "long side"
PRESETS = {
    f"{RELEASED.side} (released weights)": RELEASED,
    f"{SMALL.side} (small cascade)": SMALL,
}
"""Areas of a square of so many pixels, for those who wire no model."""


class CascadePickResolution(io.ComfyNode):
    """Width and height of a picture."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="CascadePickResolution",
            display_name="Pick Resolution (Cascade)",
            category="cascade/latent",
            search_aliases=[
                "resolution", "aspect ratio", "size", "width height", "portrait", "landscape", "megapixels",
            ],
            description="Width and height of a picture from its proportions, with the size of both stages' "
            "latents below; it says where a size is outside of what the weights were trained on.",
            inputs=[
                io.Combo.Input(
                    "aspect",
                    options=list(ASPECTS),
                    tooltip="Proportions, width first; the nearest are taken that the multiple allows.",
                ),
                io.Combo.Input(
                    "size",
                    options=[AS_TRAINED, *PRESETS, MEGAPIXELS, LONG_SIDE],
                    tooltip=f"How large: `{AS_TRAINED}` is the area that the wired Stage C was trained at, "
                    f"without one that of the released weights; `{MEGAPIXELS}` and `{LONG_SIDE}` take the "
                    "numbers below.",
                ),
                io.Float.Input(
                    "megapixels", default=1.05, min=0.01, max=64.0, step=0.01,
                    tooltip=f"Millions of pixels, where size is `{MEGAPIXELS}`; 1.05 is a square of 1024.",
                ),
                io.Int.Input(
                    "long_side", default=1024, min=SMALLEST_IMAGE, max=16384, step=STAGE_B_MULTIPLE,
                    tooltip=f"Pixels of the longer side, where size is `{LONG_SIDE}`.",
                ),
                io.Int.Input(
                    "batch_size", default=1, min=1, max=4096,
                    tooltip="Pictures to draw at once; handed on for Empty Latents (Cascade).",
                ),
                io.Int.Input(
                    "multiple", default=MULTIPLE, min=STAGE_B_MULTIPLE, max=512, step=STAGE_B_MULTIPLE,
                    optional=True, advanced=True,
                    tooltip="Both sides become multiples of it. Stage B needs 8 and likes 64; smaller ones "
                    "come closer to the proportions.",
                ),
                io.Model.Input(
                    "stage_c", optional=True,
                    tooltip="The Stage C to sample, for the size it was trained at.",
                ),
            ],
            outputs=[
                io.Int.Output(display_name="width", tooltip="Pixels, for Empty Latents (Cascade)."),
                io.Int.Output(display_name="height", tooltip="Pixels, for Empty Latents (Cascade)."),
                io.Int.Output(display_name="batch_size", tooltip="As it was set."),
                io.String.Output(display_name="text", tooltip="What is shown on the node."),
            ],
        )  # fmt: skip

    @classmethod
    def execute(
        cls, aspect: str, size: str, megapixels: float, long_side: int, batch_size: int,
        multiple: int = MULTIPLE, stage_c: Any = None,
    ) -> io.NodeOutput:  # fmt: skip
        """The size, and what there is to know of it."""
        trained = PRESETS.get(size, RELEASED) if stage_c is None else trained_at(traits(stage_c).compression)
        areas = {AS_TRAINED: trained.area, MEGAPIXELS: megapixels * 1e6}
        areas |= {name: preset.area for name, preset in PRESETS.items()}
        if size == LONG_SIDE:
            pixels = size_of_side(ASPECTS[aspect], long_side, multiple)
        else:
            pixels = size_of_area(ASPECTS[aspect], areas[size], multiple)
        text = "\n".join([described(pixels, trained.compression), *doubts(pixels, trained)])
        return io.NodeOutput(*pixels, batch_size, text, ui=shown(text))
