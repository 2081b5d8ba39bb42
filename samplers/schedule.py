"""The cosine schedule: how much noise there is at each time.

A noise level has four names here. ``t`` in [0, 1] is the time, 1 all noise. ``logsnr`` is the logarithm of
signal variance over noise variance. ``alpha, sigma_vp`` are the two factors in
``x = alpha * clean + sigma_vp * noise``, with alpha² + sigma_vp² = 1. ``sigma = sigma_vp / alpha`` is the
noise level of samplers that keep the signal unscaled, ComfyUI's among them.

Everything is computed in fp32 at least: at t = 1 the signal is a hundredth of the noise, and errors in the
prediction reach the clean estimate a hundredfold.

Source: Stability ``gdf/schedulers.py`` and ``gdf/noise_conditions.py``; Nichol & Dhariwal 2021, equation 17.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

OFFSET = 0.008
"""Keeps the noise at t = 0 from vanishing too fast (``s`` in the paper)."""

MIN_VARIANCE, MAX_VARIANCE = 1e-4, 0.9999
"""Signal variance is clamped to these."""

_START = math.cos(OFFSET / (1 + OFFSET) * math.pi / 2) ** 2

STAGE_C_SHIFT, STAGE_B_SHIFT = 2.0, 1.0
"""Shifts at which the released weights are sampled; training always used 1."""


def _signal_variance(t: Tensor) -> Tensor:
    angle = (t + OFFSET) / (1 + OFFSET) * (math.pi / 2)
    return (angle.cos().clamp(0, 1) ** 2 / _START).clamp(MIN_VARIANCE, MAX_VARIANCE)


def logsnr_of_time(t: Tensor, shift: float = 1.0) -> Tensor:
    """Logarithm of the signal-to-noise ratio at time t.

    Args:
        t: in [0, 1].
        shift: divides the amplitude ratio of signal and noise; above 1 more noise at equal t. The result
            is clamped to the unshifted schedule's range, before and after, as Stability does.

    Returns:
        fp32, within about ±9.21.
    """
    variance = _signal_variance(t.float())
    low, high = (torch.logit(variance.new_tensor(v)) for v in (MIN_VARIANCE, MAX_VARIANCE))
    return (torch.logit(variance) - 2 * math.log(shift)).clamp(low, high)


def time_of_logsnr(logsnr: Tensor) -> Tensor:
    """The time at which the *unshifted* schedule has this signal-to-noise ratio, in [0, 1].

    This, not the sampler's own t, is what the networks are told.
    """
    variance = torch.sigmoid(logsnr.float()).clamp(0, 1)
    angle = (variance * _START).sqrt().acos()
    return (angle * (2 / math.pi) * (1 + OFFSET) - OFFSET).clamp(0, 1)


def alpha_sigma(logsnr: Tensor) -> tuple[Tensor, Tensor]:
    """Factors of signal and noise at a noise level; their squares add up to 1."""
    alpha = torch.sigmoid(logsnr).sqrt()
    return alpha, (1 - alpha**2).sqrt()


def sigma_of_logsnr(logsnr: Tensor) -> Tensor:
    """Noise over signal, exp(-logsnr / 2)."""
    return (-logsnr / 2).exp()


def logsnr_of_sigma(sigma: Tensor) -> Tensor:
    """The inverse of ``sigma_of_logsnr``; ``sigma`` above 0."""
    return -2 * sigma.log()


def spaced_logsnr(steps: int, shift: float = 1.0, start: float = 1.0, end: float = 0.0) -> Tensor:
    """Noise levels of a sampling run at equally spaced times.

    Args:
        steps: number of steps, at least 1.
        shift: see ``logsnr_of_time``.
        start, end: first and last time, 1 for pure noise, 0 for a clean latent.

    Returns:
        ``steps + 1`` values of logSNR, rising.
    """
    return logsnr_of_time(torch.linspace(start, end, steps + 1), shift)


def add_noise(clean: Tensor, noise: Tensor, logsnr: Tensor) -> Tensor:
    """``alpha * clean + sigma_vp * noise``; ``logsnr`` is a scalar or ``b``."""
    alpha, sigma_vp = (f.to(clean).view(-1, *[1] * (clean.ndim - 1)) for f in alpha_sigma(logsnr))
    return alpha * clean + sigma_vp * noise


def schedule_time(logsnr: Tensor, shift: float = 1.0) -> Tensor:
    """The inverse of ``logsnr_of_time``: the time of the sampler, at which guidance is turned on and off.

    The ends of the clamped range are 1 and 0.
    """
    edge = torch.logit(logsnr.new_tensor(MAX_VARIANCE, dtype=torch.float32)) - 1e-3
    t = time_of_logsnr(logsnr.float() + 2 * math.log(shift))
    return torch.where(logsnr <= -edge, 1.0, torch.where(logsnr >= edge, 0.0, t))


def shift_of_size(shift: float, cells: tuple[int, int], trained: float) -> float:
    """The shift for latents of another size than in training: noise grows with the side.

    Neighbouring cells of a larger picture say the same more often, so that the same noise hides less of it.

    Args:
        shift: that suits ``trained`` x ``trained`` cells.
        cells: of the latents, along both sides.
        trained: cells along a side.

    Source: Hoogeboom et al. 2023, "Simple diffusion", equation 4.

    >>> shift_of_size(2.0, (48, 48), 24)
    4.0
    """
    return shift * math.sqrt(cells[0] * cells[1]) / trained
