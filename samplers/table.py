"""ComfyUI's noise levels of a cascade: its table of ten thousand, and the schedulers that choose from it.

The same numbers as ``schedule`` and ``spacing`` to six digits, and ComfyUI's own to the bit: everything is
computed in fp32, in the order in which ComfyUI does.

Source: ComfyUI ``comfy/model_sampling.py``, StableCascadeSampling; ``comfy/samplers.py``;
``comfy/k_diffusion/sampling.py``.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property, partial

import torch
from torch import Tensor

from .schedule import MAX_VARIANCE, MIN_VARIANCE, OFFSET

TIMES = 10_000
"""Entries of the table, at equally spaced times."""

NEARLY_ALL = 0.9999
"""A denoise above it draws everything anew."""


@dataclass(frozen=True)
class Table:
    """The noise levels of a stage.

    Attributes:
        shift: of the schedule.
    """

    shift: float = 1.0

    @cached_property
    def _offset(self) -> Tensor:
        return torch.tensor(OFFSET)

    @cached_property
    def _first(self) -> Tensor:
        """Signal variance at time 0, before it is divided by itself."""
        return torch.cos(self._offset / (1 + self._offset) * torch.pi * 0.5) ** 2

    def sigma(self, t: Tensor) -> Tensor:
        """Noise levels at times in [0, 1]."""
        angle = (t + self._offset) / (1 + self._offset) * torch.pi * 0.5
        variance = torch.cos(angle) ** 2 / self._first
        if self.shift != 1.0:
            logsnr = (variance / (1 - variance)).log()
            variance = (logsnr + 2 * torch.log(1.0 / torch.tensor(self.shift))).sigmoid()
        variance = variance.clamp(MIN_VARIANCE, MAX_VARIANCE)
        return ((1 - variance) / variance) ** 0.5

    def time(self, sigma: Tensor) -> Tensor:
        """What a network is told at a noise level: times of the schedule without its shift."""
        variance = (1 / ((sigma * sigma) + 1)).clamp(0, 1.0)
        offset, first = self._offset.to(sigma.device), self._first.to(sigma.device)
        return (((variance * first) ** 0.5).acos() / (torch.pi * 0.5)) * (1 + offset) - offset

    @cached_property
    def sigmas(self) -> Tensor:
        """All levels, rising."""
        times = torch.arange(1, TIMES + 1, dtype=torch.float64) / TIMES
        return self.sigma(times.float())

    def is_highest(self, sigma: Tensor) -> bool:
        """Whether a level is the table's highest, at which latents are taken for pure noise."""
        highest, level = float(self.sigmas[-1]), float(sigma)
        return level > highest or math.isclose(highest, level, rel_tol=1e-5)


Scheduler = Callable[[Table, int], Tensor]
"""A table and a number of steps -> ``steps + 1`` falling sigmas, the last of them 0."""


def _simple(table: Table, steps: int) -> Tensor:
    apart = TIMES / steps
    return _and_zero(torch.stack([table.sigmas[-(1 + int(step * apart))] for step in range(steps)]))


def _at_equal_times(table: Table, steps: int, times: int) -> Tensor:
    """Levels at the first ``steps`` of equally spaced times."""
    first, last = (table.time(table.sigmas[place]) for place in (-1, 0))
    places = torch.linspace(first, last, times)[:steps]
    # One by one, as ComfyUI: many at once may differ in the last bit.
    return _and_zero(torch.stack([table.sigma(t) for t in places]))


def _normal(table: Table, steps: int) -> Tensor:
    return _at_equal_times(table, steps, steps)


def _sgm_uniform(table: Table, steps: int) -> Tensor:
    return _at_equal_times(table, steps, steps + 1)


def _ddim_uniform(table: Table, steps: int) -> Tensor:
    apart = max(TIMES // steps, 1)
    return _and_zero(table.sigmas[1::apart].flip(0))


def _between(curve: Callable[[int, float, float], Tensor], table: Table, steps: int) -> Tensor:
    """Levels that depend on the table's ends alone."""
    return _and_zero(curve(steps, float(table.sigmas[0]), float(table.sigmas[-1])))


def _karras(steps: int, low: float, high: float) -> Tensor:
    start, end = high ** (1 / 7), low ** (1 / 7)
    return (start + torch.linspace(0, 1, steps) * (end - start)) ** 7


def _exponential(steps: int, low: float, high: float) -> Tensor:
    return torch.linspace(math.log(high), math.log(low), steps).exp()


def _and_zero(sigmas: Tensor) -> Tensor:
    return torch.cat([sigmas, sigmas.new_zeros(1)])


SCHEDULERS: dict[str, Scheduler] = {
    "simple": _simple, "sgm_uniform": _sgm_uniform, "karras": partial(_between, _karras),
    "exponential": partial(_between, _exponential), "ddim_uniform": _ddim_uniform, "normal": _normal,
}  # fmt: skip
"""By the names that ComfyUI gives them; those of its schedulers that need no more than torch."""


def levels(table: Table, scheduler: Scheduler, steps: int, denoise: float = 1.0) -> Tensor:
    """The noise levels of a run.

    Args:
        table, scheduler: of the stage.
        steps: number of steps, at least 1.
        denoise: share of the latents that is drawn anew: less than all are the last steps of more.

    Returns:
        ``steps + 1`` falling sigmas; none where nothing is drawn.
    """
    if denoise > NEARLY_ALL:
        return scheduler(table, steps)
    if denoise <= 0:
        return torch.zeros(0)
    return scheduler(table, int(steps / denoise))[-(steps + 1) :]
