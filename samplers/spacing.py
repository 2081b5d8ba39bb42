"""Where the steps of a run lie: noise levels from the first to the last.

Each spacing takes the number of steps, the shift of the schedule and the times between which to sample, and
returns ``steps + 1`` falling sigmas, fp32. A run that ends at time 0 ends at sigma 0, where the latents are
the clean estimate of the last step, as in the reference and in ComfyUI.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor

from .schedule import logsnr_of_sigma, logsnr_of_time, sigma_of_logsnr

Spacing = Callable[[int, float, float, float], Tensor]

HOST_TABLE, LCM_TABLE = 10_000, 50
"""Times among which ComfyUI's ``simple`` scheduler, and a network distilled to few steps, know their way."""

ALIGNED = (-6.27, -3.13, -1.83, -0.81, -0.02, 0.86, 2.1, 3.8, 4.93)
"""LogSNR of a run of ten steps, without its ends, found by ``benchmarks/tuning.py``."""


def cosine(steps: int, shift: float = 1.0, start: float = 1.0, end: float = 0.0) -> Tensor:
    """Equally spaced times, as the networks were trained and published. Stability ``gdf/__init__.py``."""
    return _at_times(torch.linspace(start, end, steps + 1, dtype=torch.float64), shift, end)


def _tabulated(table: int, steps: int, shift: float, start: float, end: float) -> Tensor:
    places = torch.arange(steps + 1, dtype=torch.float64) * table / steps
    return _at_times(_between(1 - places.floor() / table, start, end), shift, end)


simple: Spacing = partial(_tabulated, HOST_TABLE)
"""Equally spaced times among ten thousand. ComfyUI ``comfy/samplers.py``."""

lcm: Spacing = partial(_tabulated, LCM_TABLE)
"""Equally spaced times among the fifty that a distilled network was taught. Luo et al. 2023, "LCM"."""


def beta(steps: int, shift: float = 1.0, start: float = 1.0, end: float = 0.0) -> Tensor:
    """Times closer together at both ends: quantiles of Beta(0.6, 0.6). Lee et al. 2024, "Beta Sampling"."""
    # With x = sin²(angle) the density has no poles: sin^0.2 cos^0.2.
    angle = torch.linspace(0, torch.pi / 2, 4001, dtype=torch.float64)
    density = (angle.sin() * angle.cos()).clamp(min=0) ** 0.2
    mass = torch.cat([angle.new_zeros(1), torch.cumsum(density[1:] + density[:-1], 0)])
    share = 1 - torch.arange(steps + 1, dtype=torch.float64) / steps
    quantiles = interpolate(share, mass / mass[-1], angle).sin() ** 2
    return _at_times(_between(quantiles, start, end), shift, end)


def karras(steps: int, shift: float = 1.0, start: float = 1.0, end: float = 0.0) -> Tensor:
    """Equally spaced seventh roots of sigma: most steps at little noise. Karras et al. 2022, equation 5."""
    high, low = _ends(shift, start, end)
    return _to_zero(
        lambda share: (high ** (1 / 7) + share * (low ** (1 / 7) - high ** (1 / 7))) ** 7, steps, end
    )


def exponential(steps: int, shift: float = 1.0, start: float = 1.0, end: float = 0.0) -> Tensor:
    """Equally spaced logSNR: sigma falls by one factor at each step."""
    high, low = _ends(shift, start, end)
    return _to_zero(lambda share: high * (low / high) ** share, steps, end)


def along(
    knots: tuple[float, ...], steps: int, shift: float = 1.0, start: float = 1.0, end: float = 0.0
) -> Tensor:
    """Levels along a smooth curve of logSNR through knots.

    Args:
        knots: logSNR at equally spaced places between the ends of the schedule, for a shift of 1.
        steps, shift, start, end: see ``Spacing``.
    """
    high, low = logsnr_of_time(torch.tensor([0.0, 1.0])).double()
    curve = _smooth(torch.stack([low, *torch.tensor(knots, dtype=torch.float64), high]))
    places = torch.linspace(0, 1, len(curve), dtype=torch.float64)
    first, last = interpolate(logsnr_of_time(torch.tensor([start, end])).double(), curve, places)
    share = torch.linspace(0, 1, steps + 1, dtype=torch.float64)
    unshifted = interpolate(first + share * (last - first), places, curve)
    return _finished(sigma_of_logsnr((unshifted - 2 * math.log(shift)).clamp(low, high)), end)


aligned: Spacing = partial(along, ALIGNED)
"""Levels with the least error in few steps, after Sabour et al. 2024, "Align Your Steps"."""


SPACINGS: dict[str, Spacing] = {
    "cosine": cosine, "simple": simple, "karras": karras, "exponential": exponential, "beta": beta,
    "aligned": aligned, "lcm": lcm,
}  # fmt: skip
"""By the names that nodes give them."""


def interpolate(at: Tensor, places: Tensor, values: Tensor) -> Tensor:
    """Read a line through points off at some places; ``places`` rise."""
    right = torch.searchsorted(places, at).clamp(1, len(places) - 1)
    before, after = places[right - 1], places[right]
    share = ((at - before) / (after - before)).clamp(0, 1)
    return values[right - 1] + share * (values[right] - values[right - 1])


def _smooth(knots: Tensor, fine: int = 200) -> Tensor:
    """A rising curve through rising knots, ``fine`` points from each to the next.

    Source: Fritsch & Butland 1984: cubic pieces whose slopes are harmonic means, which keeps it rising.
    """
    rises = knots.diff()
    inside = 2 * rises[1:] * rises[:-1] / (rises[1:] + rises[:-1])
    slopes = torch.cat([rises[:1], inside, rises[-1:]])
    u = torch.arange(fine, dtype=knots.dtype) / fine
    bend = (3 * rises - 2 * slopes[:-1] - slopes[1:])[:, None] * u**2
    curl = (slopes[:-1] + slopes[1:] - 2 * rises)[:, None] * u**3
    pieces = knots[:-1, None] + slopes[:-1, None] * u + bend + curl
    return torch.cat([pieces.flatten(), knots[-1:]])


def _between(share: Tensor, start: float, end: float) -> Tensor:
    return end + (start - end) * share


def _at_times(times: Tensor, shift: float, end: float) -> Tensor:
    return _finished(sigma_of_logsnr(logsnr_of_time(times, shift).double()), end)


def _ends(shift: float, start: float, end: float) -> tuple[float, float]:
    high, low = sigma_of_logsnr(logsnr_of_time(torch.tensor([start, end]), shift).double()).tolist()
    return high, low


def _to_zero(sigma: Callable[[Tensor], Tensor], steps: int, end: float) -> Tensor:
    """A spacing in sigma, whose lowest level comes before the 0 at the end of a whole run."""
    if end > 0:
        return sigma(torch.linspace(0, 1, steps + 1, dtype=torch.float64)).float()
    reached = sigma(torch.linspace(0, 1, steps, dtype=torch.float64))
    return torch.cat([reached, reached.new_zeros(1)]).float()


def _finished(sigmas: Tensor, end: float) -> Tensor:
    """Sigmas in fp32, the last of them 0 in a whole run."""
    sigmas = sigmas.float()
    if end <= 0:
        sigmas[-1] = 0.0
    return sigmas


def logsnr_of_run(sigmas: Tensor) -> Tensor:
    """LogSNR of a run's levels but for a last one of 0, which has none."""
    return logsnr_of_sigma(sigmas[sigmas > 0])
