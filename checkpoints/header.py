"""What a safetensors file says it holds, read from its first bytes and believed only after checks.

No tensor is read, and nothing else than safetensors is ever opened: a pickle can run code.
"""

from __future__ import annotations

import json
import math
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

LARGEST_HEADER = 100_000_000
"""Bytes; the safetensors library refuses longer headers as well."""

_BITS = {
    "BOOL": 8, "U8": 8, "I8": 8, "F8_E4M3": 8, "F8_E5M2": 8, "F8_E8M0": 8, "F4": 4,
    "I16": 16, "U16": 16, "F16": 16, "BF16": 16, "I32": 32, "U32": 32, "F32": 32,
    "I64": 64, "U64": 64, "F64": 64, "C64": 64,
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Header:
    """Contents of a file by name.

    Attributes:
        file: the file's name, without its folder.
        tensors: dtype, as safetensors spells it, and shape of each tensor.
        metadata: the file's own notes.
    """

    file: str
    tensors: Mapping[str, tuple[str, tuple[int, ...]]]
    metadata: Mapping[str, str]

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Shape of each tensor."""
        return {key: shape for key, (_, shape) in self.tensors.items()}


def read_header(path: str | Path) -> Header:
    """The header of a safetensors file.

    Raises:
        ValueError: the file is missing, cut short, of another kind, or contradicts itself.
    """
    path = Path(path)
    if not path.is_file():
        raise ValueError(
            f"`{path.name}` does not exist or is no file; choose a safetensors file that is there"
        )
    size = path.stat().st_size
    if size == 0:
        raise ValueError(f"`{path.name}` is empty; download it again")
    with path.open("rb") as file:
        text = _header_text(file, size, path)
    entries = _parse(text, path.name)
    metadata = entries.pop("__metadata__", None) or {}
    if not isinstance(metadata, dict) or not all(isinstance(value, str) for value in metadata.values()):
        raise ValueError(f"`{path.name}` has metadata that is no table of texts; save the file again")
    tensors = {key: _entry(key, value, path.name) for key, value in entries.items()}
    needed = max((end for _, _, end in tensors.values()), default=0) + 8 + len(text)
    if needed > size:
        raise ValueError(f"`{path.name}` is cut short: it has {size} of {needed} bytes; download it again")
    return Header(path.name, {key: (dtype, shape) for key, (dtype, shape, _) in tensors.items()}, metadata)


def _header_text(file: BinaryIO, size: int, path: Path) -> bytes:
    start = file.read(512)
    length = struct.unpack("<Q", start[:8])[0] if len(start) >= 8 else 0
    if start[8:9] == b"{" and 2 <= length <= LARGEST_HEADER:
        if length > size - 8:
            needed = f"more than {length + 8}"
            raise ValueError(
                f"`{path.name}` is cut short: it has {size} of {needed} bytes; download it again"
            )
        file.seek(8)
        return file.read(length)
    raise ValueError(f"`{path.name}` {_what_else(start, path.suffix)}")


def _what_else(start: bytes, suffix: str) -> str:
    """The rest of a sentence about a file that is not safetensors, from its first bytes."""
    # Protocol 2 and later pickles open with 0x80 and the protocol's number; newer ones are zipped.
    if start[:4] == b"PK\x03\x04" or (start[:1] == b"\x80" and start[1:2] in b"\x02\x03\x04\x05"):
        renamed = " that was renamed to .safetensors" if suffix == ".safetensors" else ""
        return (
            f"is a PyTorch pickle{renamed}; pickles can run code, so it is not loaded: convert it to "
            "safetensors on a machine where that does no harm, or find the same model as safetensors"
        )
    if start.startswith(b"version https://git-lfs"):
        return "is a Git LFS pointer and not the model itself; download the file with git lfs pull"
    if start.lstrip()[:1] == b"<":
        return "is a web page and not a model; download the file itself, after signing in if the site asks"
    if start[:4] == b"GGUF":
        return "is a GGUF file, and a safetensors file was expected; choose one of those"
    return "does not start like a safetensors file; choose one that does, or download it again"


def _parse(text: bytes, name: str) -> dict[str, Any]:
    try:
        entries = json.loads(text)
    except (ValueError, RecursionError):
        entries = None
    if not isinstance(entries, dict):
        raise ValueError(f"`{name}` has a header that cannot be read; it is damaged, so download it again")
    return entries


def _entry(key: str, entry: Any, name: str) -> tuple[str, tuple[int, ...], int]:
    """Dtype, shape and end of one tensor's data."""
    match entry:
        case {"dtype": str(dtype), "shape": [*shape], "data_offsets": [int(begin), int(end)]}:
            whole = all(type(side) is int and side >= 0 for side in shape)
            bits = _BITS.get(dtype)
            fits = bits is None or not whole or (end - begin) * 8 == math.prod(shape) * bits
            if whole and 0 <= begin <= end and fits:
                return dtype, tuple(shape), end
    raise ValueError(f"`{name}` contradicts itself about {key}; it is damaged, so download it again")
