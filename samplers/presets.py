"""Settings that reproduce the programs that sample the cascade, and our own.

What differs between them: how far guidance is rescaled, whether Stage B is guided, how far the noise levels
of Stage C are shifted, and how a run begins and ends.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from .guidance import RHO, STAGE_C_CFG
from .schedule import STAGE_B_SHIFT, STAGE_C_SHIFT


@dataclass(frozen=True, slots=True)
class StagePreset:
    """One stage: how many steps, how strongly guided, at which shift, spaced how (see ``SPACINGS``)."""

    steps: int
    cfg: float
    shift: float
    spacing: str = "cosine"


@dataclass(frozen=True, slots=True)
class Preset:
    """A program's way to sample.

    Attributes:
        stage_c, stage_b: what is of one stage.
        sampler: a name in ``solvers.SOLVERS``, or one of ComfyUI's.
        rho: of the guidance; see ``guidance.rescale``.
        told_one: tell the network a time of 1 at the first step, and not that of the clamped schedule.
    """

    stage_c: StagePreset
    stage_b: StagePreset
    sampler: str = "DDPM"
    rho: float = 0.0
    told_one: bool = False


_C = StagePreset(20, STAGE_C_CFG, STAGE_C_SHIFT)
_B = StagePreset(10, 1.1, STAGE_B_SHIFT)

PRESETS: dict[str, Preset] = {
    "recommended": Preset(_C, _B),
    "fast": Preset(
        replace(_C, steps=10), StagePreset(5, 1.0, STAGE_B_SHIFT, spacing="beta"), sampler="UniPC"
    ),
    "Stability": Preset(_C, _B, rho=RHO),
    "ComfyUI": Preset(
        replace(_C, spacing="simple"), replace(_B, spacing="simple"), sampler="euler_ancestral"
    ),
    "diffusers": Preset(
        replace(_C, shift=1.0), replace(_B, cfg=1.0), sampler="DDPM of diffusers", told_one=True
    ),
}
"""By the names that nodes give them. ComfyUI's sampler is the one that its examples were published with."""
