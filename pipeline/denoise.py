"""One stage from noise to latents, as ComfyUI's KSampler does it, in plain torch and to the bit.

``samplers.sample`` is the loop of training and of the reference; this one does what happens in a graph: its
noise, its table of levels, both prompts in one batch, and its masks.

Source: ComfyUI ``comfy/samplers.py``, ``comfy/sample.py``, ``comfy/model_base.py``.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor
from torch.nn import functional

from ..latents.noise import StepNoise, picture_noise
from ..samplers.comfyui import SAMPLERS as HOST_SAMPLERS
from ..samplers.guidance import NEGATIVE, POSITIVE, Guidance
from ..samplers.solvers import Fresh
from ..samplers.spacing import SPACINGS
from ..samplers.table import SCHEDULERS as HOST_SCHEDULERS
from ..samplers.table import Table, levels
from ..samplers.target import Target, from_noise, reread
from .settings import SAMPLERS, Sampling, Settings

Told = Callable[[int, int, Tensor], None]
"""Told the number of a step, how many there are, and the step's estimate of the latents."""

Prompt = tuple[Tensor, ...]
"""What a network takes beside latents and time, each of one row or of one for each picture."""


@dataclass(frozen=True)
class Stage:
    """A diffusion network with its prompts, and how it is called.

    Attributes:
        network: noisy latents of unit variance, times and a prompt -> prediction.
        positive, negative: the prompts.
        target: what it predicts.
        shift: of its schedule.
        scale: by which latents are multiplied on the way in, and divided on the way out.
        device, dtype: of what it is given.
    """

    network: Callable[..., Tensor]
    positive: Prompt
    negative: Prompt
    target: Target
    shift: float
    scale: float
    device: torch.device
    dtype: torch.dtype

    @cached_property
    def table(self) -> Table:
        """Its noise levels."""
        return Table(self.shift)


@torch.inference_mode()
def draw(
    stage: Stage, sampling: Sampling, settings: Settings, latents: Tensor, mask: Tensor | None = None,
    told: Told | None = None,
) -> Tensor:  # fmt: skip
    """Latents drawn anew, wholly or in part.

    Args:
        stage: what draws.
        sampling, settings: how.
        latents: from which it starts, ``b c h w``; zeros for nothing.
        mask: what of them is drawn, ``b 1 h w`` in [0, 1]; None for all.
        told: called at each step.

    Returns:
        ``b c h w``, fp32 on the CPU.
    """
    sigmas = noise_levels(stage.table, sampling).to(stage.device)
    if len(sigmas) == 0:
        return latents
    noise = first_noise(latents, settings).to(stage.device)
    start = latents.to(stage.device)
    if start.any():
        start = start * stage.scale
    predict = Guided(stage, Guidance(sampling.cfg, rho=settings.rescale))
    clean: Callable[[Tensor, Tensor], Tensor] = predict
    if mask is not None:
        clean = _Masked(predict, _over(mask, start), start, noise)
    first = sigmas[0]
    noisy = noise * torch.sqrt(1.0 + first**2.0) if stage.table.is_highest(first) else noise * first
    ones = start.new_ones(len(start))

    def say(i: int, sigma: Tensor, x: Tensor, estimate: Tensor) -> None:
        if told:
            told(i, len(sigmas) - 1, (estimate / stage.scale).cpu())

    drawn = SAMPLERS[sampling.sampler](
        lambda x, sigma: clean(x, sigma * ones), noisy + start, sigmas, _fresh(start, sampling, settings), say
    )
    return (drawn / stage.scale).cpu()


def noise_levels(table: Table, sampling: Sampling) -> Tensor:
    """Falling sigmas of a run; none where nothing is drawn."""
    if sampling.scheduler in HOST_SCHEDULERS:
        return levels(table, HOST_SCHEDULERS[sampling.scheduler], sampling.steps, sampling.denoise)
    if sampling.denoise <= 0:
        return torch.zeros(0)
    return SPACINGS[sampling.scheduler](sampling.steps, table.shift, sampling.denoise, 0.0)


def first_noise(latents: Tensor, settings: Settings) -> Tensor:
    """The noise that a run starts from, on the CPU."""
    if settings.noise == "picture":
        return picture_noise(latents, settings.seed)
    return torch.randn(latents.shape, generator=torch.Generator().manual_seed(settings.seed))


def _fresh(like: Tensor, sampling: Sampling, settings: Settings) -> Fresh:
    """The noise of steps: of the batch for ComfyUI's samplers, and of each picture for ours."""
    if sampling.sampler not in HOST_SAMPLERS:
        return StepNoise(like, settings.seed)
    later = int(like.device.type == "cpu")  # there it would be the first noise again
    source = torch.Generator(like.device).manual_seed(settings.seed + later)
    return lambda: torch.randn(like.shape, generator=source, device=like.device)


def _over(mask: Tensor, latents: Tensor) -> Tensor:
    """A mask with a value for each value of the latents."""
    cells = functional.interpolate(mask.to(latents), size=latents.shape[-2:], mode="bilinear")
    return cells.expand(len(latents), latents.shape[1], -1, -1).contiguous()


def _sides(sigma: Tensor) -> Tensor:
    """Noise levels ``b`` to compute with latents; a single one as a number, as ComfyUI does."""
    return sigma.view(()) if len(sigma) == 1 else sigma.view(-1, 1, 1, 1)


@dataclass(frozen=True)
class Guided:
    """Clean estimates of unscaled latents, guided by a stage's two prompts."""

    stage: Stage
    guidance: Guidance

    def __call__(self, x: Tensor, sigma: Tensor) -> Tensor:
        """Of latents ``b c h w`` at noise levels ``b``."""
        guidance = self.guidance
        if math.isclose(guidance.cfg, 1.0):
            return self._clean(x, sigma, [self.stage.positive])[0]
        clean, without = self._both(x, sigma)
        if not guidance.rho:
            return without + (clean - without) * guidance.cfg
        return x - guidance(x, 1.0, {POSITIVE: x - clean, NEGATIVE: x - without})

    def _both(self, x: Tensor, sigma: Tensor) -> tuple[Tensor, Tensor]:
        """With the prompt and with the negative one; in one batch where their shapes allow it."""
        positive, negative = self.stage.positive, self.stage.negative
        if all(one.shape[1:] == other.shape[1:] for one, other in zip(positive, negative, strict=True)):
            without, clean = self._clean(x, sigma, [negative, positive])
            return clean, without
        return self._clean(x, sigma, [positive])[0], self._clean(x, sigma, [negative])[0]

    def _clean(self, x: Tensor, sigma: Tensor, prompts: Sequence[Prompt]) -> Sequence[Tensor]:
        """For each of some prompts."""
        stage, rows = self.stage, len(x)
        inputs = [torch.cat([_rows(part, rows) for part in parts]) for parts in zip(*prompts, strict=True)]
        x, sigma = torch.cat([x] * len(prompts)), torch.cat([sigma] * len(prompts))
        sides = _sides(sigma)
        noisy = (x / (sides**2 + 1.0) ** 0.5).to(stage.dtype)
        prediction = stage.network(noisy, stage.table.time(sigma).float(), *inputs).float()
        clean = x - prediction * sides
        if stage.target is not from_noise:
            clean = reread(clean, x, sigma.view(-1, 1, 1, 1), stage.target)
        return clean.chunk(len(prompts))


def _rows(part: Tensor, rows: int) -> Tensor:
    """As many rows as there are pictures, by repeating them in turn."""
    return (
        part if len(part) == rows else part.repeat(math.ceil(rows / len(part)), *[1] * (part.ndim - 1))[:rows]
    )


@dataclass(frozen=True)
class _Masked:
    """Clean estimates where a mask is 1, and the latents themselves where it is 0."""

    predict: Guided
    mask: Tensor
    latents: Tensor
    noise: Tensor

    def __call__(self, x: Tensor, sigma: Tensor) -> Tensor:
        """See ``Guided``."""
        kept = 1.0 - self.mask
        x = x * self.mask + (self.noise * _sides(sigma) + self.latents) * kept
        return self.predict(x, sigma) * self.mask + self.latents * kept
