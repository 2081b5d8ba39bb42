"""Pictures drawn ahead, kept on disk, with what the losses need to know about each."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from .draw import SIZE, draw
from .world import training_scene

MASK_CELLS = 64
"""Cells along a side of the mask that tells where things are."""


@dataclass(frozen=True)
class Pool:
    """``pictures`` is ``n 256 256 3`` uint8, ``masks`` ``n 64 64`` bool; picture i shows scene i."""

    pictures: np.ndarray
    masks: np.ndarray

    def images(self, index: Tensor) -> Tensor:
        """Pictures as ``b 3 256 256`` in [0, 1]."""
        return torch.from_numpy(self.pictures[index.numpy()]).permute(0, 3, 1, 2).float().div(255)

    def mask(self, index: Tensor, cells: int) -> Tensor:
        """Where the things are, ``b 1 cells cells``, 1 in a cell that a thing's box touches."""
        masks = torch.from_numpy(self.masks[index.numpy()])[:, None].float()
        return torch.nn.functional.adaptive_max_pool2d(masks, cells)


def open_pool(folder: Path, count: int) -> Pool:
    """The first ``count`` pictures of the world; drawn if they are not there yet."""
    folder.mkdir(parents=True, exist_ok=True)
    pictures, masks = folder / f"pictures_{count}.npy", folder / f"masks_{count}.npy"
    if not masks.exists():
        _draw_pool(pictures, masks, count)
    return Pool(np.load(pictures, mmap_mode="r"), np.load(masks))


def _draw_pool(pictures: Path, masks: Path, count: int) -> None:
    drawn = np.lib.format.open_memmap(pictures, mode="w+", dtype=np.uint8, shape=(count, SIZE, SIZE, 3))
    covered = np.zeros((count, MASK_CELLS, MASK_CELLS), dtype=bool)
    for i in range(count):
        drawn[i], boxes = draw(training_scene(i))
        for box in boxes:
            left, top, right, bottom = (int(min(max(v, 0), 1) * MASK_CELLS) for v in box)
            covered[i, top : bottom + 1, left : right + 1] = True
    drawn.flush()
    # Written last: its presence says that the pictures are complete.
    np.save(masks, covered)
