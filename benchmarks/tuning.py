"""Find the noise levels of ``spacing.ALIGNED``: ``python -P -m comfyui_cascade.benchmarks.tuning``.

Those with the least error of few steps on data whose clean estimate is known, at the shift of Stage C: the
geometric mean over both kinds of data, two solvers and four numbers of steps. Knots are moved one at a time
by ever smaller moves, as long as the error falls.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
from comfyui_cascade.benchmarks.analytic import Gaussian, Mixture, relative
from comfyui_cascade.samplers.schedule import STAGE_C_SHIFT, logsnr_of_sigma
from comfyui_cascade.samplers.solvers import SOLVERS
from comfyui_cascade.samplers.spacing import along, beta, exponential

STEPS, TUNED_FOR = (5, 8, 12, 20), ("DPM++ 2M", "UniPC")
EXACT_STEPS = 1000
KNOTS = 9
FIRST_MOVE, LAST_MOVE = 0.8, 0.05
ENOUGH = 0.05
"""Added to errors, so that what is small already does not grow smaller at the cost of the rest."""

APART = 0.1
"""Least logSNR between two knots."""


def error_of() -> Callable[[Sequence[float]], float]:
    """A function from knots to the logarithm of their error."""
    data, kinds = Gaussian.like_pictures(), Mixture(count=300)
    exact = kinds.draw(SOLVERS["DPM++ 3M"], exponential(EXACT_STEPS, STAGE_C_SHIFT))

    def error(knots: Sequence[float]) -> float:
        total = 0.0
        for steps in STEPS:
            sigmas = along(tuple(knots), steps, STAGE_C_SHIFT)
            for name in TUNED_FOR:
                total += math.log(ENOUGH + data.error(SOLVERS[name], sigmas))
                total += math.log(ENOUGH + relative(kinds.draw(SOLVERS[name], sigmas), exact))
        return total / (2 * len(STEPS) * len(TUNED_FOR))

    return error


def tuned(error: Callable[[Sequence[float]], float], say: Callable[[str], None]) -> list[float]:
    """The knots, from those of ``beta``."""
    knots = logsnr_of_sigma(beta(KNOTS + 1)[1:-1]).tolist()
    best, move = error(knots), FIRST_MOVE
    while move >= LAST_MOVE:
        before = best
        for place in range(KNOTS):
            for step in (move, -move):
                tried = [*knots[:place], knots[place] + step, *knots[place + 1 :]]
                rises = torch.tensor([-9.21, *tried, 9.21]).diff()
                if rises.min() > APART and (value := error(tried)) < best:
                    knots, best = tried, value
                    break
        if before - best < 0.01:
            move /= 2
        say(f"{math.exp(best) - ENOUGH:.4f} {[round(knot, 2) for knot in knots]}")
    return [round(knot, 2) for knot in knots]


if __name__ == "__main__":
    print(tuned(error_of(), print))
