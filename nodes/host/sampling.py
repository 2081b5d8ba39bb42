"""The noise levels a Cascade model samples at, and sampling as the host's KSampler does it."""

from __future__ import annotations

from typing import Any

import torch
from comfy.model_sampling import EPS, StableCascadeSampling

import nodes as comfy_nodes


class CascadeSampling(StableCascadeSampling, EPS):
    """The host's schedule with its table filled at once; the host's own loop takes most of a second."""

    def set_parameters(self, shift: float = 1.0, cosine_s: float = 8e-3) -> None:
        self.shift = shift
        self.cosine_s = torch.tensor(cosine_s)
        self._init_alpha_cumprod = torch.cos(self.cosine_s / (1 + self.cosine_s) * torch.pi * 0.5) ** 2
        self.num_timesteps = 10_000
        times = torch.arange(1, self.num_timesteps + 1, dtype=torch.float64) / self.num_timesteps
        self.set_sigmas(self.sigma(times.float()))


def ksample(model: Any, latents: dict, positive: list, negative: list, settings: dict[str, Any]) -> dict:
    """Denoise latents, by the function that the host's KSampler node calls.

    Args:
        model: a MODEL.
        latents: a LATENT.
        positive, negative: CONDITIONING.
        settings: ``seed, steps, cfg, sampler_name, scheduler, denoise``, as KSampler takes them.

    Returns:
        A new LATENT.
    """
    return comfy_nodes.common_ksampler(
        model, positive=positive, negative=negative, latent=latents, **settings
    )[0]
