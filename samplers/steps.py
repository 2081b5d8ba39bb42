"""One step from a noise level to the next, given the clean estimate and the noise.

All have the same form. ``fresh`` is unit noise of the latent's shape, which deterministic steps ignore.
Source: Stability ``gdf/samplers.py``.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor

from .schedule import alpha_sigma

Step = Callable[[Tensor, Tensor, Tensor, Tensor, Tensor], Tensor]


def _ddim(clean: Tensor, noise: Tensor, now: Tensor, then: Tensor, fresh: Tensor, eta: float) -> Tensor:
    alpha, sigma_vp = alpha_sigma(now)
    next_alpha, next_sigma = alpha_sigma(then)
    spread = eta * (next_sigma / sigma_vp) * (1 - alpha**2 / next_alpha**2).clamp(min=0).sqrt()
    return next_alpha * clean + (next_sigma**2 - spread**2).clamp(min=0).sqrt() * noise + spread * fresh


def with_eta(eta: float) -> Step:
    """DDIM with a share of the posterior's fresh noise, in [0, 1]; Song et al. 2021, equation 16."""
    return partial(_ddim, eta=eta)


def ddim(clean: Tensor, noise: Tensor, now: Tensor, then: Tensor, fresh: Tensor) -> Tensor:
    """Deterministic; Song et al. 2021, equation 12 with eta 0."""
    return _ddim(clean, noise, now, then, fresh, eta=0.0)


def ddpm(clean: Tensor, noise: Tensor, now: Tensor, then: Tensor, fresh: Tensor) -> Tensor:
    """Ancestral: as much fresh noise as the posterior has. The reference's default; eta 1."""
    return _ddim(clean, noise, now, then, fresh, eta=1.0)


def lcm(clean: Tensor, noise: Tensor, now: Tensor, then: Tensor, fresh: Tensor) -> Tensor:
    """All noise is fresh; for networks distilled to few steps."""
    next_alpha, next_sigma = alpha_sigma(then)
    return next_alpha * clean + next_sigma * fresh


STEPS: dict[str, Step] = {"ddpm": ddpm, "ddim": ddim, "lcm": lcm}


def draw(like: Tensor, generator: torch.Generator) -> Tensor:
    """Unit noise like a tensor, drawn on the CPU so that a seed means the same on every device."""
    return torch.randn(like.shape, generator=generator, dtype=torch.float32).to(like.device)
