"""A ControlNet at work: the hint as its backbone takes it, and what comes of it for one Stage C."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional

from .controlnet import Backbone, ControlNetConfig, EfficientNetBackbone

Residuals = list[Tensor | None]
"""What is added before each residual block of Stage C, in running order; None for nothing."""


def block_widths(network: nn.Module) -> tuple[int, ...]:
    """Width of each residual block of a Stage C, ours or the host's own, in the order in which they run."""
    widths: list[int] = []
    for side in ("down", "up"):
        levels, repeats = (getattr(network, f"{side}_{what}") for what in ("blocks", "repeat_mappers"))
        for blocks, mappers in zip(levels, repeats, strict=True):
            level = [block.depthwise.out_channels for block in blocks if hasattr(block, "depthwise")]
            widths += level * (len(mappers) + 1)
    return tuple(widths)


def check_steering(config: ControlNetConfig, widths: Sequence[int], name: str) -> None:
    """Make sure that a ControlNet was made for a Stage C.

    Args:
        config: of the ControlNet.
        widths: of the Stage C's residual blocks.
        name: what the sentence calls the ControlNet.

    Raises:
        ValueError: it was not; the sentence says for which it was.
    """
    beyond = [block for block in config.blocks if block >= len(widths)]
    if beyond:
        raise ValueError(
            f"{name} feeds residual block {beyond[0]}, and this Stage C has {len(widths)}: it was made for "
            "a larger one, such as the released one of 64; load that Stage C, or say which blocks it feeds"
        )
    wrong = [block for block in config.blocks if widths[block] != config.c_proj]
    if wrong:
        raise ValueError(
            f"{name} was made for a Stage C of width {config.c_proj}, and residual block {wrong[0]} of this "
            f"one has {widths[wrong[0]]}: load the Stage C that it belongs to (2048 is the released 3.6B)"
        )


def serves(given: int, wanted: int) -> bool:
    """Whether a hint of so many channels serves a backbone of so many; of a picture the first ones may."""
    return given == wanted or (wanted in (1, 3) and given in (1, 3, 4) and wanted <= given)


def fitted(hint: Tensor, backbone: Backbone, rows: int, columns: int) -> Tensor:
    """A hint in a backbone's channels, at the size from which it makes so many cells.

    It is cut in the middle to their shape. Of a picture a backbone of one channel sees the grey.

    Args:
        hint: ``b c h w`` of any size, with channels that serve.
        backbone: that will see it.
        rows, columns: of Stage C's latents.

    Source: ComfyUI ``comfy/utils.py``, ``common_upscale``, as its ControlNets use it. Latents keep their
    values: each cell of them is one of the hint's.
    """
    if backbone.c_in == 1:
        hint = hint[:, :3].mean(dim=1, keepdim=True)
    hint = hint[:, : backbone.c_in]
    height, width = rows * backbone.downscale, columns * backbone.downscale
    given, wanted = hint.shape[-1] / hint.shape[-2], width / height
    left = round(hint.shape[-1] * (1 - wanted / given) / 2) if given > wanted else 0
    top = round(hint.shape[-2] * (1 - given / wanted) / 2) if given < wanted else 0
    cut = hint[..., top : hint.shape[-2] - top, left : hint.shape[-1] - left]
    mode = "bilinear" if isinstance(backbone, EfficientNetBackbone) else "nearest-exact"
    return functional.interpolate(cut, (height, width), mode=mode)


def run_in(network: nn.Module, hint: Tensor) -> Residuals:
    """A network on a hint, computed where and as precisely as the hint is.

    Its own weights stay as they are: models of two precisions may use it in turn.
    """
    tensors = network.state_dict()
    moved = {
        name: value.to(hint.device, hint.dtype if value.is_floating_point() else value.dtype)
        for name, value in tensors.items()
    }
    return functional_call(network, moved, (hint,))
