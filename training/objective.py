"""What a diffusion stage is asked in training: a noisy latent, its time, and the right answer.

Source: Stability ``train/base.py`` and ``gdf``; Würstchen, section 3.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from ..samplers.schedule import alpha_sigma, logsnr_of_time, time_of_logsnr
from ..samplers.target import velocity
from .draws import Draws
from .settings import Objective

SMALLEST_TIME = 0.001
"""The reference keeps training times above it."""


def draw_times(draws: Draws, objective: Objective, batch: int, each: int = 1) -> Tensor:
    """Times in [0.001, 1], ``each`` for each example, ``b * each``.

    Args:
        draws: source of randomness.
        objective: its ``lean`` and ``stratified`` count.
        batch: examples in the whole step, over which stratified times are spread.
        each: times of an example.

    Source: Stability ``gdf.GDF.diffuse`` with ``train/base.py``, for a lean of 1.
    """
    u = draws.uniform(each)
    if objective.stratified:
        places = torch.tensor([place % batch for place in draws.positions], device=u.device)
        # The times of one example lie far apart, so that its windows differ in noise.
        u = (places[:, None] + batch * torch.arange(each, device=u.device) + u) / (batch * each)
    u = u.flatten()
    return ((1 - u) ** objective.lean + SMALLEST_TIME).clamp(max=1)


def pyramid_noise(draws: Draws, channels: int, height: int, width: int) -> Tensor:
    """Noise with coarser noise mixed in, of unit variance: ``b c h w``.

    Level i is noise of 2^i times fewer cells along a side, enlarged, with a share of 0.75^i; levels of 1 to
    16 cells count. Source: Stability ``train/train_b.py``; its coarse noise is square whatever the picture,
    ours has the picture's shape.
    """
    noise, variance = draws.normal(channels, height, width), 1.0
    for level in range(1, 10):
        rows, columns = height // 2**level, width // 2**level
        if min(rows, columns) < 1:
            break
        if max(rows, columns) <= 16:
            coarse = functional.interpolate(draws.normal(channels, rows, columns), (height, width))
            noise = noise + 0.75**level * coarse
            variance += 0.75 ** (2 * level)
    return noise / variance**0.5


def draw_noise(draws: Draws, objective: Objective, shape: tuple[int, ...]) -> Tensor:
    """The noise to add to latents of ``shape`` ``b c h w``."""
    channels, height, width = shape[1:]
    if objective.pyramid_noise:
        return pyramid_noise(draws, channels, height, width)
    noise = draws.normal(channels, height, width)
    if objective.offset_noise:
        noise = noise + objective.offset_noise * draws.normal(channels, 1, 1)
    return noise


def question(
    clean: Tensor, noise: Tensor, times: Tensor, objective: Objective
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """What the network sees and what it should say.

    Args:
        clean: latents, ``b c h w``.
        noise: same shape.
        times: ``b``.
        objective: its ``prediction`` and ``shift`` count.

    Returns:
        Noisy latents; the times to tell the network; the right prediction; logSNR ``b``.
    """
    # In fp32 whatever the latents are in: at t = 1 the signal is a hundredth of the noise.
    clean, noise = clean.float(), noise.float()
    logsnr = logsnr_of_time(times, objective.shift)
    alpha, sigma_vp = (factor.view(-1, 1, 1, 1).to(clean.device) for factor in alpha_sigma(logsnr))
    answers = {
        "noise": noise,
        "clean": clean,
        "velocity": velocity(clean, noise, alpha, sigma_vp),
    }
    return (
        alpha * clean + sigma_vp * noise,
        time_of_logsnr(logsnr),
        answers[objective.prediction],
        logsnr,
    )


def squared_error(
    prediction: Tensor, answer: Tensor, regions: Tensor | None = None, region_weight: float = 1.0
) -> Tensor:
    """Mean squared error of each example, ``b``.

    Args:
        prediction, answer: ``b c h w``.
        regions: 1 in cells that count ``region_weight`` times, ``b 1 h w``.
    """
    error = (prediction.float() - answer.float()).square().mean(dim=1, keepdim=True)
    if regions is None:
        return error.mean(dim=(1, 2, 3))
    weights = 1 + (region_weight - 1) * regions
    return (error * weights).sum(dim=(1, 2, 3)) / weights.sum(dim=(1, 2, 3))


class ConstantWeight:
    """Every noise level counts the same."""

    def __call__(self, logsnr: Tensor) -> Tensor:
        return torch.ones_like(logsnr)

    def update(self, logsnr: Tensor, loss: Tensor) -> None:
        """Nothing to learn."""

    def state(self) -> list[float]:
        """Nothing to keep."""
        return []

    def restore(self, state: list[float]) -> None:
        """Nothing to take back."""


class P2Weight(ConstantWeight):
    """``1 / (1 + SNR)``: less weight on levels with little noise.

    Source: Choi et al. 2022, "Perception Prioritized Training", equation 8 with k = gamma = 1.
    """

    def __call__(self, logsnr: Tensor) -> Tensor:
        return 1 / (1 + logsnr.exp())


class AdaptiveWeight(ConstantWeight):
    """The inverse of the loss that a noise level had lately, in 300 buckets of logSNR.

    Source: Stability ``gdf/loss_weights.py``, ``AdaptiveLossWeight``.
    """

    BUCKETS, LOWEST, HIGHEST, MOMENTUM = 300, -10.0, 10.0, 0.99

    def __init__(self):
        self.edges = torch.linspace(self.LOWEST, self.HIGHEST, self.BUCKETS - 1)
        self.losses = torch.ones(self.BUCKETS)

    def __call__(self, logsnr: Tensor) -> Tensor:
        bucket = torch.searchsorted(self.edges, logsnr.cpu().float())
        return (1 / self.losses[bucket]).clamp(1e-7, 1e7).to(logsnr)

    def update(self, logsnr: Tensor, loss: Tensor) -> None:
        """Let each example's loss move its bucket by a hundredth; of two in one bucket the last counts."""
        buckets = torch.searchsorted(self.edges, logsnr.cpu().float()).tolist()
        before = self.losses.clone()
        for bucket, value in zip(buckets, loss.detach().cpu().float().tolist(), strict=True):
            self.losses[bucket] = before[bucket] * self.MOMENTUM + value * (1 - self.MOMENTUM)

    def state(self) -> list[float]:
        """The buckets."""
        return self.losses.tolist()

    def restore(self, state: list[float]) -> None:
        """Take the buckets of a checkpoint."""
        self.losses = torch.tensor(state)


LEVEL_WEIGHTS: dict[str, type[ConstantWeight]] = {
    "constant": ConstantWeight,
    "p2": P2Weight,
    "adaptive": AdaptiveWeight,
}
"""Weights over noise levels by their names in a run's settings."""
