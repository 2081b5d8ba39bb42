"""Stability's LoRAs, which list their matrices in the order of the network's modules and name none.

The reference adds a pair of matrices to every module whose name holds one of some words, "filters", which
only its configuration knows. Counts and shapes tell which filters they were.

Source: Stability ``modules/lora.py`` and ``train/train_c_lora.py``.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from itertools import combinations

from torch import Tensor

from ..layers.trunk import Shapes
from .lora_names import Parts

_ENTRY = re.compile(r"weights\.(\d+)\.lora_(up|down)$")

_GROUPS = (
    (".attn", r"\.attention\.attn\."),
    ("kv_mapper", r"\.kv_mapper\."),
    (".channelwise", r"\.channelwise\."),
    (".depthwise", r"\.depthwise\."),
    (".mapper", r"\.mapper(_\w+)?\."),
    ("clip_", r"^clip_"),
    ("embedding", r"^embedding\."),
    ("scalers", r"scalers\."),
    ("clf", r"^clf\."),
)
"""Filters that divide the modules of Stage C between them, each with what the names of its weights hold."""


def pairs_in(tensors: Mapping[str, Tensor]) -> list[tuple[Tensor, Tensor]]:
    """Up and down of each entry of a file, in order.

    Raises:
        ValueError: an entry lacks one of them.
    """
    found: dict[int, dict[str, Tensor]] = {}
    for name, tensor in tensors.items():
        match = _ENTRY.search(name)
        if match:
            found.setdefault(int(match[1]), {})[match[2]] = tensor
    for i in range(len(found)):
        if set(found.get(i, ())) != {"up", "down"}:
            raise ValueError(f"lacks weights.{i}.lora_up or weights.{i}.lora_down; it is damaged")
    return [(found[i]["up"], found[i]["down"]) for i in range(len(found))]


def is_entry(name: str) -> bool:
    """Whether a name is one of these."""
    return bool(_ENTRY.search(name))


def places(shapes: Shapes, sizes: list[tuple[int, int]]) -> list[tuple[str, ...]] | None:
    """The weights that pairs of matrices change.

    Args:
        shapes: of the weights of a Stage C, under our names and in the order of its modules.
        sizes: rows and columns of each pair.

    Returns:
        For each pair the path of one weight, or of query, key and value, which the reference keeps in one;
        None where no filters, or several different ones, give these sizes.
    """
    entries = _entries(shapes)
    fitting = set()
    for count in range(1, len(_GROUPS) + 1):
        for groups in combinations(range(len(_GROUPS)), count):
            chosen = [entry for entry in entries if entry[0] in groups]
            if [size for _, _, size in chosen] == sizes:
                fitting.add(tuple(paths for _, paths, _ in chosen))
    return list(fitting.pop()) if len(fitting) == 1 else None


def _entries(shapes: Shapes) -> list[tuple[int, tuple[str, ...], tuple[int, int]]]:
    """Group, paths and size of every module, in the order in which the reference lists them.

    The projection of query, key and value belongs to the attention itself and follows its child ``out_proj``.
    """
    found: list[tuple[int, tuple[str, ...], tuple[int, int]]] = []
    for name, shape in shapes.items():
        group = next((i for i, (_, pattern) in enumerate(_GROUPS) if re.search(pattern, name)), None)
        if group is None or not name.endswith(".weight") or name.endswith((".to_q.weight", ".to_k.weight")):
            continue
        path = name.removesuffix(".weight")
        if path.endswith(".to_v"):
            continue
        found.append((group, (path,), (shape[0], shape[1])))
        if path.endswith(".attn.out_proj"):
            stem = path.removesuffix("out_proj")
            found.append((group, tuple(f"{stem}to_{one}" for one in "qkv"), (3 * shape[0], shape[1])))
    return found


def as_parts(up: Tensor, down: Tensor, kernel: tuple[int, ...]) -> Parts:
    """One pair as the host has it: alpha is 1, and a kernel's cells all change alike."""
    cells = math.prod(kernel)
    spread = down[:, :, None].expand(*down.shape, cells).flatten(1)
    return {"lora_up.weight": up, "lora_down.weight": spread, "alpha": up.new_ones(())}


def described(sizes: list[tuple[int, int]]) -> str:
    """What network pairs of these sizes were made for, as far as they tell."""
    width = max((rows for rows, columns in sizes if rows == columns), default=0)
    if width and sizes == [(width, width), (3 * width, width)] * (len(sizes) // 2):
        return f"a Stage C {width} wide with {len(sizes) // 2} attention blocks"
    most = max((columns for _, columns in sizes), default=0)
    return f"a Stage C about {most} wide, by {len(sizes)} pairs of matrices"
