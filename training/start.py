"""New networks: their initial weights."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ..checkpoints.identify import Part
from ..checkpoints.open import NETWORKS, load_part
from ..layers.blocks import ResBlock
from ..stage_a import StageA
from ..stage_a.model import STAGE_B_SCALE
from ..stage_a.model import ResBlock as StageABlock
from ..stage_b import StageB
from ..stage_c import StageC
from .settings import from_table

OPEN_GAINS = (0.0, 0.0, 0.3, 0.0, 0.0, 0.3)
"""Stage A's branches begin a little open; the reference's zeros leave them dead for a short run."""


def network_of(part: Part, sizes: dict[str, Any], start: str, base: Path) -> nn.Module:
    """A network to train: the one in a file, or a new one of the given sizes.

    Args:
        part: which.
        sizes: as its configuration names them; not used with ``start``.
        start: a file, relative to ``base``; empty for a new network.
        base: folder of the run.

    Raises:
        ValueError: the file is not there or of another part, or the sizes are not whole.
    """
    if start:
        if not (base / start).exists():
            raise ValueError(
                f"{base / start} is not there; correct start, or train or download the file first"
            )
        return load_part(base / start, part).float().train()
    network_class, config_class = NETWORKS[part]
    network = network_class(from_table(config_class, sizes, f"network ({part.value})"))
    return INITIALISE.get(part, lambda new: new)(network).train()


def _diffusion_stage(network: StageB | StageC) -> nn.Module:
    """Small maps of the conditions, blocks that begin as nothing much, a head that begins at zero.

    Source: Stability ``modules/stage_c.py`` and ``stage_b.py``, ``_init_weights``. Theirs also begins with
    an input convolution a fiftieth as large, which a learning rate above 1e-4 overwrites in its first steps.
    """
    for module in network.modules():
        if isinstance(module, nn.Conv2d | nn.Linear | nn.ConvTranspose2d):
            nn.init.xavier_uniform_(module.weight)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
    for name, module in network.named_modules():
        if name.startswith("clip_") and isinstance(module, nn.Linear):
            nn.init.normal_(module.weight, std=0.02)
        elif name.startswith(("effnet_mapper", "pixels_mapper")) and isinstance(module, nn.Conv2d):
            nn.init.normal_(module.weight, std=0.1)
        elif ".mapper" in name and isinstance(module, nn.Linear):
            nn.init.zeros_(module.weight)  # the time changes nothing at first
    nn.init.zeros_(network.clf[1].weight)
    depth = sum(level.depth for level in network.config.trunk.down)
    with torch.no_grad():
        for module in network.modules():
            if isinstance(module, ResBlock):
                module.channelwise[-1].weight *= depth**-0.5
    return network


def _stage_a(network: StageA) -> nn.Module:
    """Open branches, and a last norm whose gain makes latents of unit variance after Stage B's scale."""
    for module in network.modules():
        if isinstance(module, StageABlock):
            module.gammas.data = torch.tensor(OPEN_GAINS)
    norm = network.down_blocks[-1][1]
    norm.weight.data.fill_(STAGE_B_SCALE)
    norm.weight.requires_grad_(False)
    norm.bias.requires_grad_(False)
    if network.config.codebook_size:
        nn.init.uniform_(network.vquantizer["codebook"].weight, -STAGE_B_SCALE, STAGE_B_SCALE)
    return network


INITIALISE: dict[Part, Callable[[Any], nn.Module]] = {
    Part.STAGE_A: _stage_a,
    Part.STAGE_B: _diffusion_stage,
    Part.STAGE_C: _diffusion_stage,
}
"""Parts that need more than torch's own initial weights."""
