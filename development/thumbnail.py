"""A workflow's picture in the template browser: ``thumbnail.py OUT.jpg --drawn PICTURE …``.

The browser shows it in a square. Its slider between two pictures is for ComfyUI's own templates, so
``--begins-from`` names one that is laid over what the workflow draws.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Sequence
from pathlib import Path

from PIL import Image, ImageOps, ImageStat

WIDTH = 512
"""Pixels of a thumbnail."""

SMALL, EDGE, MARGIN = 0.28, 4, 10
"""Share of the shorter side that the laid-over picture takes; pixels of its white edge, and beside it."""

QUALITY = 88


def thumbnail(drawn: Sequence[Image.Image], begins_from: Image.Image | None = None) -> Image.Image:
    """Pictures on a grid, ``WIDTH`` pixels wide in all, with another laid over where it hides the least."""
    columns = math.isqrt(len(drawn) - 1) + 1
    width = WIDTH // columns
    height = round(width * drawn[0].height / drawn[0].width)
    page = Image.new("RGB", (width * columns, height * -(-len(drawn) // columns)))
    for i, picture in enumerate(drawn):
        cell = picture.convert("RGB").resize((width, height), Image.Resampling.LANCZOS)
        page.paste(cell, (i % columns * width, i // columns * height))
    if begins_from is not None:
        small = _with_edge(begins_from, round(SMALL * min(page.size)))
        page.paste(small, _place(page, small.size) if columns == 1 else _middle(page, small.size))
    return page


def _with_edge(picture: Image.Image, height: int) -> Image.Image:
    width = round(height * picture.width / picture.height)
    small = picture.convert("RGB").resize((width, height), Image.Resampling.LANCZOS)
    return ImageOps.expand(small, EDGE, "white")


def _middle(page: Image.Image, size: tuple[int, int]) -> tuple[int, int]:
    return (page.width - size[0]) // 2, (page.height - size[1]) // 2


def _place(page: Image.Image, size: tuple[int, int]) -> tuple[int, int]:
    """The corner in which there is the least to see."""
    width, height = size
    corners = [
        (left, top)
        for top in (MARGIN, page.height - height - MARGIN)
        for left in (MARGIN, page.width - width - MARGIN)
    ]
    return min(
        corners,
        key=lambda corner: sum(
            ImageStat.Stat(page.crop((*corner, corner[0] + width, corner[1] + height))).var
        ),
    )


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("out", type=Path)
    parser.add_argument("--drawn", type=Path, nargs="+")
    parser.add_argument("--begins-from", type=Path)
    given = parser.parse_args()
    first = Image.open(given.begins_from) if given.begins_from else None
    thumbnail([Image.open(name) for name in given.drawn], first).save(given.out, quality=QUALITY)
