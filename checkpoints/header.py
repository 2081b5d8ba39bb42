"""What a safetensors file says it holds, read from its first bytes and believed only after checks.

No tensor is read, and nothing else than safetensors is ever opened: a pickle can run code. Whatever the
bytes are, the answer is a header or one sentence, for no more memory than the header itself asks.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

LARGEST_HEADER = 10_000_000
"""Bytes. The longest of a Stable Cascade file has half a million; parsed, a header takes many times its own
size in memory."""

BITS = {
    "F4": 4, "F6_E2M3": 6, "F6_E3M2": 6,
    "BOOL": 8, "U8": 8, "I8": 8, "F8_E4M3": 8, "F8_E5M2": 8, "F8_E8M0": 8, "F8_E4M3FNUZ": 8, "F8_E5M2FNUZ": 8,
    "I16": 16, "U16": 16, "F16": 16, "BF16": 16, "I32": 32, "U32": 32, "F32": 32,
    "I64": 64, "U64": 64, "F64": 64, "C64": 64,
}  # fmt: skip
"""Of one element, for each dtype of the format."""


@dataclass(frozen=True, slots=True)
class Header:
    """Contents of a file, or of the files of one folder, by name.

    Attributes:
        file: the file's name, without its folder.
        tensors: dtype, as safetensors spells it, and shape of each tensor.
        metadata: the file's own notes.
        places: the file in which each tensor lies.
    """

    file: str
    tensors: Mapping[str, tuple[str, tuple[int, ...]]]
    metadata: Mapping[str, str]
    places: Mapping[str, Path]

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Shape of each tensor."""
        return {key: shape for key, (_, shape) in self.tensors.items()}


def printable(text: str, length: int = 80) -> str:
    """Text of unknown origin as it may stand in a sentence: one line, of a bounded length."""
    kept = "".join(sign if sign.isprintable() else "?" for sign in text[: length + 1])
    return kept if len(kept) <= length else f"{kept[:length]}…"


def read_header(path: str | Path) -> Header:
    """The header of a safetensors file.

    Raises:
        ValueError: the file is missing, cut short, of another kind, or contradicts itself.
    """
    path = Path(path)
    name = printable(path.name, 200)
    try:
        return _read(path, name)
    except OSError as error:
        raise ValueError(f"`{name}` cannot be read ({error.strerror}); check its permissions") from error


def _read(path: Path, name: str) -> Header:
    if "\0" in str(path) or not path.is_file():
        raise ValueError(f"`{name}` does not exist or is no file; choose a safetensors file that is there")
    with path.open("rb") as file:
        return header_in(file, path.stat().st_size, path)


def header_in(file: BinaryIO, size: int, path: Path) -> Header:
    """The header at the start of an open file.

    Args:
        file: at its first byte.
        size: of the whole file in bytes.
        path: what to call it, and where its tensors are said to lie.

    Raises:
        ValueError: see ``read_header``.
    """
    name = printable(path.name, 200)
    if size == 0:
        raise ValueError(f"`{name}` is empty; download it again")
    text = _header_text(file, size, name, path.suffix)
    entries = _parse(text, name)
    metadata = entries.pop("__metadata__", None) or {}
    if not isinstance(metadata, dict) or not all(isinstance(value, str) for value in metadata.values()):
        raise ValueError(f"`{name}` has metadata that is no table of texts; save the file again")
    found = [(key, *_entry(key, value, name)) for key, value in entries.items()]
    _require_covered([(begin, end, key) for key, _, _, begin, end in found], 8 + len(text), size, name)
    tensors = {key: (dtype, shape) for key, dtype, shape, _, _ in found}
    return Header(name, tensors, metadata, dict.fromkeys(tensors, path))


def _header_text(file: BinaryIO, size: int, name: str, suffix: str) -> bytes:
    start = file.read(512)
    length = struct.unpack("<Q", start[:8])[0] if len(start) >= 8 else 0
    if start[8:9] != b"{" or not 2 <= length <= 2**48:
        raise ValueError(f"`{name}` {_what_else(start, suffix)}")
    if length > size - 8:
        raise ValueError(
            f"`{name}` is cut short: it has {size} of more than {length + 8} bytes; download it again"
        )
    if length > LARGEST_HEADER:
        raise ValueError(
            f"`{name}` has a header of {length} bytes, and no model needs more than {LARGEST_HEADER}; it is "
            "damaged or made to do harm, so do not use it"
        )
    file.seek(8)
    return file.read(length)


def _what_else(start: bytes, suffix: str) -> str:
    """The rest of a sentence about a file that is not safetensors, from its first bytes."""
    zipped = start[:4] == b"PK\x03\x04"
    # Protocol 2 and later pickles open with 0x80 and the protocol's number; newer ones are zipped.
    pickled = start[:1] == b"\x80" and start[1:2] in (b"\x02", b"\x03", b"\x04", b"\x05")
    if pickled or (zipped and b"/data.pkl" in start):
        renamed = " that was renamed to .safetensors" if suffix == ".safetensors" else ""
        return (
            f"is a PyTorch pickle{renamed}; pickles can run code, so it is not loaded: convert it to "
            "safetensors on a machine where that does no harm, or find the same model as safetensors"
        )
    if zipped:
        return "is a zip archive and not a model; unpack it and choose the safetensors file inside"
    if start.startswith(b"version https://git-lfs"):
        return "is a Git LFS pointer and not the model itself; download the file with git lfs pull"
    if start.lstrip()[:1] == b"<":
        return "is a web page and not a model; download the file itself, after signing in if the site asks"
    if start[:4] == b"GGUF":
        return "is a GGUF file, and a safetensors file was expected; choose one of those"
    text = start.decode("utf-8", errors="replace").strip()
    if text and text.isprintable() and "\ufffd" not in text:
        return f"is a text and not a model (it says: {printable(text, 60)}); download the file again"
    return "does not start like a safetensors file; choose one that does, or download it again"


def _parse(text: bytes, name: str) -> dict[str, Any]:
    repeated: list[str] = []

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        table = dict(pairs)
        if len(table) != len(pairs):
            repeated.append(next(key for i, (key, _) in enumerate(pairs) if key in dict(pairs[:i])))
        return table

    try:
        entries = json.loads(text.decode("utf-8"), object_pairs_hook=unique)
    except (ValueError, RecursionError):
        entries = None
    if not isinstance(entries, dict):
        raise ValueError(f"`{name}` has a header that cannot be read; it is damaged, so download it again")
    if repeated:
        raise ValueError(
            f"`{name}` lists {printable(repeated[0])} twice; it is damaged, so download it again"
        )
    return entries


def _entry(key: str, entry: Any, name: str) -> tuple[str, tuple[int, ...], int, int]:
    """Dtype, shape, begin and end of one tensor's data."""
    match entry:
        case {"dtype": str(dtype), "shape": list(shape), "data_offsets": [begin, end]}:
            if dtype not in BITS:
                raise ValueError(
                    f"`{name}` stores {printable(key)} as {printable(dtype, 20)}, which is no precision of "
                    "the format; it is damaged or newer than this pack"
                )
            whole = all(type(number) is int and number >= 0 for number in (*shape, begin, end))
            if whole and begin <= end and _bits(shape, BITS[dtype], (end - begin) * 8) == (end - begin) * 8:
                return dtype, tuple(shape), begin, end
    raise ValueError(
        f"`{name}` contradicts itself about {printable(key)}; it is damaged, so download it again"
    )


def _bits(shape: list[int], each: int, limit: int) -> int:
    """Bits of a tensor; some number above the limit as soon as they pass it, so that it stays small."""
    if 0 in shape:
        return 0
    bits = each
    for side in shape:
        bits *= side
        if bits > limit:
            break
    return bits


def _require_covered(spans: list[tuple[int, int, str]], start: int, size: int, name: str) -> None:
    """Make sure that the data of the tensors follow each other and fill the file, as the format asks."""
    reached = 0
    for begin, end, key in sorted(spans):
        if begin != reached:
            what = "shares bytes with another tensor" if begin < reached else "follows bytes of no tensor"
            raise ValueError(
                f"`{name}` contradicts itself: {printable(key)} {what}; it is damaged, so download it again"
            )
        reached = end
    needed = start + reached
    if needed > size:
        raise ValueError(f"`{name}` is cut short: it has {size} of {needed} bytes; download it again")
    if needed < size:
        raise ValueError(f"`{name}` is {size - needed} bytes too long; it is damaged, so download it again")
