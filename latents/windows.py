"""Latents in overlapping windows, for networks that cannot see a whole picture at once."""

from __future__ import annotations

from collections.abc import Callable
from itertools import product

import torch
from torch import Tensor

Window = tuple[slice, slice]


def windows(length: int, size: int, overlap: int, step: int) -> list[slice]:
    """An axis in windows that overlap by at least ``overlap``.

    Args:
        length: of the axis.
        size: of a window; the last may be longer by less than ``step``.
        overlap: less than ``size``.
        step: windows begin at its multiples, so that a network that folds cells folds the same ones.
    """
    if length <= size:
        return [slice(0, length)]
    last = (length - size) // step * step
    count = -(-last // max(step, (size - overlap) // step * step)) + 1
    starts = [last * i // max(count - 1, 1) // step * step for i in range(count)]
    return [slice(start, start + size if start < last else length) for start in starts]


def blended(x: Tensor, size: int, overlap: int, step: int, run: Callable[[Window], Tensor]) -> Tensor:
    """What ``run`` gives for each window of ``b c h w``, faded into each other where windows overlap.

    Args:
        x: its last axes are cut; gives shape and precision of the result.
        run: is given rows and columns and returns the result for them.
    """
    height, width = x.shape[-2:]
    total, weight = torch.zeros_like(x), x.new_zeros(height, width)
    for rows, columns in product(windows(height, size, overlap, step), windows(width, size, overlap, step)):
        fade = _fade(rows, height, overlap, x)[:, None] * _fade(columns, width, overlap, x)
        total[..., rows, columns] += run((rows, columns)) * fade
        weight[rows, columns] += fade
    return total / weight


def _fade(window: slice, length: int, overlap: int, like: Tensor) -> Tensor:
    """Weight of each cell of a window: rises from its borders, except where the picture ends."""
    count = window.stop - window.start
    place = torch.arange(count, device=like.device, dtype=like.dtype) + 0.5
    from_start = place if window.start > 0 else torch.full_like(place, torch.inf)
    from_end = count - place if window.stop < length else torch.full_like(place, torch.inf)
    return (torch.minimum(from_start, from_end) / max(overlap, 1)).clamp(max=1)


def with_coarse(x: Tensor, coarse: Tensor, strength: float) -> Tensor:
    """A map whose large forms are drawn towards those of a smaller map; what is finer than it stays.

    Args:
        x: ``b c h w``.
        coarse: ``b c h' w'`` or ``1 c h' w'``, of a picture of the same proportions.
        strength: 0 changes nothing; at 1 the large forms are the smaller map's.
    """
    wide = x.float()
    own = torch.nn.functional.interpolate(wide, coarse.shape[-2:], mode="area")
    change = torch.nn.functional.interpolate(coarse.to(wide) - own, x.shape[-2:], mode="bicubic")
    return (wide + strength * change).to(x.dtype)
