"""Parts of pictures for Stage B to learn from: windows of half a picture's sides.

Source of the idea: Wang et al. 2023, "Patch Diffusion"; here windows lie around things more often than not,
because backgrounds are learnt soon.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from .draws import Draws
from .picturebook import Placed

EACH = 4
"""Windows of a picture: together as many cells as the whole of it."""


@dataclass(frozen=True, slots=True)
class Windows:
    """Windows of equal size in maps of equal size.

    Attributes:
        height, width: of the maps, in cells.
        pictures: number of the picture that each window lies in, ``each`` for every picture in order.
        corners: top and left cell of each window.
        size: rows and columns of a window.
    """

    height: int
    width: int
    pictures: tuple[int, ...]
    corners: tuple[tuple[int, int], ...]
    size: tuple[int, int]

    @property
    def each(self) -> int:
        """Windows of each picture."""
        return len(self.pictures) // (1 + max(self.pictures))

    def cut(self, maps: Tensor, fold: int = 1) -> Tensor:
        """The windows of maps ``b c h w`` whose cells are ``fold`` times as large as those counted in."""
        rows, columns = (length // fold for length in self.size)
        return torch.stack([
            maps[picture, :, top // fold : top // fold + rows, left // fold : left // fold + columns]
            for picture, (top, left) in zip(self.pictures, self.corners, strict=True)
        ])  # fmt: skip


def whole(maps: Tensor) -> Windows:
    """One window for each map ``b c h w``, all of it."""
    count, _, height, width = maps.shape
    return Windows(height, width, tuple(range(count)), ((0, 0),) * count, (height, width))


def windows_on(things: Sequence[Sequence[Placed]], maps: Tensor, grid: int, draws: Draws) -> Windows:
    """``EACH`` windows for each map ``b c h w``, every second one around one of its things.

    Args:
        things: what is where in each picture.
        maps: only their shape counts.
        grid: corners and sides are multiples of it.
        draws: source of randomness.
    """
    height, width = maps.shape[-2:]
    size = tuple(max(grid, length // 2 // grid * grid) for length in (height, width))
    room = [length - side for length, side in zip((height, width), size, strict=True)]
    numbers = draws.uniform(EACH, 3).tolist()
    pictures, corners = [], []
    for picture, drawn in enumerate(numbers):
        for k, (which, down, across) in enumerate(drawn):
            corner = [down * (room[0] + grid), across * (room[1] + grid)]
            if k % 2 and things[picture]:
                left, top, right, bottom = things[picture][int(which * len(things[picture]))].box
                # The middle of the thing, off centre by up to a quarter of the window.
                corner = [
                    (top + bottom) / 2 * height - size[0] * (0.75 - down / 2),
                    (left + right) / 2 * width - size[1] * (0.75 - across / 2),
                ]
            pictures.append(picture)
            corners.append(
                tuple(
                    min(max(0, int(value)), limit) // grid * grid
                    for value, limit in zip(corner, room, strict=True)
                )
            )
    return Windows(height, width, tuple(pictures), tuple(corners), size)
