"""The sampling loop: from noise to a clean latent.

This is the loop of tests, training previews and scripts. In ComfyUI its own samplers run, with the same
numbers: ``ddpm`` there is ``ddpm`` here.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

import torch
from torch import Tensor

from .guidance import guide, rescale
from .schedule import alpha_sigma, spaced_logsnr, time_of_logsnr
from .steps import Step, ddpm, draw
from .target import Target, from_noise

Network = Callable[[Tensor, Tensor], Tensor]
"""Noisy latents ``b c h w`` and times ``b`` → prediction; the conditioning is bound already."""


def sample(
    network: Network,
    x: Tensor,
    *,
    generator: torch.Generator,
    unconditional: Network | None = None,
    steps: int = 20,
    cfg: float = 1.0,
    rho: float = 0.0,
    shift: float = 1.0,
    start: float = 1.0,
    target: Target = from_noise,
    step: Step = ddpm,
    callback: Callable[[int, Tensor], None] | None = None,
) -> Tensor:
    """Denoise latents.

    Args:
        network: conditional prediction.
        x: noisy latents at time ``start``, ``b c h w`` fp32; unit noise for a start of 1.
        generator: source of the fresh noise, on the CPU.
        unconditional: prediction without the prompt; needed where cfg is not 1.
        steps: number of steps, at least 1.
        cfg: guidance scale; 1 leaves the conditional prediction as it is.
        rho: see ``guidance.rescale``; 0 for none.
        shift: of the schedule; 2 for Stage C, 1 for Stage B.
        start: time of ``x``.
        target: what the networks predict.
        step: how to get from one noise level to the next.
        callback: called with the number of the step and the clean estimate.

    Returns:
        The clean estimate of the last step, as in the reference; not the last, still slightly noisy x.

    Source: Stability ``gdf/__init__.py``, ``GDF.sample``.
    """
    levels = spaced_logsnr(steps, shift, start).to(x.device)
    clean = x
    for i, (now, then) in enumerate(pairwise(levels)):
        t = time_of_logsnr(now).expand(x.shape[0])
        alpha, sigma_vp = alpha_sigma(now)
        clean, noise = target(network(x, t).float(), x, alpha, sigma_vp)
        if unconditional is not None and cfg != 1:
            _, without = target(unconditional(x, t).float(), x, alpha, sigma_vp)
            guided = guide(noise, without, cfg)
            noise = rescale(guided, noise, rho) if rho else guided
            clean = (x - sigma_vp * noise) / alpha
        x = step(clean, noise, now, then, draw(x, generator))
        if callback:
            callback(i, clean)
    return clean
