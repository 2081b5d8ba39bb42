"""What encoders make of the pictures and captions of a run, computed once and kept in safetensors files."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

from safetensors import safe_open
from torch import Tensor

from ..checkpoints.save import save_tensors

ITEMS_PER_FILE = 512
READ_AT_ONCE = 2**24


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
        if isinstance(part, Path):
            with part.open("rb") as file:
                while piece := file.read(READ_AT_ONCE):
                    digest.update(piece)
        else:
            digest.update(json.dumps(part).encode())
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

    Raises:
        OSError: the disk is full; what was written stays, and the next call goes on behind it.
    """
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
        save_tensors(path, tensors)
        progress(places[-1] + 1)
    return Store(folder)
