"""The noise levels a Cascade model samples at, and what samples along them, on the host's sockets."""

from __future__ import annotations

from functools import partial
from typing import Any

import comfy.samplers
import torch
from comfy.model_sampling import EPS, StableCascadeSampling
from comfy_api.latest import ui
from comfy_extras.nodes_custom_sampler import Noise_RandomNoise, SamplerCustomAdvanced
from torch import Tensor
from tqdm.auto import tqdm

import nodes as comfy_nodes

from ...latents.noise import StepNoise, picture_noise
from ...samplers.guidance import Guidance
from ...samplers.solvers import SOLVERS, Solver
from ...samplers.spacing import SPACINGS
from .guider import Guider

SAMPLERS: list[str] = [*comfy.samplers.KSampler.SAMPLERS, *SOLVERS]
SCHEDULERS: list[str] = list(dict.fromkeys([*comfy.samplers.KSampler.SCHEDULERS, *SPACINGS]))
"""Of the host, then of ours those that it does not have; a name that both have is the host's."""


class CascadeSampling(StableCascadeSampling, EPS):
    """The host's schedule with its table filled at once; the host's own loop takes most of a second."""

    def set_parameters(self, shift: float = 1.0, cosine_s: float = 8e-3) -> None:
        self.shift = shift
        self.cosine_s = torch.tensor(cosine_s)
        self._init_alpha_cumprod = torch.cos(self.cosine_s / (1 + self.cosine_s) * torch.pi * 0.5) ** 2
        self.num_timesteps = 10_000
        times = torch.arange(1, self.num_timesteps + 1, dtype=torch.float64) / self.num_timesteps
        self.set_sigmas(self.sigma(times.float()))


class ToldOne(CascadeSampling):
    """A schedule that tells the network a time of 1 at its first noise level, as diffusers does."""

    def timestep(self, sigma: Tensor) -> Tensor:
        return torch.where(sigma >= self.sigma_max * (1 - 1e-4), 1.0, super().timestep(sigma))


def shift_of(model: Any) -> float:
    """The shift of a MODEL's own schedule, which the host's node may have changed."""
    return float(getattr(model.get_model_object("model_sampling"), "shift", 1.0))


def with_schedule(model: Any, shift: float, told_one: bool) -> Any:
    """A MODEL that samples at another shift; a new one.

    Args:
        model: a MODEL.
        shift: of its schedule.
        told_one: see ``presets.Preset``.
    """
    schedule = ToldOne() if told_one else CascadeSampling()
    schedule.set_parameters(shift)
    model = model.clone()
    model.add_object_patch("model_sampling", schedule)
    return model


def _run(
    solver: Solver, model: Any, x: Tensor, sigmas: Tensor, extra_args: dict[str, Any] | None = None,
    callback: Any = None, disable: bool | None = None,
) -> Tensor:  # fmt: skip
    """A solver in the form of the host's sampling functions."""
    extra_args, ones = extra_args or {}, x.new_ones(len(x))
    with tqdm(total=len(sigmas) - 1, disable=disable) as bar:

        def told(i: int, sigma: Tensor, noisy: Tensor, clean: Tensor) -> None:
            bar.update()
            if callback is not None:
                callback({"i": i, "x": noisy, "denoised": clean, "sigma": sigma, "sigma_hat": sigma})

        def denoise(noisy: Tensor, sigma: Tensor) -> Tensor:
            return model(noisy, sigma * ones, **extra_args)

        fresh = StepNoise(x, extra_args.get("seed") or 0)
        with torch.no_grad():
            return solver(denoise, x, sigmas, fresh, told)


def sampler_of(solver: Solver) -> Any:
    """A SAMPLER that runs one of our solvers; its fresh noise belongs to pictures, see ``latents.noise``."""
    return comfy.samplers.KSAMPLER(partial(_run, solver))


def sampler_named(name: str) -> Any:
    """A SAMPLER of ours or of the host."""
    return sampler_of(SOLVERS[name]) if name in SOLVERS else comfy.samplers.sampler_object(name)


class PictureNoise:
    """A NOISE that belongs to pictures: number i of a batch has the noise of seed + i."""

    def __init__(self, seed: int):
        self.seed = seed

    def generate_noise(self, latents: dict[str, Any]) -> Tensor:
        """Unit noise for a LATENT."""
        return picture_noise(latents["samples"], self.seed, latents.get("batch_index"))


NOISES: dict[str, Any] = {"batch": Noise_RandomNoise, "picture": PictureNoise}
"""What noise belongs to: the whole batch, as the host draws it, or each picture."""


def ksample(
    model: Any, latents: dict, positive: list, negative: list, settings: dict[str, Any],
    guidance: Guidance | None = None, noise: str = "batch",
) -> dict:  # fmt: skip
    """Denoise latents; with what KSampler knows as well, by the function that KSampler calls.

    Args:
        model: a MODEL.
        latents: a LATENT.
        positive, negative: CONDITIONING.
        settings: ``seed, steps, cfg, sampler_name, scheduler, denoise``, as KSampler takes them, with the
            names in ``SAMPLERS`` and ``SCHEDULERS``.
        guidance: other than by ``cfg`` alone.
        noise: a name in ``NOISES``.

    Returns:
        A new LATENT.
    """
    sampler, scheduler = settings["sampler_name"], settings["scheduler"]
    ours = sampler in SOLVERS or scheduler not in comfy.samplers.KSampler.SCHEDULERS
    if not ours and guidance is None and noise == "batch":
        return comfy_nodes.common_ksampler(
            model, positive=positive, negative=negative, latent=latents, **settings
        )[0]
    guider = Guider(
        model, guidance or Guidance(settings["cfg"]), {"positive": positive, "negative": negative}
    )
    sigmas = _levels(model, sampler, scheduler, settings["steps"], settings["denoise"])
    source = NOISES[noise](settings["seed"])
    return SamplerCustomAdvanced.execute(source, guider, sampler_named(sampler), sigmas, latents)[0]


def _levels(model: Any, sampler: str, scheduler: str, steps: int, denoise: float) -> Tensor:
    """The noise levels at which KSampler would sample, for schedulers of ours too."""
    if denoise <= 0:
        return torch.zeros(0)
    if scheduler in comfy.samplers.KSampler.SCHEDULERS:
        known = sampler if sampler in comfy.samplers.KSampler.SAMPLERS else "euler"
        return comfy.samplers.KSampler(
            model, steps=steps, device="cpu", sampler=known, scheduler=scheduler, denoise=denoise
        ).sigmas
    return SPACINGS[scheduler](steps, shift_of(model), denoise, 0.0)


def preview_of(picture: Tensor, node: type) -> Any:
    """What shows a picture ``1 h w 3`` on a node itself."""
    return ui.PreviewImage(picture, cls=node)
