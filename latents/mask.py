"""Which part of a picture is drawn anew: a mask over pixels, as masks over the cells of latents.

Masks are 1 where a picture is drawn anew and 0 where it is kept, with anything between.
"""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional


def feathered(mask: Tensor, pixels: int) -> Tensor:
    """A mask that falls off over so many pixels outside of what it covers; inside it stays as it is.

    Args:
        mask: ``b h w``.
        pixels: over which 1 becomes 0, on every side.

    Returns:
        The new mask, nowhere below the old one. A grown copy of it is averaged over squares of half the
        width, so that the fall is straight.
    """
    radius = (pixels + 1) // 2
    if radius < 1:
        return mask
    side = 2 * radius + 1
    grown = functional.max_pool2d(mask[:, None], side, stride=1, padding=radius)
    soft = functional.avg_pool2d(grown, side, stride=1, padding=radius, count_include_pad=False)
    return soft[:, 0].clamp(max=1).maximum(mask)


def over_cells(mask: Tensor, height: int, width: int) -> Tensor:
    """A mask for latents of ``height`` by ``width`` cells: the most that it holds anywhere in a cell.

    A cell of Stage C covers some forty pixels along a side, and it has to be drawn anew if any of them is:
    the mask's value in its middle would keep what is to go.

    Args:
        mask: ``b h w`` of any size; it is stretched over the picture.

    Returns:
        ``b 1 height width``.
    """
    return functional.adaptive_max_pool2d(mask[:, None], (height, width))
