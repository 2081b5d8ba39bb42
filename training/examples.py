"""Examples as a run sees them, and what is known of the things in their pictures."""

from __future__ import annotations

import logging
import random
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from multiprocessing import get_all_start_methods
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from .draws import random_of
from .picturebook import COLOURS, KINDS, Placed
from .sources import UnreadablePicture

COLOUR_NAMES = tuple(COLOURS)
Field = Callable[[int, random.Random], Any]
"""One entry of an example, from its number and the randomness of this visit to it."""


class Examples(Dataset):
    """Entries of examples by name, for ``(position, example)`` pairs of an ``Order``.

    An example whose picture cannot be read is replaced by the next of its bucket, with a warning: one
    damaged file of a million should not end a run. The same one is taken each time, so that runs repeat.

    Args:
        fields: the entries.
        seed: of the run.
        buckets: of all examples.
    """

    def __init__(self, fields: Mapping[str, Field], seed: int, buckets: Sequence[int]):
        self.fields, self.seed, self.buckets = dict(fields), seed, buckets
        self._warned: set[int] = set()

    def __getitem__(self, place: tuple[int, int]) -> dict[str, Any]:
        position, wanted = place
        for example in self._from(wanted):
            rng = random_of("example", self.seed, position)
            try:
                entries = {name: load(example, rng) for name, load in self.fields.items()}
            except UnreadablePicture as error:
                if example not in self._warned:
                    logging.getLogger(__name__).warning("%s; the next picture takes its place", error)
                    self._warned.add(example)
            else:
                return {"position": position, **entries}
        raise ValueError("not one picture of this shape can be read; check data in the settings")

    def _from(self, wanted: int) -> Iterator[int]:
        """This example, and those that may take its place."""
        count = len(self.buckets)
        places = ((wanted + further) % count for further in range(count))
        return (example for example in places if self.buckets[example] == self.buckets[wanted])


def batches(examples: Examples, order: Iterable[list[tuple[int, int]]], workers: int) -> DataLoader:
    """Batches of examples in an order.

    Args:
        examples: by place.
        order: of lists of places.
        workers: processes that load them, 0 for this one. They are forked, since fields may be of any kind;
            what they load is the same.

    Raises:
        ValueError: there are to be workers where the system cannot fork.
    """
    if workers and "fork" not in get_all_start_methods():
        raise ValueError(f"data.workers is {workers}, and this system cannot fork processes; set it to 0")
    return DataLoader(
        examples, batch_sampler=order, collate_fn=collate, num_workers=workers,
        persistent_workers=workers > 0, multiprocessing_context="fork" if workers else None,
    )  # fmt: skip


def collate(items: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """A batch: tensors, and those in tuples, are stacked; everything else is listed."""
    return {name: _together([item[name] for item in items]) for name in items[0]}


def _together(values: list[Any]) -> Any:
    first = values[0]
    if isinstance(first, Tensor):
        return torch.stack(values)
    if isinstance(first, tuple) and first and isinstance(first[0], Tensor):
        return tuple(torch.stack(parts) for parts in zip(*values, strict=True))
    return values


def _cells(box: Sequence[float], height: int, width: int) -> tuple[slice, slice]:
    """Rows and columns that a box in [0, 1] touches."""
    left, top, right, bottom = (min(max(side, 0.0), 1.0) for side in box)
    return (
        slice(int(top * height), max(int(top * height) + 1, -int(-bottom * height // 1))),
        slice(int(left * width), max(int(left * width) + 1, -int(-right * width // 1))),
    )


def regions(things: Sequence[Sequence[Placed]], height: int, width: int) -> Tensor:
    """1 in each cell that a thing's box touches: ``b 1 height width``."""
    maps = torch.zeros(len(things), 1, height, width)
    for i, placed in enumerate(things):
        for thing in placed:
            maps[(i, 0, *_cells(thing.box, height, width))] = 1
    return maps


NOTHING = -1
"""In maps of labels, a cell in which there is no thing."""


def label_maps(things: Sequence[Sequence[Placed]], height: int, width: int) -> Tensor:
    """Number of the kind and of the colour of the thing in each cell: ``2 b height width``."""
    maps = torch.full((2, len(things), height, width), NOTHING)
    for i, placed in enumerate(things):
        for thing in placed:
            place = (i, *_cells(thing.box, height, width))
            maps[(0, *place)] = KINDS.index(thing.kind)
            maps[(1, *place)] = COLOUR_NAMES.index(thing.colour)
    return maps


def reading_losses(readings: Tensor, labels: Tensor) -> Tensor:
    """How badly kind and colour are read from cells, ``b``: cross entropy, averaged over cells with things.

    Args:
        readings: logits of each kind, then of each colour, ``b k h w``.
        labels: from ``label_maps``.
    """
    total = readings.new_zeros(len(readings))
    for part, label in zip(readings.split([len(KINDS), len(COLOURS)], dim=1), labels, strict=True):
        error = torch.nn.functional.cross_entropy(
            part.float(), label.to(part.device), ignore_index=NOTHING, reduction="none"
        )
        total = total + error.sum(dim=(1, 2)) / (label >= 0).sum(dim=(1, 2)).clamp(min=1).to(error)
    return total
