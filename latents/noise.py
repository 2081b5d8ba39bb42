"""Noise that belongs to pictures, not to batches.

Picture i of a batch gets the noise of seed + i, whatever the size of the batch and the device: numbers are
drawn on the CPU, one picture at a time.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

SEEDS = 1 << 64
"""Seeds count from 0 and begin again here."""

_STEPS_APART = 0x9E3779B97F4A7C15
"""Added to seeds for the noise of steps, which is apart from the first noise of pictures then."""


def generators(seed: int, pictures: Sequence[int]) -> list[torch.Generator]:
    """A source of noise for each picture, of seed + its number."""
    return [torch.Generator().manual_seed((seed + picture) % SEEDS) for picture in pictures]


def drawn(sources: Sequence[torch.Generator], like: Tensor) -> Tensor:
    """Unit noise in the shape of ``b …`` latents, fp32 on their device, a picture from each source."""
    rows = [torch.randn(like.shape[1:], generator=source) for source in sources]
    return torch.stack(rows).to(like.device)


def picture_noise(like: Tensor, seed: int, pictures: Sequence[int] | None = None) -> Tensor:
    """Unit noise for latents ``b …``: row i is the noise of seed + i.

    Args:
        like: the latents.
        seed: of the first picture.
        pictures: numbers of the rows, where they are not 0, 1, 2, ….
    """
    return drawn(generators(seed, range(len(like)) if pictures is None else pictures), like)


class StepNoise:
    """Fresh noise of a sampling run: at each call new numbers, for each picture from a source of its own."""

    def __init__(self, like: Tensor, seed: int):
        self.like = like
        self.sources = generators(seed + _STEPS_APART, range(len(like)))

    def __call__(self) -> Tensor:
        return drawn(self.sources, self.like)
