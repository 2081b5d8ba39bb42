"""Classifier-free guidance."""

from __future__ import annotations

from torch import Tensor

STAGE_C_CFG, STAGE_B_CFG = 4.0, 1.0
"""Defaults. Stability samples Stage B at 1.1, which doubles its cost for a difference hard to see."""


def guide(conditional: Tensor, unconditional: Tensor, cfg: float) -> Tensor:
    """Extrapolate from the unconditional to the conditional prediction; Ho & Salimans 2022, equation 6."""
    return unconditional + cfg * (conditional - unconditional)


def rescale(guided: Tensor, conditional: Tensor, rho: float) -> Tensor:
    """Give the guided prediction, in part, the spread of the conditional one.

    The spread is the standard deviation of the whole batch, as in the reference, so that a picture depends
    on what it shares a batch with.

    Args:
        guided, conditional: noise predictions.
        rho: share of the rescaled prediction, in [0, 1]; the reference's default is 0.7.

    Source: Stability ``gdf/__init__.py``; after Lin et al. 2023, section 3.4.
    """
    spread = conditional.std() / (guided.std() + 1e-9)
    return rho * guided * spread + (1 - rho) * guided
