"""Metadata as a tensor, for programs that write files and leave metadata out.

ComfyUI's saving nodes ask a model for its weights and write metadata of their own. A model of ours adds one
more tensor to its weights: the ``cascade.*`` entries as JSON, byte by byte.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from .header import Header

NAME = "cascade_notes"
"""Of the tensor; prefixes may come before it."""

LARGEST = 1_000_000
"""Bytes of a tensor that is read."""


def as_tensor(metadata: Mapping[str, str]) -> Tensor:
    """Entries of a file's metadata as bytes, ``n``."""
    return torch.tensor(list(json.dumps(dict(metadata)).encode()), dtype=torch.uint8)


def read_notes(header: Header) -> dict[str, str]:
    """The ``cascade.*`` entries in the notes of a file; what makes no sense is left out."""
    found: dict[str, str] = {}
    for name in header.tensors:
        dtype, shape = header.tensors[name]
        if name.rpartition(".")[2] == NAME and dtype == "U8" and math.prod(shape) <= LARGEST:
            found |= _entries(header, name)
    return found


def _entries(header: Header, name: str) -> dict[str, str]:
    try:
        with safe_open(header.places[name], framework="pt") as file:
            table = json.loads(bytes(file.get_tensor(name).flatten().tolist()))
    except (SafetensorError, ValueError, RecursionError):
        return {}
    entries = table.items() if isinstance(table, dict) else ()
    return {key: text for key, text in entries if key.startswith("cascade.") and isinstance(text, str)}
