"""One set of names for weights that three programs spell differently.

Ours are Stability's names with ComfyUI's separate attention projections. Everything here returns views of
what it is given and copies no weights.

Source: diffusers ``loaders/single_file_utils.py``, ComfyUI ``comfy/supported_models.py``.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import Enum
from typing import TypeVar

from torch import Tensor

from ..layers.trunk import Shapes

WRAPPERS = ("model.diffusion_model.", "diffusion_model.", "_orig_mod.", "module.", "model.")
"""Prefixes that programs put in front of every name: ComfyUI, torch.compile, data-parallel training."""

MOST_WRAPPERS = 8
"""That are taken off; a name may be made of nothing else."""


class Layout(str, Enum):
    """Whose names a file has."""

    STABILITY = "stability"
    DIFFUSERS = "diffusers"
    COMFYUI = "comfyui"


_PACKED = ".attn.in_proj_"
_ENDINGS = (
    (".attention.to_q.", ".attention.attn.to_q."),
    (".attention.to_k.", ".attention.attn.to_k."),
    (".attention.to_v.", ".attention.attn.to_v."),
    (".attention.to_out.0.", ".attention.attn.out_proj."),
)


def wrapper(names: Iterable[str]) -> str:
    """The prefix, of one or more wrappers, that all names share; "" for none."""
    names, found = list(names), ""
    for _ in range(MOST_WRAPPERS if names else 0):
        shared = (w for w in WRAPPERS if all(name.startswith(found + w) for name in names))
        prefix = next(shared, "")
        if not prefix:
            break
        found += prefix
    return found


def shapes(weights: Mapping[str, Tensor]) -> Shapes:
    """Shape of each weight."""
    return {key: tuple(tensor.shape) for key, tensor in weights.items()}


@dataclass(frozen=True, slots=True)
class Source:
    """Where one of our weights lies in a file: in a tensor, or in one third of it, or turned."""

    name: str
    third: int | None = None
    turned: bool = False

    def of(self, tensor: Tensor) -> Tensor:
        """The weight, as a view of what lies in the file."""
        if self.third is not None:
            return tensor.chunk(3)[self.third]
        return tensor.t() if self.turned else tensor

    def shape_of(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """The weight's shape, from that of what lies in the file."""
        if self.third is not None:
            return (shape[0] // 3, *shape[1:]) if shape else ()
        return shape[::-1] if self.turned else shape


def _sources(names: Iterable[str]) -> dict[str, Source]:
    """For each of our names, where it lies in the weights of one network."""
    names = list(names)
    prefix = wrapper(names)
    stage_b = f"{prefix}effnet_mapper.0.weight" in names
    found: dict[str, Source] = {}
    for name in names:
        key = name[len(prefix) :]
        if _PACKED in key:  # Stability's projection, in the order q, k, v
            path, kind = key.split("in_proj_", 1)
            found |= {f"{path}to_{part}.{kind}": Source(name, third=i) for i, part in enumerate("qkv")}
        elif key == "text_projection":  # OpenCLIP's
            found["text_projection.weight"] = Source(name, turned=True)
        else:
            found[_renamed(key, stage_b)] = Source(name)
    return found


def to_native(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The weights of one network under our names, as views.

    Takes Stability's, diffusers', ComfyUI's and our own names, wrapped or not. Names it does not know
    pass as they are.
    """
    return {key: source.of(weights[source.name]) for key, source in _sources(weights).items()}


def native_shapes(every: Shapes) -> Shapes:
    """The shapes that ``to_native`` would give, without any weights."""
    return {key: source.shape_of(every[source.name]) for key, source in _sources(every).items()}


def _renamed(key: str, stage_b: bool) -> str:
    for theirs, ours in _ENDINGS:
        key = key.replace(theirs, ours)
    if stage_b and key.startswith("clip_txt_pooled_mapper."):
        return key.replace("clip_txt_pooled_mapper.", "clip_mapper.")
    return key.replace("vquantizer.embedding.", "vquantizer.codebook.")


Weight = TypeVar("Weight")


def from_native(weights: Mapping[str, Weight], layout: Layout) -> dict[str, tuple[Weight, ...]]:
    """The weights of one network under a layout's names.

    Args:
        weights: under our names; tensors, or anything that stands for them.
        layout: whose names to give; ComfyUI's are ours.

    Returns:
        For each name the weights that lie in it one after the other, along their first axis.
    """
    match layout:
        case Layout.STABILITY:
            return _packed(weights)
        case Layout.DIFFUSERS:
            stage_b = "effnet_mapper.0.weight" in weights
            return {_as_diffusers(key, stage_b): (weight,) for key, weight in weights.items()}
        case Layout.COMFYUI:
            return {key: (weight,) for key, weight in weights.items()}


def _packed(weights: Mapping[str, Weight]) -> dict[str, tuple[Weight, ...]]:
    packed: dict[str, tuple[Weight, ...]] = {}
    for key, weight in weights.items():
        path, projection, kind = key.partition(".attention.attn.to_q.")
        if projection:
            stem = f"{path}.attention.attn."
            packed[f"{stem}in_proj_{kind}"] = tuple(weights[f"{stem}to_{name}.{kind}"] for name in "qkv")
        elif ".attention.attn.to_" not in key:
            packed[key] = (weight,)
    return packed


def _as_diffusers(key: str, stage_b: bool) -> str:
    for theirs, ours in _ENDINGS:
        key = key.replace(ours, theirs)
    if stage_b and key.startswith("clip_mapper."):
        return key.replace("clip_mapper.", "clip_txt_pooled_mapper.")
    return key.replace("vquantizer.codebook.", "vquantizer.embedding.")
