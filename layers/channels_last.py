"""Activations are kept ``b h w c``, so that norms and linear layers need no transposition.

A ``b h w c`` tensor seen as ``b c h w`` is exactly torch's channels-last memory format, which is also
the one in which depthwise convolutions are fastest: both views below are free.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional

LAYER_NORM_EPS = 1e-6


def to_channels_last(x: Tensor) -> Tensor:
    """``b c h w`` as ``b h w c``."""
    return x.permute(0, 2, 3, 1)


def to_channels_first(x: Tensor) -> Tensor:
    """``b h w c`` as ``b c h w``."""
    return x.permute(0, 3, 1, 2)


def on_channels_first(layer: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    """Apply a layer that wants ``b c h w`` to ``b h w c``."""
    return to_channels_last(layer(to_channels_first(x)))


def layer_norm(x: Tensor) -> Tensor:
    """Normalise the last axis; no gain and no bias, eps 1e-6 (Stability ``modules/common.py``)."""
    return functional.layer_norm(x, x.shape[-1:], eps=LAYER_NORM_EPS)


def resize(x: Tensor, height: int, width: int) -> Tensor:
    """Bilinear resize of ``b h w c`` with aligned corners; the same tensor if it fits already.

    Interpolates in fp32 for half precisions, as Stability does (``modules/stage_c.py``).
    """
    if x.shape[1:3] == (height, width):
        return x
    wide = to_channels_first(x).to(torch.promote_types(x.dtype, torch.float32))
    wide = functional.interpolate(wide, (height, width), mode="bilinear", align_corners=True)
    return to_channels_last(wide.to(x.dtype))


def averaged(x: Tensor, side: int) -> Tensor:
    """Means of squares of ``side`` cells of ``b h w c``; those at the end are of what is left."""
    return on_channels_first(lambda cells: functional.avg_pool2d(cells, side, ceil_mode=True), x)
