"""Data whose clean estimate is known in closed form, so that a solver's error is its own.

Latents are unscaled, as solvers see them: ``clean + sigma * noise``.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import torch
from comfyui_cascade.samplers.solvers import Solver
from torch import Tensor


def nothing(*_: object) -> None:
    """A callback that keeps silent."""


class OneAtATime:
    """Fresh noise that is 1 in one row of a batch at each call: row i + 1 in call i.

    A solver on Gaussian data is linear, so that each row of its result is what one source of noise comes to.
    """

    def __init__(self, like: Tensor):
        self.like, self.calls = like, 0

    def __call__(self) -> Tensor:
        self.calls += 1
        noise = torch.zeros_like(self.like)
        noise[self.calls] = 1
        return noise


@dataclass(frozen=True, slots=True)
class Gaussian:
    """Independent numbers of zero mean, as different in spread as the frequencies of a picture.

    Attributes:
        spreads: standard deviations, ``n``.
    """

    spreads: Tensor

    @classmethod
    def like_pictures(cls, count: int = 64) -> Gaussian:
        """Variances that fall as 1/k from frequency to frequency, 1 on average."""
        variances = 1 / torch.arange(1, count + 1, dtype=torch.float32)
        return cls((variances / variances.mean()).sqrt())

    def denoise(self, x: Tensor, sigma: Tensor) -> Tensor:
        """The mean of the clean numbers behind noisy ones."""
        return x * self.spreads**2 / (self.spreads**2 + sigma**2)

    def error(self, solver: Solver, sigmas: Tensor) -> float:
        """The distance of what a solver draws from the data: Wasserstein-2, exact, as a share of its spread.

        For deterministic solvers it is also the root mean square error of their results.
        """
        start = torch.zeros(len(sigmas) + 1, len(self.spreads))
        start[0] = (1 + sigmas[0] ** 2).sqrt()
        gains = solver(self.denoise, start, sigmas, OneAtATime(start), nothing)
        drawn = gains.square().sum(0).sqrt()
        return ((drawn - self.spreads).square().mean() / self.spreads.square().mean()).sqrt().item()


class Mixture:
    """Narrow Gaussians around a few points: data that fall into kinds.

    Args:
        kinds: points.
        dimensions: of the space.
        spread: of each Gaussian, where the points' is 1.
        count: numbers drawn in a measurement.
    """

    def __init__(self, kinds: int = 12, dimensions: int = 16, spread: float = 0.15, count: int = 2000):
        generator = torch.Generator().manual_seed(0)
        self.points = torch.randn(kinds, dimensions, generator=generator)
        self.spread, self.count = spread, count
        self.noise = torch.randn(count, dimensions, generator=generator)
        self.directions = torch.nn.functional.normalize(
            torch.randn(dimensions, 64, generator=generator), dim=0
        )

    def denoise(self, x: Tensor, sigma: Tensor) -> Tensor:
        """The mean of the clean points behind noisy ones, ``b n``."""
        variance = self.spread**2 + sigma**2
        nearness = -torch.cdist(x, self.points).square() / (2 * variance)
        middle = nearness.softmax(1) @ self.points
        return middle + (x - middle) * self.spread**2 / variance

    def draw(self, solver: Solver, sigmas: Tensor) -> Tensor:
        """What a solver draws, from the same noise each time."""
        generator = torch.Generator().manual_seed(1)
        start = self.noise * (1 + sigmas[0] ** 2).sqrt()
        return solver(
            self.denoise, start, sigmas, lambda: torch.randn(start.shape, generator=generator), nothing
        )

    @cached_property
    def data(self) -> Tensor:
        """True numbers."""
        generator = torch.Generator().manual_seed(2)
        kinds = torch.randint(len(self.points), (self.count,), generator=generator)
        noise = torch.randn(self.count, self.points.shape[1], generator=generator)
        return self.points[kinds] + self.spread * noise

    def distance(self, drawn: Tensor) -> float:
        """Distance of drawn numbers from true ones: sliced Wasserstein-2.

        Two sets of true numbers are about 0.05 apart.
        """
        first, second = ((numbers @ self.directions).sort(0).values for numbers in (drawn, self.data))
        return (first - second).square().mean().sqrt().item()


def relative(drawn: Tensor, exact: Tensor) -> float:
    """Root mean square error as a share of the spread."""
    return ((drawn - exact).square().mean().sqrt() / exact.std()).item()
