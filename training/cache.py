"""What encoders make of the pictures and captions of a run, computed once and kept in safetensors files."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

ITEMS_PER_FILE = 512


class Store:
    """Tensors of each example, by name; read from disk when they are asked for."""

    def __init__(self, folder: Path):
        self.folder = folder

    def __getitem__(self, i: int) -> dict[str, Tensor]:
        """The tensors of example i."""
        file = _open(self.folder / _file_name(i // ITEMS_PER_FILE))
        return {name: file.get_tensor(f"{i}.{name}") for name in _names(self.folder)}

    def __getstate__(self) -> dict[str, Any]:  # open files stay behind when a worker takes the store along
        return {"folder": self.folder}


@lru_cache(maxsize=4096)
def _open(path: Path) -> Any:
    return safe_open(path, framework="pt")


@lru_cache(maxsize=64)
def _names(folder: Path) -> tuple[str, ...]:
    return tuple(sorted({key.partition(".")[2] for key in _open(folder / _file_name(0)).keys()}))  # noqa: SIM118 - no mapping


def _file_name(number: int) -> str:
    return f"{number:05}.safetensors"


def key_of(*parts: Any) -> str:
    """A short name for everything that what is cached depends on: files by their bytes, values as JSON."""
    digest = hashlib.blake2b(digest_size=6)
    for part in parts:
        digest.update(part.read_bytes() if isinstance(part, Path) else json.dumps(part).encode())
    return digest.hexdigest()


def cached(
    folder: Path,
    count: int,
    make: Callable[[Sequence[int]], Iterable[Mapping[str, Tensor]]],
    progress: Callable[[int], None] = lambda done: None,
) -> Store:
    """The store in ``folder``; what is missing in it is made first.

    Args:
        folder: named after what the content depends on, see ``key_of``.
        count: examples in it.
        make: the tensors of each of the examples of these numbers.
        progress: called with the number of examples that are there.
    """
    if shutil.disk_usage(_existing(folder)).free < 1e8:
        raise OSError(
            f"less than 0.1 GB is free for the cache in {folder}; free some space and run this again"
        )
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(-(-count // ITEMS_PER_FILE)):
        path = folder / _file_name(number)
        if path.exists():
            continue
        places = range(number * ITEMS_PER_FILE, min(count, (number + 1) * ITEMS_PER_FILE))
        tensors = {
            f"{i}.{name}": value.contiguous()
            for i, item in zip(places, make(places), strict=True)
            for name, value in item.items()
        }
        beside = path.with_suffix(".part")
        save_file(tensors, beside)
        beside.replace(path)  # a file under its name is whole
        progress(places[-1] + 1)
    return Store(folder)


def _existing(folder: Path) -> Path:
    return next(path for path in (folder, *folder.parents) if path.exists())
