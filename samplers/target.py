"""What a network predicts, and how to get the clean estimate and the noise from it.

Each function takes the prediction, the noisy latent ``x = alpha * clean + sigma_vp * noise`` and both
factors, and returns ``(clean, noise)``. Source: Stability ``gdf/targets.py``; velocity after Salimans & Ho
2022, appendix D.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

Target = Callable[[Tensor, Tensor, Tensor, Tensor], tuple[Tensor, Tensor]]


def from_noise(prediction: Tensor, x: Tensor, alpha: Tensor, sigma_vp: Tensor) -> tuple[Tensor, Tensor]:
    """The network predicts the noise, as all released ones do."""
    return (x - sigma_vp * prediction) / alpha, prediction


def from_velocity(prediction: Tensor, x: Tensor, alpha: Tensor, sigma_vp: Tensor) -> tuple[Tensor, Tensor]:
    """The network predicts ``alpha * noise - sigma_vp * clean``."""
    return alpha * x - sigma_vp * prediction, sigma_vp * x + alpha * prediction


def from_clean(prediction: Tensor, x: Tensor, alpha: Tensor, sigma_vp: Tensor) -> tuple[Tensor, Tensor]:
    """The network predicts the clean latent."""
    return prediction, (x - alpha * prediction) / sigma_vp


TARGETS: dict[str, Target] = {"noise": from_noise, "velocity": from_velocity, "clean": from_clean}
"""By the name in a file's metadata, ``cascade.prediction``; files without it predict noise."""


def velocity(clean: Tensor, noise: Tensor, alpha: Tensor, sigma_vp: Tensor) -> Tensor:
    """The velocity a network learns to predict."""
    return alpha * noise - sigma_vp * clean


def reread(clean: Tensor, x: Tensor, sigma: Tensor, target: Target) -> Tensor:
    """The clean estimate of a network that was taken for one that predicts noise.

    A program that knows no other kind computes ``x - sigma * prediction``; from that the prediction is
    recovered and read for what it is.

    Args:
        clean: what the program computed, of unscaled latents.
        x: the unscaled latents, ``clean + sigma * noise``.
        sigma: of each, ``b 1 1 1``.
        target: what the network predicts in truth.
    """
    alpha = torch.rsqrt(1 + sigma**2)
    return target((x - clean) / sigma, x * alpha, alpha, sigma * alpha)[0]
