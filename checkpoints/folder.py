"""A checkpoint on disk: a file, or a folder that diffusers or transformers wrote.

A folder holds one network in one file, or cut into several with an index that says where each weight lies,
and a ``config.json`` with what shapes cannot tell.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from ..layers.trunk import RELEASED_HEAD_WIDTH
from .header import Header, printable, read_header
from .notes import read_notes

LARGEST_TABLE = 10_000_000
"""Bytes of an index or a configuration."""

INDEX = ".safetensors.index.json"


def read_checkpoint(path: str | Path) -> Header:
    """The header of a safetensors file, or the joined headers of the files in a folder.

    Raises:
        ValueError: nothing is there, or it cannot be read; see ``read_header``.
    """
    path = Path(path)
    if "\0" in str(path) or not path.is_dir():
        return _with_notes(read_header(path))
    name = printable(path.name or path.resolve().name, 200)
    try:
        index = _first(path, f"*{INDEX}")
        files = _listed(index, name) if index else [_only(path, name)]
        return _joined(name, files, _read_table(path / "config.json", name))
    except OSError as error:
        raise ValueError(f"`{name}` cannot be read ({error.strerror}); check its permissions") from error


def _with_notes(header: Header) -> Header:
    return replace(header, metadata=read_notes(header) | header.metadata)


def networks_in(path: str | Path) -> list[Path]:
    """What to open one by one behind a path: a file and a network's folder stand for themselves.

    Of a pipeline's folder it is the folders of its networks, of any other folder its files.
    """
    path = Path(path)
    try:
        if "\0" in str(path) or not path.is_dir() or _is_network(path):
            return [path]
        inner = [child for child in path.iterdir() if child.is_dir() and _is_network(child)]
    except OSError:  # opening it will say why
        return [path]
    return sorted([*path.glob("*.safetensors"), *inner]) or [path]


def _is_network(folder: Path) -> bool:
    files = [*folder.glob("*.safetensors"), *folder.glob(f"*{INDEX}")]
    return bool(files) and ((folder / "config.json").is_file() or any(folder.glob(f"*{INDEX}")))


def _first(folder: Path, pattern: str) -> Path | None:
    """The file of a kind, the one without a variant's name before others."""
    return min(folder.glob(pattern), key=lambda file: (file.name.count("."), file.name), default=None)


def _only(path: Path, name: str) -> Path:
    whole = _first(path, "*.safetensors")
    if whole is None:
        inside = ", ".join(sorted(child.name for child in path.iterdir())[:4]) or "nothing"
        raise ValueError(
            f"`{name}` is a folder without safetensors files (it holds {printable(inside)}); choose the "
            "folder of one network, such as prior or decoder, or a file"
        )
    stems = {file.name.partition(".")[0] for file in path.glob("*.safetensors")}
    if len(stems) > 1:
        raise ValueError(
            f"`{name}` is a folder of {len(stems)} models ({printable(', '.join(sorted(stems)))}); choose one"
        )
    return whole


def _listed(index: Path, name: str) -> list[Path]:
    """The files that an index names."""
    places = _read_table(index, name).get("weight_map")
    if not isinstance(places, dict) or not all(isinstance(place, str) for place in places.values()):
        raise ValueError(f"`{name}` has an index without a weight_map; download {index.name} again")
    files = sorted(set(places.values()))
    for file in files:
        if file != Path(file).name or "\\" in file or "\0" in file:
            raise ValueError(
                f"`{name}` has an index that names {printable(file)}, which lies outside the folder; do not "
                "use it"
            )
        if not (index.parent / file).is_file():
            raise ValueError(
                f"`{name}` lacks {printable(file)}, one of {len(files)} files in its index; download it again"
            )
    return [index.parent / file for file in files]


def _joined(name: str, files: list[Path], config: Mapping[str, Any]) -> Header:
    tensors: dict[str, tuple[str, tuple[int, ...]]] = {}
    places: dict[str, Path] = {}
    metadata: dict[str, str] = {}
    for file in files:
        header = read_header(file)
        twice = next((key for key in header.tensors if key in tensors), None)
        if twice is not None:
            raise ValueError(f"`{name}` has {printable(twice)} in two of its files; download it again")
        tensors |= header.tensors
        places |= header.places
        metadata |= header.metadata
    return Header(name, tensors, _head_width(config) | metadata, places)


def _head_width(config: Mapping[str, Any]) -> dict[str, str]:
    """What a ``config.json`` says of attention heads, where they are not as wide as everybody's."""
    widths, heads = config.get("block_out_channels"), config.get("num_attention_heads")
    if isinstance(widths, list) and isinstance(heads, list):  # a level without attention may say anything
        kinds = config.get("block_types_per_layer")
        kinds = kinds if isinstance(kinds, list) else ["Attn"] * len(widths)
        levels = [pair for *pair, kind in zip(widths, heads, kinds, strict=False) if "Attn" in str(kind)]
    else:
        levels = [[config.get("hidden_size"), heads]]
    whole = [(width, count) for width, count in levels if type(width) is int and type(count) is int]
    found = {width // count for width, count in whole if 0 < count <= width} - {RELEASED_HEAD_WIDTH}
    return {"cascade.head_dim": str(found.pop())} if len(found) == 1 else {}


def _read_table(path: Path, name: str) -> dict[str, Any]:
    """A JSON object from a file; empty where there is no file."""
    if not path.is_file():
        return {}
    if path.stat().st_size > LARGEST_TABLE:
        raise ValueError(f"`{name}` has a {path.name} of more than {LARGEST_TABLE} bytes; download it again")
    try:
        table = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError):
        table = None
    if not isinstance(table, dict):
        raise ValueError(f"`{name}` has a {path.name} that cannot be read; download it again")
    return table
