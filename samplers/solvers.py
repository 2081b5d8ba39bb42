"""From noise to clean latents along given noise levels.

Every solver works on unscaled latents ``clean + sigma * noise``, as ComfyUI's samplers do, and has one
form: ``solver(denoise, x, sigmas, fresh, callback)``. With l = -ln(sigma), half the logSNR, the way from
one level to the next is exactly ``x' = (sigma'/sigma) x + I``, where I is the integral over l of
``e^(l - l') clean(l)``, whatever the schedule. A solver of order n puts a polynomial through the last n
clean estimates and integrates that.

Source: Lu et al. 2022, "DPM-Solver++", proposition 4.1, with its stochastic form in section 5; Zhao et al.
2023, "UniPC", for the corrector.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from itertools import pairwise

import torch
from torch import Tensor

from .schedule import MAX_VARIANCE, alpha_sigma, logsnr_of_sigma
from .steps import Step, ddim, ddpm, lcm, with_eta

Denoise = Callable[[Tensor, Tensor], Tensor]
"""Unscaled noisy latents and a sigma -> the clean estimate."""

Fresh = Callable[[], Tensor]
"""Unit noise like the latents, new at each call."""

Callback = Callable[[int, Tensor, Tensor, Tensor], None]
"""Told the number of the step, its sigma, the latents that it began with and its clean estimate."""

Solver = Callable[[Denoise, Tensor, Tensor, Fresh, Callback], Tensor]


def stepwise(
    step: Step, denoise: Denoise, x: Tensor, sigmas: Tensor, fresh: Fresh, callback: Callback
) -> Tensor:
    """One of the reference's steps after the other; sigma 0 is the clean estimate."""
    for i, (now, then) in enumerate(pairwise(sigmas)):
        clean = denoise(x, now)
        callback(i, now, x, clean)
        if then == 0:
            return clean
        levels = logsnr_of_sigma(now), logsnr_of_sigma(then)
        x = step(clean, (x - clean) / now, *levels, fresh()) / alpha_sigma(levels[1])[0]
    return x


def diffusers_ddpm(denoise: Denoise, x: Tensor, sigmas: Tensor, fresh: Fresh, callback: Callback) -> Tensor:
    """DDPM that ends as diffusers' scheduler does: at the least noise of the schedule, adding none of it.

    Source: diffusers ``DDPMWuerstchenScheduler.step``, which returns the mean of the last step.
    """
    lowest = sigmas.new_tensor((1 / MAX_VARIANCE - 1) ** 0.5)
    x = stepwise(ddpm, denoise, x, sigmas[:-1], fresh, callback)
    now, then = sigmas[-2], torch.maximum(sigmas[-1], lowest)
    clean = denoise(x, now)
    callback(len(sigmas) - 2, now, x, clean)
    levels = logsnr_of_sigma(now), logsnr_of_sigma(then)
    return ddpm(clean, (x - clean) / now, *levels, torch.zeros_like(x))


def integral_weights(places: list[float], length: float, rate: float) -> list[float]:
    """Weights of values in ``rate`` times the integral of ``e^(rate (u - length)) P(u)`` from 0 to length.

    P is the polynomial through the values. Computed in fp64, because the moments cancel at short steps.
    """
    scaled, end = [rate * place for place in places], rate * length
    moments = [-torch.expm1(torch.tensor(-end, dtype=torch.float64)).item()]
    for k in range(1, len(scaled)):
        moments.append(end**k - k * moments[-1])
    powers = torch.tensor(scaled, dtype=torch.float64)[None] ** torch.arange(len(scaled))[:, None]
    return torch.linalg.solve(powers, torch.tensor(moments, dtype=torch.float64)).tolist()


def _with(known: list[tuple[float, Tensor]], sigma: Tensor, clean: Tensor) -> list[tuple[float, Tensor]]:
    """Estimates with a new one before them, which replaces one of the same level.

    Many steps have several at the first level, because the schedule is clamped there.
    """
    place = -sigma.double().log().item()
    return [(place, clean), *(pair for pair in known if pair[0] != place)]


def _advance(
    x: Tensor, now: Tensor, then: Tensor, known: list[tuple[float, Tensor]], eta: float = 0.0
) -> Tensor:
    """The mean at the next level; ``known`` are l and clean estimates, the nearest first."""
    here = -now.double().log().item()
    length = -then.double().log().item() - here
    weights = integral_weights([place - here for place, _ in known], length, 1 + eta)
    kept = torch.tensor(-(1 + eta) * length, dtype=torch.float64).exp().item()
    return kept * x + sum(weight * clean for weight, (_, clean) in zip(weights, known, strict=True))


def multistep(
    order: int, eta: float, denoise: Denoise, x: Tensor, sigmas: Tensor, fresh: Fresh, callback: Callback
) -> Tensor:
    """DPM-Solver++ with one evaluation a step.

    Args:
        order: clean estimates used at a step; 1 with eta 0 is DDIM, with eta 1 DDPM.
        eta: fresh noise, 0 for none and 1 for that of the reverse diffusion.
        denoise, x, sigmas, fresh, callback: see ``Solver``.
    """
    known: list[tuple[float, Tensor]] = []
    for i, (now, then) in enumerate(pairwise(sigmas)):
        clean = denoise(x, now)
        callback(i, now, x, clean)
        if then == 0:
            return clean
        known = _with(known, now, clean)[:order]
        x = _advance(x, now, then, known, eta)
        if eta:
            x = x + then * (1 - (then / now) ** (2 * eta)).sqrt() * fresh()
    return x


def unipc(
    order: int, denoise: Denoise, x: Tensor, sigmas: Tensor, fresh: Fresh, callback: Callback
) -> Tensor:
    """A predictor of an order, then a corrector with the estimate of the next step, which costs nothing."""
    known: list[tuple[float, Tensor]] = []
    before = x
    for i, (now, then) in enumerate(pairwise(sigmas)):
        clean = denoise(x, now)
        callback(i, now, x, clean)
        if then == 0:
            return clean
        if known:
            x = _advance(before, sigmas[i - 1], now, _with(known, now, clean))
        known = _with(known, now, clean)[:order]
        before, x = x, _advance(x, now, then, known)
    return x


def heun(denoise: Denoise, x: Tensor, sigmas: Tensor, fresh: Fresh, callback: Callback) -> Tensor:
    """Second order with two evaluations a step: there with the first estimate, then with the line of both."""
    for i, (now, then) in enumerate(pairwise(sigmas)):
        clean = denoise(x, now)
        callback(i, now, x, clean)
        if then == 0:
            return clean
        known = _with([], now, clean)
        tried = denoise(_advance(x, now, then, known), then)
        x = _advance(x, now, then, _with(known, then, tried))
    return x


SOLVERS: dict[str, Solver] = {
    "DDPM": partial(stepwise, ddpm),
    "DDIM": partial(stepwise, ddim),
    "LCM": partial(stepwise, lcm),
    "DPM++ 2M": partial(multistep, 2, 0.0),
    "DPM++ 3M": partial(multistep, 3, 0.0),
    "DPM++ 2M SDE": partial(multistep, 2, 1.0),
    "DPM++ 3M SDE": partial(multistep, 3, 1.0),
    "UniPC": partial(unipc, 2),
    "Heun": heun,
    "DDPM of diffusers": diffusers_ddpm,
}
"""By the names that nodes give them."""

RANDOM = frozenset({"DDPM", "LCM", "DPM++ 2M SDE", "DPM++ 3M SDE", "DDPM of diffusers"})
"""Those that add fresh noise, so that their results are other pictures than the exact path's."""

EVALUATIONS = {"Heun": 2}
"""Of the network at each step but the last, where it is not 1."""


def ddim_with(eta: float) -> Solver:
    """DDIM with an eta of one's own, as the reference's sampler takes it."""
    return partial(stepwise, with_eta(eta))
