"""Guidance: away from what a prompt does not say, towards what it says."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial

from torch import Tensor

STAGE_C_CFG, STAGE_B_CFG = 4.0, 1.0
"""Defaults. Stability samples Stage B at 1.1, which doubles its cost for a difference hard to see."""

RHO = 0.7
"""The reference's share of ``rescale``."""


def guide(conditional: Tensor, unconditional: Tensor, cfg: float) -> Tensor:
    """Extrapolate from the unconditional to the conditional prediction; Ho & Salimans 2022, equation 6."""
    return unconditional + cfg * (conditional - unconditional)


def rescale(guided: Tensor, conditional: Tensor, rho: float) -> Tensor:
    """Give the guided prediction, in part, the spread of the conditional one.

    The spread is the standard deviation of the whole batch, as in the reference, so that a picture depends
    on what it shares a batch with; ``rescale_each`` avoids that.

    Args:
        guided, conditional: noise predictions.
        rho: share of the rescaled prediction, in [0, 1]; the reference's default is 0.7.

    Source: Stability ``gdf/__init__.py``; after Lin et al. 2023, section 3.4.
    """
    spread = conditional.std() / (guided.std() + 1e-9)
    return rho * guided * spread + (1 - rho) * guided


def rescale_each(guided: Tensor, conditional: Tensor, rho: float) -> Tensor:
    """``rescale`` with the spread of each picture of the batch."""
    sides = tuple(range(1, guided.ndim))
    spread = conditional.std(sides, keepdim=True) / (guided.std(sides, keepdim=True) + 1e-9)
    return rho * guided * spread + (1 - rho) * guided


RESCALES = {"batch": rescale, "picture": rescale_each}
"""Over what the spread is taken, by the names that nodes give it."""


def _dot(first: Tensor, second: Tensor) -> Tensor:
    """Inner product of each picture, ``b 1 1 1``."""
    return (first * second).sum(tuple(range(1, first.ndim)), keepdim=True)


def without_part_along(one: Tensor, other: Tensor) -> Tensor:
    """What of a tensor is at right angles to another, for each picture."""
    return one - _dot(one, other) / _dot(other, other).clamp(min=1e-12) * other


# Each takes the latents and two noise predictions, both times sigma, and the scale; x - noise is clean.
Method = Callable[[Tensor, Tensor, Tensor, float], Tensor]


def plain(x: Tensor, conditional: Tensor, unconditional: Tensor, cfg: float) -> Tensor:
    """``guide``."""
    return guide(conditional, unconditional, cfg)


def projected(
    x: Tensor, conditional: Tensor, unconditional: Tensor, cfg: float, *, parallel: float = 0.0,
    largest: float = 0.0,
) -> Tensor:  # fmt: skip
    """Guidance without its part along the conditional clean estimate, which oversaturates at high scales.

    Args:
        x, conditional, unconditional, cfg: see ``Method``.
        parallel: share of that part that stays, in [0, 1]; 1 is ``guide``.
        largest: root mean square of the difference beyond which it is shortened; 0 for no limit.

    Source: Sadat et al. 2024, "Eliminating Oversaturation and Artifacts of High Guidance Scales", section 4;
    its momentum is left out, because it needs a memory from step to step.
    """
    difference = unconditional - conditional  # of clean estimates, conditional minus unconditional
    if largest:
        size = (_dot(difference, difference) / difference[0].numel()).sqrt()
        difference = difference * (largest / size.clamp(min=1e-12)).clamp(max=1)
    across = without_part_along(difference, x - conditional)
    update = across + parallel * (difference - across)
    return conditional - (cfg - 1) * update


def scaled(x: Tensor, conditional: Tensor, unconditional: Tensor, cfg: float) -> Tensor:
    """Guidance from the unconditional prediction at the length at which it is nearest to the conditional.

    Source: Fan et al. 2025, "CFG-Zero*", equation 8; its skipped first steps are left out.
    """
    nearest = _dot(conditional, unconditional) / _dot(unconditional, unconditional).clamp(min=1e-12)
    return guide(conditional, nearest * unconditional, cfg)


METHODS: dict[str, Method] = {
    "cfg": plain, "projected (APG)": partial(projected, largest=1.0), "scaled (CFG-Zero)": scaled,
}  # fmt: skip
"""By the names that nodes give them."""

POSITIVE, NEGATIVE, EMPTY, TEXT = "positive", "negative", "empty", "text"
"""Predictions: with the prompt, with the negative one, with neither, and with the prompt's text but without
its image prompts."""


@dataclass(frozen=True, slots=True)
class Guidance:
    """How predictions become one, at each time of a run.

    Attributes:
        cfg: scale; 1 is the prediction with the prompt alone, and needs no other.
        cfg_end: scale at time 0, reached along a straight line in time; None for a constant one.
        start, end: times in [0, 1] between which there is guidance; outside the scale is 1.
        rho: see ``rescale``; 0 for none.
        rescale: over the batch, as the reference, or each picture.
        method: how two predictions become one.
        negative_strength: of a negative prompt that acts only at right angles to the prompt, beside an empty
            one that takes its place; None for the usual negative prompt.
        cfg_image: scale of image prompts, apart from the text's; None for one scale of both.
    """

    cfg: float = STAGE_C_CFG
    cfg_end: float | None = None
    start: float = 1.0
    end: float = 0.0
    rho: float = 0.0
    rescale: Callable[[Tensor, Tensor, float], Tensor] = rescale
    method: Method = plain
    negative_strength: float | None = None
    cfg_image: float | None = None

    def scale(self, t: float) -> float:
        """Of the text at a time of the sampler; 1 where there is no guidance."""
        if not self.end <= t <= self.start:
            return 1.0
        return self.cfg if self.cfg_end is None else self.cfg * t + self.cfg_end * (1 - t)

    def needed(self, t: float) -> tuple[str, ...]:
        """The predictions that count at a time."""
        images = self.cfg_image is not None and self.end <= t <= self.start
        if self.scale(t) == 1 and (not images or self.cfg_image == 1):
            return (POSITIVE,)
        away = (NEGATIVE,) if self.negative_strength is None else (EMPTY, NEGATIVE)
        return (POSITIVE, *away, *([TEXT] if images else []))

    def __call__(self, x: Tensor, t: float, noises: Mapping[str, Tensor]) -> Tensor:
        """The guided noise prediction.

        Args:
            x: unscaled latents.
            t: time of the sampler.
            noises: the predictions of ``needed``, times sigma.

        Source: of the perpendicular negative Armandpour et al. 2023, "Perp-Neg", equation 5; of two scales
        Brooks et al. 2023, "InstructPix2Pix", equation 3.
        """
        conditional = noises[POSITIVE]
        if NEGATIVE not in noises:
            return conditional
        scale, base = self.scale(t), noises[NEGATIVE]
        towards = noises.get(TEXT, conditional)
        if self.negative_strength is not None:
            base = noises[EMPTY]
            aside = without_part_along(noises[NEGATIVE] - base, towards - base)
            guided = self.method(x, towards, base, scale) - scale * self.negative_strength * aside
        else:
            guided = self.method(x, towards, base, scale)
        if TEXT in noises:
            guided = guided + self.cfg_image * (conditional - towards)
        return self.rescale(guided, conditional, self.rho) if self.rho else guided
