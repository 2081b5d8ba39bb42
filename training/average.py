"""An average of the weights over the steps of a run, which draws better than the last weights do."""

from __future__ import annotations

import copy

import torch
from torch import nn


class Average:
    """Exponential moving average of a network's parameters and, copied, its buffers.

    Early on it follows faster, with a decay of ``(1 + step) / (10 + step)``, so that the initial weights do
    not linger. Source: Polyak & Juditsky 1992; the warm-up is TensorFlow's.

    Args:
        network: the network to follow.
        decay: share of the average that stays at each step, below 1.
    """

    def __init__(self, network: nn.Module, decay: float):
        self.network = copy.deepcopy(network).eval().requires_grad_(False)
        self.decay = decay

    @torch.no_grad()
    def update(self, network: nn.Module, step: int) -> None:
        """Take the weights after step number ``step``, from 1."""
        decay = min(self.decay, (1 + step) / (10 + step))
        for mine, theirs in zip(self.network.parameters(), network.parameters(), strict=True):
            mine.lerp_(theirs, 1 - decay)
        for mine, theirs in zip(self.network.buffers(), network.buffers(), strict=True):
            mine.copy_(theirs)
