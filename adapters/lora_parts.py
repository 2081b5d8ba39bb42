"""What the tensors of one change multiply out to, and how a change of three weights in one is cut.

``Parts`` are the tensors that change one weight; see ``lora_names``. Flattened, a weight is ``o i``, with the
cells of a kernel in ``i``. Source: ComfyUI ``comfy/weight_adapter``, LyCORIS ``functional``.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from .lora_names import Parts

Shape = tuple[int, ...]

_GLORA = ("a1.weight", "a2.weight", "b1.weight", "b2.weight")


def flat_shape(parts: Parts) -> tuple[int, int] | None:
    """Rows and columns of the weight that some parts change; None where they do not say both."""
    if "lora_up.weight" in parts and "lora_down.weight" in parts:
        up, down = parts["lora_up.weight"].flatten(1), parts["lora_down.weight"].flatten(1)
        cells = parts["lora_mid.weight"][0, 0].numel() if "lora_mid.weight" in parts else 1
        return up.shape[0], down.shape[1] * cells
    if "hada_w1_a" in parts and "hada_w1_b" in parts:
        if "hada_t1" in parts:  # here the factors are r o and r i
            cells = parts["hada_t1"][0, 0].numel()
            return parts["hada_w1_a"].shape[1], parts["hada_w1_b"].shape[1] * cells
        return parts["hada_w1_a"].shape[0], parts["hada_w1_b"].shape[1]
    sizes = [_kron_factor(parts, which) for which in ("lokr_w1", "lokr_w2")]
    if all(sizes):
        (rows1, columns1), (rows2, columns2) = sizes
        return rows1 * rows2, columns1 * columns2
    for whole in ("diff", "set_weight"):
        if whole in parts:
            tensor = parts[whole]
            return (tensor.shape[0], tensor[0].numel()) if tensor.ndim else None
    return None


def _kron_factor(parts: Parts, which: str) -> tuple[int, int] | None:
    if which in parts:
        return parts[which].shape[0], parts[which][0].numel()
    a, b = parts.get(f"{which}_a"), parts.get(f"{which}_b")
    if a is None or b is None:
        return None
    if "lokr_t2" in parts and which == "lokr_w2":  # r o and r i
        return a.shape[1], b.shape[1] * parts["lokr_t2"][0, 0].numel()
    return a.shape[0], b.flatten(1).shape[1]


def fits(parts: Parts, shape: Shape, bias: Shape | None) -> bool:
    """Whether parts change a weight of this shape, which has this bias."""
    if "diff_b" in parts and tuple(parts["diff_b"].shape) != bias:
        return False
    rows, columns = shape[0], math.prod(shape[1:])
    if "dora_scale" in parts and parts["dora_scale"].numel() not in (rows, columns, *shape[1:2]):
        return False
    if "oft_blocks" in parts:
        return math.prod(parts["oft_blocks"].shape[-3:-1]) == rows
    if set(_GLORA) <= set(parts):
        a1, a2, b1, b2 = (parts[key].shape for key in _GLORA)
        return rows in (b1[0], b2[0]) and columns in (a1[1], a2[0])
    said = flat_shape(parts)
    return said == (rows, columns) if said else "diff_b" in parts


def completed(parts: Parts) -> Parts:
    """Parts with what the host's adapters need and writers leave out.

    PEFT's magnitudes are ``o``, and the host reads their axis from the shape; its rotations compare a limit
    that nobody has to state.
    """
    scale = parts.get("dora_scale")
    if scale is not None and scale.ndim == 1:
        parts = {**parts, "dora_scale": scale[:, None]}
    if "oft_blocks" in parts and "alpha" not in parts:
        parts = {**parts, "alpha": torch.zeros(())}
    return parts


def cut(parts: Parts, count: int = 3) -> list[Parts] | None:
    """Parts of each of several weights that lie one after the other in the rows of one; None if they are one.

    A magnitude of columns belongs to all rows together, and so does a limit on all rotations together.
    """
    shared = {key: parts[key] for key in ("alpha",) if key in parts}
    rest = {key: tensor for key, tensor in parts.items() if key not in shared}
    if {"lokr_w1", "lokr_w1_a"} & set(rest) and not _divides(rest, count):
        rest = {key: tensor for key, tensor in rest.items() if not key.startswith("lokr_")}
        rest["diff"], shared = _kron(parts), {}
    pieces: list[Parts] = [dict(shared) for _ in range(count)]
    for key, tensor in rest.items():
        if key in _COLUMNS:
            cuts = [tensor] * count
        elif key in _ROWS and tensor.ndim and tensor.shape[0] % count == 0:
            cuts = list(tensor.chunk(count))
        else:
            return None
        for piece, part in zip(pieces, cuts, strict=True):
            piece[key] = part
    limited = "oft_blocks" in rest and float(parts.get("alpha", torch.zeros(()))) > 0
    kept_whole = "dora_scale" in rest and flat_shape(parts) and rest["dora_scale"].shape[0] == 1
    return None if limited or kept_whole else pieces


_ROWS = {
    "lora_up.weight", "hada_w1_a", "hada_w2_a", "lokr_w1", "lokr_w1_a", "oft_blocks", "rescale", "diff",
    "diff_b", "set_weight", "dora_scale",
}  # fmt: skip
_COLUMNS = {"lora_down.weight", "hada_w1_b", "hada_w2_b", "lokr_w1_b", "lokr_w2", "lokr_w2_a", "lokr_w2_b"}


def _divides(parts: Parts, count: int) -> bool:
    first = parts.get("lokr_w1", parts.get("lokr_w1_a"))
    return first is not None and first.shape[0] % count == 0


def _kron(parts: Parts, strength: float = 1.0) -> Tensor:
    """The whole change that factors of a Kronecker product make, ``o i``."""
    rank = None
    factors = []
    for which in ("lokr_w1", "lokr_w2"):
        if which in parts:
            factors.append(parts[which].float())
        else:
            b = parts[f"{which}_b"].float()
            factors.append(parts[f"{which}_a"].float() @ b)
            rank = b.shape[0]
    scale = float(parts["alpha"]) / rank if "alpha" in parts and rank else 1.0
    return (strength * scale) * torch.kron(*factors)


def delta(parts: Parts, shape: Shape, strength: float = 1.0) -> Tensor:
    """What parts add to a weight of a shape, in fp32; for kinds that add the same to any weight.

    The strength and the part's own scale are one number before they touch a tensor, as in the host.

    Raises:
        ValueError: the change depends on the weight, as a rotation or a magnitude does.
    """
    if set(parts) & {"dora_scale", "oft_blocks", "set_weight", *_GLORA}:
        raise ValueError(
            f"a change by {', '.join(sorted(parts))} depends on the weight; apply it with a MODEL"
        )
    if "diff" in parts:
        return strength * parts["diff"].float().reshape(shape)
    if "lokr_w1" in parts or "lokr_w1_a" in parts:
        return _kron(parts, strength).reshape(shape)
    if "hada_w1_a" in parts:
        one, other = (parts[f"hada_w{i}_a"].float() @ parts[f"hada_w{i}_b"].float() for i in (1, 2))
        whole, rank = one * other, parts["hada_w1_b"].shape[0]
    else:
        up, down = parts["lora_up.weight"].float().flatten(1), parts["lora_down.weight"].float().flatten(1)
        middle = parts.get("lora_mid.weight")
        between = (
            torch.einsum("mn...,ni->mi...", middle.float(), down).flatten(1) if middle is not None else down
        )
        whole, rank = up @ between, down.shape[0]
    scale = float(parts["alpha"]) / rank if "alpha" in parts else 1.0
    return ((strength * scale) * whole).reshape(shape)
