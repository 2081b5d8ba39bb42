"""Random numbers that belong to examples, not to batches.

Every example that a run sees has a position: the first of the run is 0. Its noise, its time, its dropped
caption and its crop come from the run's seed and that position alone, so that a resumed run, a batch in
several parts and several processes draw the same numbers.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Sequence

import torch
from torch import Tensor


def seed_of(*parts: int | str) -> int:
    """63 bits that depend on every part."""
    text = "/".join(map(str, parts)).encode()
    return int.from_bytes(hashlib.blake2b(text, digest_size=8).digest(), "little") >> 1


def random_of(*parts: int | str) -> random.Random:
    """Python's source of randomness, seeded by every part."""
    return random.Random(seed_of(*parts))


class Draws:
    """A source of random tensors for a batch, one row for each example.

    Args:
        seed: of the run.
        positions: of the examples in it.
        device: where the tensors go. They are drawn on the CPU, so that a seed means the same everywhere.
    """

    def __init__(self, seed: int, positions: Sequence[int], device: torch.device | str = "cpu"):
        self.positions = tuple(positions)
        self.device = device
        self._generators = [torch.Generator().manual_seed(seed_of(seed, place)) for place in positions]

    def __len__(self) -> int:
        return len(self._generators)

    def normal(self, *shape: int) -> Tensor:
        """Normal numbers, ``b *shape``."""
        return torch.stack([torch.randn(shape, generator=g) for g in self._generators]).to(self.device)

    def uniform(self, *shape: int) -> Tensor:
        """Numbers from [0, 1), ``b *shape``."""
        return torch.stack([torch.rand(shape, generator=g) for g in self._generators]).to(self.device)

    def keep(self, dropped: float, dimensions: int) -> Tensor:
        """1 for each example kept, 0 for a share ``dropped``; ``b 1 1 …`` of so many dimensions."""
        return (self.uniform(*[1] * (dimensions - 1)) >= dropped).float()
