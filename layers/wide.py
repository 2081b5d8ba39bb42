"""The wide maps inside MLPs, which have four times the channels of what goes in and take most of the memory.

These functions give what plain ones give, and differ in how often a wide map is written to memory.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional

CACHED_VALUES = 2**22
"""Wide values to a strip, 16 MB in fp32: the best of 2^19 to 2^22 for Stage A, whose weights are 2 MB."""


def spare(x: Tensor) -> Tensor | None:
    """Where the next value may go when ``x`` is needed no more: over it, unless gradients are recorded."""
    return None if torch.is_grad_enabled() else x


def gelu(x: Tensor) -> Tensor:
    """GELU of a value that nothing else holds, over it where it can be."""
    return functional.gelu(x) if spare(x) is None else torch.ops.aten.gelu_(x)


def by_strips(layer: Callable[[Tensor], Tensor], x: Tensor, width: int) -> Tensor:
    """Apply a layer to some rows of the map at a time, so that their wide values stay in the caches of a CPU.

    That pays where the layer's weights are small beside the map. A GPU wants few large products, and torch
    joins the steps by itself when it compiles. Strips have the same height for any batch, so that a picture
    is computed alike in all.

    Args:
        layer: treats each cell by itself.
        x: ``b h w c``.
        width: channels inside the layer.
    """
    height = x.shape[1]
    count = -(-height * x.shape[2] * width // CACHED_VALUES)
    if x.device.type != "cpu" or torch.compiler.is_compiling() or count <= 1:
        return layer(x)
    return torch.cat([layer(strip) for strip in x.split(-(-height // count), dim=1)], dim=1)
