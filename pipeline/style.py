"""Pictures that Stage C looks at beside its prompt, by an image adapter."""

from __future__ import annotations

import torch
from torch import Tensor

from ..adapters.image_prompt import ImageAdapter, ImageAdapterConfig, KeysValues, image_attention
from ..layers.hooks import AroundAttention


def keys_values(adapter: ImageAdapter, embeds: Tensor) -> Tensor:
    """Keys and values of pictures in every attention block, side by side.

    Args:
        adapter: on the CPU in fp32, as the graph keeps it.
        embeds: of the pictures that are seen together, ``n c_image``; zeros for no picture.

    Returns:
        ``1 m k``.

    Raises:
        ValueError: the pictures were encoded by another encoder than the adapter's.
    """
    wanted = adapter.config.c_image
    if embeds.shape[-1] != wanted:
        raise ValueError(
            f"the image adapter takes pictures of {wanted} features, and the image encoder gives "
            f"{embeds.shape[-1]}: give the image encoder that it was trained with"
        )
    found = adapter(embeds.float()[None])
    return torch.cat([part for place, _ in adapter.config.blocks for part in found[place]], dim=-1)


def attention_to(config: ImageAdapterConfig, known: Tensor, scale: float) -> AroundAttention:
    """The hook that adds attention to pictures, as ``keys_values`` gave them, with rows of a batch."""
    widths = [width for _, width in config.blocks for _ in KeysValues._fields]
    parts = known.split(widths, dim=-1)
    pairs = zip(parts[::2], parts[1::2], strict=True)
    return image_attention(
        {place: KeysValues(*pair) for (place, _), pair in zip(config.blocks, pairs, strict=True)}, scale
    )
