"""In which precision a model's weights are kept, and in which one it computes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import comfy.model_management
import comfy.ops
import comfy.utils
import torch
from torch import Tensor, nn

from ...checkpoints.scaled import stored_in
from .networks import HalfLayers

DEFAULT, AS_IN_FILE = "default", "as in file"

DTYPES = {
    "fp32": torch.float32,
    "bf16": torch.bfloat16,
    "fp16": torch.float16,
    "fp8_e4m3fn": torch.float8_e4m3fn,
    "fp8_e5m2": torch.float8_e5m2,
}

CHOICES = (DEFAULT, AS_IN_FILE, *DTYPES)
"""What a loader offers."""

SUPPORTED = [torch.bfloat16, torch.float16, torch.float32]
"""What the stages compute in, best first: bf16 where the device has it, else fp16 in layers that do not
overflow."""


def dtype_of(choice: str, weights: Mapping[str, Tensor]) -> torch.dtype | None:
    """What a choice comes to for some weights; None where the host decides."""
    return comfy.utils.weight_dtype(weights) if choice == AS_IN_FILE else DTYPES.get(choice)


class Precision(NamedTuple):
    """How a model is kept and computes.

    Attributes:
        storage: of its matrices; None for each as it is.
        weights: what the host is told that the weights are.
        compute: of its activations, where that differs from the weights.
        layers: of ``comfy.ops``; None for those that the host picks.
    """

    storage: torch.dtype | None
    weights: torch.dtype
    compute: torch.dtype | None
    layers: Any

    def kept(self, tensor: Tensor) -> torch.dtype:
        """The precision in which one tensor of the model is kept."""
        return stored_in(tensor, self.storage)

    def tell_host(self, network: nn.Module) -> None:
        """Note on each layer the precision of its weights, where the host's weight streaming looks for it."""
        for module in network.modules():
            for name, tensor in module.named_parameters(recurse=False):
                setattr(module, f"{name}_comfy_model_dtype", self.kept(tensor))


def precision(choice: str, weights: Mapping[str, Tensor], device: torch.device) -> Precision:
    """What a choice comes to for some weights on a device.

    ``default`` is what the host would take, its command line's flags included. fp16 activations overflow in
    Stage C and may in Stage B, so fp16 always means wide activations around products in fp16.
    """
    management = comfy.model_management
    in_file = comfy.utils.weight_dtype(weights)
    if choice == DEFAULT:
        count = comfy.utils.calculate_parameters(weights)
        storage = management.unet_dtype(device, count, SUPPORTED, in_file)
    else:
        storage = DTYPES.get(choice)
    main = storage or in_file
    compute = management.unet_manual_cast(main, device, SUPPORTED)
    if torch.float16 in (DTYPES.get(choice), compute or main):
        return Precision(storage, main, torch.float32, HalfLayers)
    if storage is None and len({tensor.dtype for tensor in weights.values()}) > 1:
        return Precision(storage, main, compute or main, comfy.ops.manual_cast)
    return Precision(storage, main, compute, None)
