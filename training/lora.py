"""A LoRA for Stage C: low-rank changes of frozen weights, and the file that every loader of LoRAs takes.

Source: Hu et al. 2021, "LoRA", equation 3; names as kohya sd-scripts ``networks/lora.py`` writes them.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import Linear
from torch.nn.utils import parametrize

from .settings import Lora
from .stage_c import StageCTask
from .task import Files, as_metadata
from .workspace import Workspace

PREFIX = "lora_unet_"
"""Before each module's name; every loader maps it to Stage C."""


class LowRank(nn.Module):
    """What is added to a weight ``o i``: a product of rank r, scaled by alpha over r, at first nothing.

    Its own weights have the names and shapes that a file has.
    """

    def __init__(self, rows: int, columns: int, lora: Lora):
        super().__init__()
        self.lora_down = Linear(columns, lora.rank, bias=False)
        self.lora_up = Linear(lora.rank, rows, bias=False)
        self.register_buffer("alpha", torch.tensor(lora.alpha))
        self.scale = lora.alpha / lora.rank
        nn.init.kaiming_uniform_(self.lora_down.weight, a=math.sqrt(5))
        nn.init.zeros_(self.lora_up.weight)

    def forward(self, weight: Tensor) -> Tensor:
        return weight + self.scale * (self.lora_up.weight @ self.lora_down.weight)


def add_low_rank(network: nn.Module, lora: Lora) -> dict[str, LowRank]:
    """Freeze a network and let its linear layers change by products; those added, by the layers' names.

    Raises:
        ValueError: no layer is called like a target.
    """
    layers = {
        name: layer
        for name, layer in network.named_modules()
        if isinstance(layer, nn.Linear) and any(target in f"{name}." for target in lora.targets)
    }
    if not layers:
        raise ValueError(
            f"lora.targets are {', '.join(lora.targets)}, and no linear layer is called so; .attn. and "
            ".channelwise. are the largest groups"
        )
    network.requires_grad_(False)
    for layer in layers.values():
        parametrize.register_parametrization(layer, "weight", LowRank(*layer.weight.shape, lora))
    return low_rank_of(network)


def low_rank_of(network: nn.Module) -> dict[str, LowRank]:
    """The products in a network, by the names of its layers."""
    inside = ".parametrizations.weight.0"
    return {
        name.removesuffix(inside): module
        for name, module in network.named_modules()
        if isinstance(module, LowRank)
    }


class LoraTask(StageCTask):
    """Draw what the pictures have in common, a style, with as few changes of a trained Stage C as do."""

    def __init__(self, work: Workspace):
        settings = work.settings
        if not settings.start:
            raise ValueError("a LoRA changes a trained Stage C; name its file in start")
        if settings.objective.train_encoder or settings.objective.reading:
            raise ValueError(
                "a LoRA trains nothing besides itself; set objective.train_encoder to false and "
                "objective.reading to 0"
            )
        super().__init__(work)
        add_low_rank(self.network.stage_c, settings.lora)

    def files(self, network: nn.Module) -> Files:
        changes = nn.ModuleDict()
        for name, change in low_rank_of(network.stage_c).items():
            changes[PREFIX + name.replace(".", "_")] = change
        style = self.settings.data.style
        return {f"lora_{style}" if style else "lora": (changes, self._notes(style))}

    def _notes(self, style: str) -> dict[str, str]:
        """What a file says, to us and, in kohya's and the model specification's words, to others."""
        lora, width = self.settings.lora, self.network.stage_c.config.trunk.down[0].width
        entries: dict[str, Any] = {"style": style, "base": f"Stage C {width} wide"}
        return as_metadata({**entries, **self.settings.recorded}) | {
            "modelspec.architecture": "stable-cascade-v1-prior/lora",
            "modelspec.title": f"{style or 'a'} LoRA",
            "ss_network_module": "networks.lora",
            "ss_network_dim": str(lora.rank),
            "ss_network_alpha": str(lora.alpha),
        }
