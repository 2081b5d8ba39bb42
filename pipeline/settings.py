"""How pictures are drawn: what the widgets of Sample Stage C and B (Cascade) say, with the same defaults."""

from __future__ import annotations

import math
from collections.abc import Collection
from dataclasses import dataclass, field

from ..latents.noise import SEEDS
from ..samplers.comfyui import SAMPLERS as HOST_SAMPLERS
from ..samplers.guidance import STAGE_B_CFG, STAGE_C_CFG
from ..samplers.solvers import SOLVERS
from ..samplers.spacing import SPACINGS
from ..samplers.table import SCHEDULERS as HOST_SCHEDULERS

SAMPLERS = HOST_SAMPLERS | SOLVERS
"""By the names that nodes give them: ComfyUI's first, then those of this pack."""

SCHEDULERS = tuple(dict.fromkeys([*HOST_SCHEDULERS, *(name for name in SPACINGS if name != "beta")]))
"""Names likewise. A name that both have is ComfyUI's; its ``beta`` needs ComfyUI."""

DENOISE_OF_PICTURE = 0.85
"""Of Stage C where it starts from a picture, as in the workflow image_to_image."""

NOISES = ("batch", "picture")
"""What noise belongs to: the whole batch, as ComfyUI draws it, or each picture."""


@dataclass(frozen=True, slots=True)
class Sampling:
    """How one stage is sampled.

    Attributes:
        steps: at least 1.
        cfg: guidance scale; 1 turns the negative prompt off.
        sampler: a name in ``SAMPLERS``.
        scheduler: a name in ``SCHEDULERS``.
        denoise: how much of the latents is drawn anew, in [0, 1].
    """

    steps: int
    cfg: float
    sampler: str = "euler"
    scheduler: str = "simple"
    denoise: float = 1.0

    def __post_init__(self):
        if self.steps < 1:
            raise ValueError(f"steps is {self.steps}; a stage needs at least 1")
        if not 0 <= self.cfg <= 100:
            raise ValueError(f"the guidance is {self.cfg}; give a number from 0 to 100, 1 for none")
        if not 0 <= self.denoise <= 1:
            raise ValueError(f"denoise is {self.denoise}; give a number from 0 (keep) to 1 (draw anew)")
        _one_of("sampler", self.sampler, SAMPLERS)
        _one_of("scheduler", self.scheduler, SCHEDULERS)


@dataclass(frozen=True, slots=True)
class Settings:
    """How pictures are drawn.

    Attributes:
        seed: of the noise in both stages.
        stage_c, stage_b: how each is sampled.
        rescale: how far the contrast that guidance adds is taken back, in [0, 1].
        noise: a name in ``NOISES``.
    """

    seed: int = 0
    stage_c: Sampling = field(default_factory=lambda: Sampling(20, STAGE_C_CFG))
    stage_b: Sampling = field(default_factory=lambda: Sampling(10, STAGE_B_CFG))
    rescale: float = 0.0
    noise: str = "batch"

    def __post_init__(self):
        if not 0 <= self.seed < SEEDS - 1:
            raise ValueError(f"the seed is {self.seed}; give a whole number from 0 to {SEEDS - 2}")
        if not 0 <= self.rescale <= 1 or math.isnan(self.rescale):
            raise ValueError(f"rescale is {self.rescale}; give a number from 0 (none) to 1")
        _one_of("noise", self.noise, NOISES)


def _one_of(what: str, given: str, known: Collection[str]) -> None:
    if given not in known:
        raise ValueError(
            f"there is no {what} {given!r} without ComfyUI: choose {', '.join(known)}; ComfyUI's others can "
            "be chosen in its graph"
        )
