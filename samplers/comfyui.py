"""Some of ComfyUI's own samplers, in plain torch and to the bit.

They have the form of ``solvers.Solver``. Each is written in ComfyUI's order of operations, so that a picture
drawn without ComfyUI is the picture that it draws; ``solvers`` has better ones.

Source: ComfyUI ``comfy/k_diffusion/sampling.py``; Karras et al. 2022, algorithm 2; Lu et al. 2022,
"DPM-Solver++".
"""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor

from .solvers import Callback, Denoise, Fresh, Solver


def _slope(x: Tensor, clean: Tensor, sigma: Tensor) -> Tensor:
    return (x - clean) / sigma


def euler(denoise: Denoise, x: Tensor, sigmas: Tensor, fresh: Fresh, callback: Callback) -> Tensor:
    """A straight line from each level to the next; no noise is added."""
    for i, (now, then) in enumerate(pairwise(sigmas)):
        clean = denoise(x, now)
        callback(i, now, x, clean)
        x = x + _slope(x, clean, now) * (then - now)
    return x


def euler_ancestral(denoise: Denoise, x: Tensor, sigmas: Tensor, fresh: Fresh, callback: Callback) -> Tensor:
    """A straight line below each next level, and fresh noise up to it."""
    for i, (now, then) in enumerate(pairwise(sigmas)):
        clean = denoise(x, now)
        callback(i, now, x, clean)
        added = min(then, (then**2 * (now**2 - then**2) / now**2) ** 0.5)
        below = (then**2 - added**2) ** 0.5
        if below == 0:
            x = clean
        else:
            x = x + _slope(x, clean, now) * (below - now) + fresh() * added
    return x


def heun(denoise: Denoise, x: Tensor, sigmas: Tensor, fresh: Fresh, callback: Callback) -> Tensor:
    """The mean of the slopes at both ends of a step; two evaluations each but the last."""
    for i, (now, then) in enumerate(pairwise(sigmas)):
        clean = denoise(x, now)
        callback(i, now, x, clean)
        slope, length = _slope(x, clean, now), then - now
        if then != 0:
            tried = x + slope * length
            slope = (slope + _slope(tried, denoise(tried, then), then)) / 2
        x = x + slope * length
    return x


def dpmpp_2m(denoise: Denoise, x: Tensor, sigmas: Tensor, fresh: Fresh, callback: Callback) -> Tensor:
    """DPM-Solver++ of second order, with the estimate of the step before."""
    before: Tensor | None = None
    for i, (now, then) in enumerate(pairwise(sigmas)):
        clean = denoise(x, now)
        callback(i, now, x, clean)
        here, there = now.log().neg(), then.log().neg()
        length, estimate = there - here, clean
        if before is not None and then != 0:
            ratio = (here - sigmas[i - 1].log().neg()) / length
            estimate = (1 + 1 / (2 * ratio)) * clean - (1 / (2 * ratio)) * before
        x = (there.neg().exp() / here.neg().exp()) * x - (-length).expm1() * estimate
        before = clean
    return x


def ddpm(denoise: Denoise, x: Tensor, sigmas: Tensor, fresh: Fresh, callback: Callback) -> Tensor:
    """The ancestral step of the diffusion itself, on latents of unit variance."""
    for i, (now, then) in enumerate(pairwise(sigmas)):
        clean = denoise(x, now)
        callback(i, now, x, clean)
        noise, unit = (x - clean) / now, x / torch.sqrt(1.0 + now**2.0)
        signal, next_signal = 1 / ((now * now) + 1), 1 / ((then * then) + 1)
        share = signal / next_signal
        x = (1.0 / share).sqrt() * (unit - (1 - share) * noise / (1 - signal).sqrt())
        if then > 0:
            x += ((1 - share) * (1.0 - next_signal) / (1.0 - signal)).sqrt() * fresh()
            x *= torch.sqrt(1.0 + then**2.0)
    return x


def lcm(denoise: Denoise, x: Tensor, sigmas: Tensor, fresh: Fresh, callback: Callback) -> Tensor:
    """The clean estimate with fresh noise of the next level, for networks distilled to few steps."""
    for i, (now, then) in enumerate(pairwise(sigmas)):
        x_now, x = x, denoise(x, now)
        callback(i, now, x_now, x)
        if then > 0:
            x = fresh() * then + x
    return x


SAMPLERS: dict[str, Solver] = {
    "euler": euler, "euler_ancestral": euler_ancestral, "heun": heun, "dpmpp_2m": dpmpp_2m, "ddpm": ddpm,
    "lcm": lcm,
}  # fmt: skip
"""By the names that ComfyUI gives them; its others need ComfyUI."""
