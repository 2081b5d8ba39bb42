"""Safetensors files that are whole whenever they have their name."""

from __future__ import annotations

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
        beside.replace(path)
    except (OSError, SafetensorError) as error:
        beside.unlink(missing_ok=True)
        raise OSError(f"{path} could not be written ({error}); free some space and run this again") from error
