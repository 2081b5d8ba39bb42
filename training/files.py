"""Safetensors files that are whole whenever they have their name."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor


def write_whole(weights: Mapping[str, Tensor], path: Path, metadata: Mapping[str, str] | None = None) -> None:
    """Write a file beside its place and rename it.

    Raises:
        OSError: it could not be written, for a full disk above all; what was there before still is.
    """
    beside = path.with_suffix(".part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        plain = {name: value.detach().cpu().contiguous() for name, value in weights.items()}
        save_file(plain, beside, dict(metadata or {}))
        _sort_metadata(beside)
        beside.replace(path)
    except (OSError, SafetensorError) as error:
        beside.unlink(missing_ok=True)
        raise OSError(f"{path} could not be written ({error}); free some space and run this again") from error


def _sort_metadata(path: Path) -> None:
    """Put a file's metadata in order, so that equal files have equal bytes; safetensors shuffles it."""
    with path.open("r+b") as file:
        length = int.from_bytes(file.read(8), "little")
        header = json.loads(file.read(length))
        if "__metadata__" in header:
            header["__metadata__"] = dict(sorted(header["__metadata__"].items()))
        text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
        if len(text) <= length:
            file.seek(8)
            file.write(text.ljust(length))
