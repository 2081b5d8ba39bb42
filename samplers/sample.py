"""The sampling loop: from noise to a clean latent.

This is the loop of tests, training previews and scripts. In ComfyUI its own loop runs the same solvers, with
the same numbers.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from .guidance import guide, rescale
from .schedule import alpha_sigma, logsnr_of_sigma, time_of_logsnr
from .solvers import SOLVERS, Solver
from .spacing import Spacing, cosine
from .steps import draw
from .target import Target, from_noise

Network = Callable[[Tensor, Tensor], Tensor]
"""Noisy latents ``b c h w`` and times ``b`` -> prediction; the conditioning is bound already."""


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
    solver: Solver = SOLVERS["DDPM"],
    spacing: Spacing = cosine,
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
        solver: how to get from one noise level to the next; see ``solvers.SOLVERS``.
        spacing: where the noise levels lie; see ``spacing.SPACINGS``.
        callback: called with the number of the step and the clean estimate.

    Returns:
        The clean estimate of the last step, as in the reference; not the last, still slightly noisy x.

    Source: Stability ``gdf/__init__.py``, ``GDF.sample``.
    """
    sigmas = spacing(steps, shift, start, 0.0).to(x.device)
    first, _ = alpha_sigma(logsnr_of_sigma(sigmas[0]))

    def denoise(unscaled: Tensor, sigma: Tensor) -> Tensor:
        logsnr = logsnr_of_sigma(sigma)
        alpha, sigma_vp = alpha_sigma(logsnr)
        noisy, t = alpha * unscaled, time_of_logsnr(logsnr).expand(len(unscaled))
        clean, noise = target(network(noisy, t).float(), noisy, alpha, sigma_vp)
        if unconditional is None or cfg == 1:
            return clean
        _, without = target(unconditional(noisy, t).float(), noisy, alpha, sigma_vp)
        guided = guide(noise, without, cfg)
        return unscaled - sigma * (rescale(guided, noise, rho) if rho else guided)

    def told(i: int, sigma: Tensor, unscaled: Tensor, clean: Tensor) -> None:
        if callback:
            callback(i, clean)

    return solver(denoise, x / first, sigmas, lambda: draw(x, generator), told)
