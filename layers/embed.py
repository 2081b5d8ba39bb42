"""Embedding of scalars in [0, 1], such as the noise level a network is told."""

from __future__ import annotations

import math

import torch
from torch import Tensor

MAX_POSITIONS = 10_000


def scalar_embedding(r: Tensor, width: int) -> Tensor:
    """Sines and cosines of a scalar at ``width // 2`` frequencies.

    The frequencies are computed in fp32 whatever the precision of the network: the phase reaches
    10,000 rad, where fp64 or bf16 frequencies move the output visibly.

    Args:
        r: ``b``, in [0, 1].
        width: number of features; an odd one is padded with a zero.

    Returns:
        ``b width``, fp32: first the sines, then the cosines.

    Source: Stability ``modules/stage_c.py``, ``gen_r_embedding``.
    """
    half = width // 2
    steps = torch.arange(half, device=r.device, dtype=torch.float32)
    frequencies = steps.mul(-math.log(MAX_POSITIONS) / (half - 1)).exp()
    phase = (r.float() * MAX_POSITIONS)[:, None] * frequencies[None, :]
    embedding = torch.cat([phase.sin(), phase.cos()], dim=1)
    return torch.nn.functional.pad(embedding, (0, width - 2 * half))


def time_embedding(t: Tensor, width: int, extras: int, dtype: torch.dtype) -> Tensor:
    """Embedding of the time followed by that of ``extras`` further scalars, each zero.

    The released networks were trained with two such scalars (sca, crp) that were always zero. Their
    embedding is not zero, since cos 0 = 1, so it has to be there.

    Args:
        t: ``b``, the schedule's time in [0, 1].

    Returns:
        ``b (1 + extras) * width`` in ``dtype``.
    """
    zero = scalar_embedding(torch.zeros_like(t), width)
    return torch.cat([scalar_embedding(t, width), *[zero] * extras], dim=1).to(dtype)
