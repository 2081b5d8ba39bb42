"""A LoRA added to the weights of a network in plain torch, for what runs without the host."""

from __future__ import annotations

import torch
from torch import nn

from .lora import Lora
from .lora_parts import delta


@torch.no_grad()
def merge(network: nn.Module, lora: Lora, strength: float = 1.0) -> None:
    """Add the changes of a LoRA to a network's own weights, for good.

    Args:
        network: that the LoRA was fitted to.
        lora: its changes of the stage.
        strength: how much of them.

    Raises:
        ValueError: a change depends on the weight; see ``lora_parts.delta``.
    """
    for path in lora.changed:
        starts = f"{path}."
        parts = {key[len(starts) :]: value for key, value in lora.stage.items() if key.startswith(starts)}
        bias = parts.pop("diff_b", None)
        if bias is not None:
            network.get_parameter(f"{path}.bias").add_(strength * bias)
        if parts:
            target = path if path in dict(network.named_parameters()) else f"{path}.weight"
            weight = network.get_parameter(target)
            weight.add_(delta(parts, tuple(weight.shape), strength).to(weight))
