"""Pictures made to fit, and the parts of them that are drawn anew."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ..latents.fit import FILLS, PLACES, WAYS, apply, margin, plan
from ..latents.geometry import STAGE_B_MULTIPLE
from ..latents.mask import feathered, over_cells
from . import check
from .host import io, say
from .host.catalogue import shown

LARGEST_SIDE = 16384


def _side(name: str, other: str) -> Any:
    return io.Int.Input(
        name,
        default=0,
        min=0,
        max=LARGEST_SIDE,
        step=8,
        tooltip=f"Pixels of the result; 0 follows from {other} and the picture's proportions, and 0 in both "
        "keeps the picture's scale.",
    )


class CascadeFitImage(io.ComfyNode):
    """A picture of a size that latents can have."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="CascadeFitImage",
            display_name="Fit Image (Cascade)",
            category="cascade/latent",
            search_aliases=["resize", "crop", "pad", "outpaint", "extend canvas", "snap size"],
            description="Cuts, fills or stretches a picture of any proportions to a size that suits the "
            "latents of both stages, and says what it did. What it fills comes out as a mask, to draw it.",
            inputs=[
                io.Image.Input("image", tooltip="Of any size."),
                io.Combo.Input(
                    "way",
                    options=list(WAYS),
                    tooltip="`crop` scales the picture to cover the result and cuts the rest off, `pad` "
                    "scales it to fit inside and fills the rest, `stretch` changes its proportions, `canvas` "
                    "leaves its scale and cuts or fills around it.",
                ),
                _side("width", "height"),
                _side("height", "width"),
                io.Combo.Input(
                    "place",
                    options=list(PLACES),
                    tooltip="The side of the picture that stays when it is cut, or where it lies when the "
                    "rest is filled.",
                ),
                io.Int.Input(
                    "multiple",
                    default=64,
                    min=STAGE_B_MULTIPLE,
                    max=512,
                    step=STAGE_B_MULTIPLE,
                    advanced=True,
                    tooltip="Both sides become multiples of it. Stage B needs 8 and likes 64; with 128 the "
                    "released Stage C gets whole cells, and the small one with 64.",
                ),
                io.Combo.Input(
                    "fill",
                    options=list(FILLS),
                    tooltip="`edge` goes on with the colours at the border, which leaves no line for the "
                    "encoders to see; `grey` fills evenly.",
                ),
                io.Mask.Input(
                    "mask",
                    optional=True,
                    tooltip="A mask of the picture, of any size, to be brought along.",
                ),
            ],
            outputs=[
                io.Image.Output(display_name="image", tooltip="The picture in its new size."),
                io.Mask.Output(
                    display_name="mask", tooltip="What was filled, and what the given mask covers: 1 there."
                ),
                io.Int.Output(display_name="width", tooltip="Of the result."),
                io.Int.Output(display_name="height", tooltip="Of the result."),
                io.String.Output(display_name="text", tooltip="What was done, also shown on the node."),
            ],
        )

    @classmethod
    def execute(
        cls,
        image: Tensor,
        way: str,
        width: int,
        height: int,
        place: str,
        multiple: int,
        fill: str,
        mask: Tensor | None = None,
    ) -> io.NodeOutput:
        """The picture, its mask, its size, and what was done in words."""
        given = (image.shape[2], image.shape[1])
        fit = plan(given, (width, height), way, place, multiple)
        fitted = apply(fit, image.movedim(-1, 1), fill).movedim(1, -1)
        covered = margin(fit)
        if mask is not None:
            check.tell_proportions(mask, given, "the picture", say)
            covers = torch.nn.functional.interpolate(mask.reshape(-1, 1, *mask.shape[-2:]), given[::-1])
            covered = apply(fit, covers, fill)[:, 0].where(covered == 0, 1.0)
        return io.NodeOutput(fitted, covered, *fit.size, str(fit), ui=shown(str(fit)))


class CascadeMaskLatents(io.ComfyNode):
    """Masks for the latents of both stages."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="CascadeMaskLatents",
            display_name="Mask Latents (Cascade)",
            category="cascade/latent",
            search_aliases=["inpaint", "noise mask", "SetLatentNoiseMask", "feather", "outpaint"],
            description="Tells both stages which part of a picture to draw anew. A cell of either stage is "
            "drawn anew if the mask touches it; Stage C's are some forty pixels wide, so that a mask set on "
            "its latents alone would miss what is smaller.",
            inputs=[
                io.Latent.Input("stage_c", tooltip="Stage C's latents of the picture, of Encode Image."),
                io.Latent.Input(
                    "stage_b",
                    tooltip="Stage B's latents of the picture, of Encode Image with a Stage A; empty ones "
                    "hold nothing to keep and get no mask.",
                ),
                io.Mask.Input(
                    "mask",
                    tooltip="1 where the picture is drawn anew, of any size. Values between draw it partly; "
                    "with ComfyUI's Differential Diffusion they say how much.",
                ),
                io.Int.Input(
                    "feather",
                    default=0,
                    min=0,
                    max=1024,
                    tooltip="Pixels of the mask over which it falls off outside of what it covers.",
                ),
            ],
            outputs=[
                io.Latent.Output(display_name="stage_c", tooltip="With its mask, for Stage C's sampler."),
                io.Latent.Output(display_name="stage_b", tooltip="With its mask, for Stage B's sampler."),
                io.Mask.Output(
                    display_name="mask",
                    tooltip="The feathered mask, for Image Composite Masked: it puts the kept pixels back "
                    "exactly.",
                ),
            ],
        )

    @classmethod
    def execute(
        cls, stage_c: dict[str, Any], stage_b: dict[str, Any], mask: Tensor, feather: int
    ) -> io.NodeOutput:
        """Both latents with the mask over their cells, and the mask."""
        check.latent_channels(stage_c["samples"], check.STAGE_C_CHANNELS, "Stage C")
        check.latent_channels(stage_b["samples"], check.STAGE_AB_CHANNELS, "Stage B")
        check.same_picture(stage_b["samples"], stage_c["samples"])
        soft = feathered(mask.reshape(-1, *mask.shape[-2:]).float(), feather)
        cells = stage_b["samples"].shape
        check.tell_proportions(soft, (cells[3], cells[2]), "the latents", say)
        if stage_b["samples"].any():
            stage_b = _masked(stage_b, soft)
        else:
            say(
                "Stage B's latents are empty, so Stage B draws the whole picture from Stage C's; to keep the "
                "pixels outside of the mask, wire Load Stage A (Cascade) into Encode Image (Cascade)"
            )
        return io.NodeOutput(_masked(stage_c, soft), stage_b, soft)


def _masked(latents: dict[str, Any], mask: Tensor) -> dict[str, Any]:
    return latents | {"noise_mask": over_cells(mask, *latents["samples"].shape[-2:])}
