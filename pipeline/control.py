"""ControlNets on Stage C, and the hints that they follow."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ..adapters.controlnet import ControlNet
from ..adapters.hints import canny_hint, inpaint_hint, super_resolution_hint
from ..adapters.steering import Residuals, block_widths, check_steering, fitted, run_in, serves

LARGER = 2
"""How much larger super-resolution draws a picture, along a side."""

INPAINTING, SUPER_RESOLUTION = "inpainting", "super-resolution"


@dataclass(frozen=True)
class Control:
    """A ControlNet with what it follows, from the first step to the last, everywhere and for both prompts.

    ``Cascade.control`` makes one of a picture; a hint that is there already goes in here as it is.

    Attributes:
        network: the ControlNet.
        hint: ``1 c h w``, or ``b c h w`` with one for each picture that is drawn. It is scaled to Stage C's
            cells, and cut at its longer sides where its shape is another.
        strength: of what it adds; 1 is as trained, 0 nothing.
        size: of the pictures that the hint asks for, ``(w, h)``; None for any.

    Raises:
        ValueError: the hint is no picture, or none of the ControlNet's kind.
    """

    network: ControlNet
    hint: Tensor
    strength: float = 1.0
    size: tuple[int, int] | None = None

    def __post_init__(self):
        wanted, given = self.network.config.backbone.c_in, self.hint.shape[1] if self.hint.ndim == 4 else 0
        if not serves(given, wanted):
            what = f"has {given} channels" if given else f"is of the shape {tuple(self.hint.shape)}"
            raise ValueError(
                f"{name_of(self.network)} follows a hint of {wanted} channels, b {wanted} h w, and the one "
                f"that was given {what}: let it be made of a picture, by --control-image or Cascade.control"
            )

    def residuals(self, cells: tuple[int, int], device: torch.device, dtype: torch.dtype) -> Residuals:
        """What it adds inside a Stage C whose latents have so many rows and columns, fp32."""
        hint = fitted(self.hint.float(), self.network.config.backbone, *cells).to(device, dtype)
        found = run_in(self.network, hint)
        return [None if one is None else (one * self.strength).float() for one in found]


def name_of(network: ControlNet) -> str:
    """What sentences call a ControlNet."""
    return f"the ControlNet ({network.config.kind})"


def follow(
    network: ControlNet,
    picture: Tensor,
    strength: float,
    mask: Tensor | None,
    encode: Callable[[Tensor], Tensor],
) -> Control:
    """A ControlNet that follows a picture; see ``Cascade.control``.

    Args:
        network, picture, strength, mask: see there.
        encode: a small picture as Stage C's latents.
    """
    kind, size = network.config.kind, None
    _check_hole(kind, picture, mask)
    match kind:
        case "canny":
            hint = canny_hint(picture).expand(-1, 3, -1, -1)  # the grey of three is not one, to the last bit
        case "inpainting":
            hint = inpaint_hint(picture, mask[:, None])
        case "super-resolution":
            hint = super_resolution_hint(encode(picture), LARGER)
            size = (picture.shape[-1] * LARGER, picture.shape[-2] * LARGER)
        case "identity":
            raise ValueError(
                f"{name_of(network)} follows faces, which only ComfyUI's graph finds: draw there, with "
                "Detect Faces and Hint Identity (Cascade)"
            )
        case _:
            hint = picture
    return Control(network, hint, strength, size)


def _check_hole(kind: str, picture: Tensor, mask: Tensor | None) -> None:
    if kind == INPAINTING and mask is None:
        raise ValueError(
            "an inpainting ControlNet fills a hole, and no mask says where: give one that is white in the "
            "hole, by --control-mask or mask"
        )
    if kind != INPAINTING and mask is not None:
        raise ValueError(
            f"a mask is the hole of an inpainting ControlNet, and this one is of another kind ({kind}): "
            "leave the mask out"
        )
    if mask is not None and mask.shape[-2:] != picture.shape[-2:]:
        raise ValueError(
            f"the ControlNet's picture is {picture.shape[-1]}x{picture.shape[-2]} pixels and its mask "
            f"{mask.shape[-1]}x{mask.shape[-2]}: make the mask on the picture"
        )


def together(
    controls: Sequence[Control],
    stage_c: nn.Module,
    cells: tuple[int, int],
    device: torch.device,
    dtype: torch.dtype,
) -> Residuals:
    """What ControlNets add inside a Stage C, summed.

    Args:
        controls: each with a hint of one row, or of one for each picture.
        stage_c: that they steer.
        cells: rows and columns of its latents.
        device: of the Stage C.
        dtype: in which the ControlNets compute.

    Raises:
        ValueError: one was made for another Stage C.
    """
    acting = [control for control in controls if control.strength]
    widths = block_widths(stage_c)
    total: Residuals = [None] * len(widths)
    for control in acting:
        check_steering(control.network.config, widths, name_of(control.network))
        for place, one in enumerate(control.residuals(cells, device, dtype)):
            if one is not None:
                before = total[place]
                total[place] = one if before is None else before + one
    return total if acting else []


def for_rows(residuals: Residuals, rows: int) -> Residuals:
    """Residuals for a batch in which each prompt has all the pictures."""
    return [
        one if one is None or len(one) == 1 else one.repeat(rows // len(one), 1, 1, 1) for one in residuals
    ]
