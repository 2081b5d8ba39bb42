"""The wide maps inside MLPs, which have four times the channels of what goes in and take most of the memory.

These functions give what plain ones give, and differ in how often a wide map is written to memory.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional

CACHED_VALUES = 2**22
"""Wide values to a strip on a CPU, 16 MB in fp32: of 2^20 to 2^22 the fastest for Stage A."""

HELD_VALUES = 2**28
"""The same elsewhere, to save memory alone: the products are as large as any."""


def spare(x: Tensor) -> Tensor | None:
    """Where the next value may go when ``x`` is needed no more: over it, unless gradients are recorded."""
    return None if torch.is_grad_enabled() else x


def gelu(x: Tensor) -> Tensor:
    """GELU of a value that nothing else holds, over it where it can be."""
    return functional.gelu(x) if spare(x) is None else torch.ops.aten.gelu_(x)


def by_strips(layer: Callable[[Tensor], Tensor], x: Tensor, width: int) -> Tensor:
    """Apply a layer to some rows of the map at a time, so that few wide values exist at once.

    On a CPU they stay in its caches, which pays where the layer's weights are small beside the map. While
    torch compiles, the layer gets the whole map: it joins the steps by itself. Strips have the same height
    for any batch, so that a picture is computed alike in all.

    Args:
        layer: treats each cell by itself.
        x: ``b h w c``.
        width: channels inside the layer.
    """
    height, most = x.shape[1], CACHED_VALUES if x.device.type == "cpu" else HELD_VALUES
    count = -(-height * x.shape[2] * width // most)
    if torch.compiler.is_compiling() or count <= 1:
        return layer(x)
    return torch.cat([layer(strip) for strip in x.split(-(-height // count), dim=1)], dim=1)
