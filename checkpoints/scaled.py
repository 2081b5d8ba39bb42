"""Weights that a file holds in eight bits, with a factor beside each that brings it back to its size.

Source: ComfyUI ``comfy/utils.py`` (convert_old_quants) and ``comfy/ops.py``; the older spelling of the factor
is ``scale_weight``, the present one ``weight_scale``.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

SCALES = ("scale_weight", "weight_scale")
_BESIDE = (*SCALES, "scale_input", "input_scale", "comfy_quant", "scaled_fp8")
_UNKNOWN = ("weight_scale_2", "pre_quant_scale")


def is_scaled(names: Iterable[str]) -> bool:
    """Whether any of these weights has a factor beside it."""
    return any(name.rpartition(".")[2] in (*SCALES, *_UNKNOWN) for name in names)


@dataclass(frozen=True, slots=True)
class Scaled:
    """A weight and its factor, None for 1."""

    tensor: Tensor
    scale: Tensor | None = None

    def to(self, dtype: torch.dtype) -> Tensor:
        """The weight itself; multiplied in 32 bits."""
        if self.scale is None:
            return self.tensor.to(dtype)
        return (self.tensor.float() * self.scale.to(self.tensor.device, torch.float32)).to(dtype)


def with_scales(weights: Mapping[str, Tensor]) -> dict[str, Scaled]:
    """Each weight with its factor; the factors are no entries of their own any more.

    Raises:
        ValueError: weights are stored in a way that is not one factor for each.
    """
    found: dict[str, Scaled] = {}
    for key, tensor in weights.items():
        path, _, last = key.rpartition(".")
        if last in _UNKNOWN:
            raise ValueError(f"{key} belongs to a way of storing weights that this pack cannot undo")
        if last in _BESIDE:
            continue
        scale = next((weights[f"{path}.{name}"] for name in SCALES if f"{path}.{name}" in weights), None)
        if scale is None or last != "weight":
            found[key] = Scaled(tensor)
        elif scale.numel() == 1 and scale.dtype.itemsize > 1 and tensor.is_floating_point():
            found[key] = Scaled(tensor, scale.reshape(()))
        else:
            raise ValueError(
                f"{key} is stored with {scale.numel()} factors, and this pack undoes one for each weight: "
                "choose a file in bf16, fp16 or fp32"
            )
    return found


def plain(weights: Mapping[str, Tensor], dtype: torch.dtype = torch.bfloat16) -> dict[str, Tensor]:
    """Weights multiplied by their factors, in a precision that holds them; others as they are."""
    if not is_scaled(weights):
        return dict(weights)
    return {
        key: scaled.tensor if scaled.scale is None else scaled.to(dtype)
        for key, scaled in with_scales(weights).items()
    }


def stored_in(tensor: Tensor, dtype: torch.dtype | None) -> torch.dtype:
    """The precision in which one tensor of a model is stored.

    Args:
        tensor: on any device.
        dtype: of the model; None for each tensor's own. One of eight bits is for matrices: biases and gains
            are few and weigh more.
    """
    if dtype is None or not tensor.is_floating_point():
        return tensor.dtype
    if dtype.itemsize == 1 and tensor.numel() == max(tensor.shape, default=1):
        return tensor.dtype if tensor.dtype.itemsize > 1 else torch.bfloat16
    return dtype
