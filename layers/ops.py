"""The layer classes a network is built from, passed in as one value.

ComfyUI casts, streams and quantises weights inside its own layer classes. A network that asks an
``Operations`` for its layers gets all of that without importing ComfyUI.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from einops import rearrange
from torch import Tensor, nn
from torch.nn import functional

Attention = Callable[[Tensor, Tensor, Tensor, int], Tensor]


def scaled_dot_product(q: Tensor, k: Tensor, v: Tensor, heads: int) -> Tensor:
    """Multi-head attention, scale 1/sqrt(head width), no mask.

    Args:
        q: ``b n c``.
        k, v: ``b m c``.
        heads: number of heads, a divisor of c.

    Returns:
        ``b n c``.
    """
    q, k, v = (rearrange(x, "b n (h d) -> b h n d", h=heads) for x in (q, k, v))
    return rearrange(functional.scaled_dot_product_attention(q, k, v), "b h n d -> b n (h d)")


@dataclass(frozen=True)
class Operations:
    """Factories for the layers of a network; the host binds device and dtype into its own.

    ``zeros`` makes bare parameters (the gains of the response norm), which no layer class covers.
    """

    Linear: Callable[..., nn.Module] = nn.Linear
    Conv2d: Callable[..., nn.Module] = nn.Conv2d
    ConvTranspose2d: Callable[..., nn.Module] = nn.ConvTranspose2d
    Embedding: Callable[..., nn.Module] = nn.Embedding
    zeros: Callable[..., Tensor] = torch.zeros
    attention: Attention = scaled_dot_product


TORCH = Operations()
