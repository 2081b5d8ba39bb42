"""The icon and the banner of the registry's page, made of pictures that the small cascade drew.

    .venv/bin/python development/brand.py docs/prompts docs/registry

The registry wants a square icon of at most 400 pixels and a banner of 21 to 9.
"""

from __future__ import annotations

import sys
from pathlib import Path

from PIL import Image, ImageDraw, ImageFilter

ICON, BANNER = (400, 400), (1260, 540)
STEPS = (12, 64, 256)
"""Cells along a side of what Stage C, Stage B and Stage A make of a picture."""

DARK, LIGHT = (20, 26, 38), (240, 243, 248)
IN_BANNER = (2, 5, 7, 4)
"""Numbers of the pictures beside the cascade."""


def in_cells(picture: Image.Image, cells: int, side: int) -> Image.Image:
    """A picture of so few cells, drawn as squares."""
    return picture.resize((cells, cells), Image.Resampling.BOX).resize((side, side), Image.Resampling.NEAREST)


def rounded(picture: Image.Image, radius: int) -> Image.Image:
    """A picture with round corners."""
    mask = Image.new("L", picture.size, 0)
    ImageDraw.Draw(mask).rounded_rectangle((0, 0, picture.width - 1, picture.height - 1), radius, fill=255)
    picture = picture.convert("RGBA")
    picture.putalpha(mask)
    return picture


def cascade(picture: Image.Image, size: tuple[int, int], side: int, apart: int) -> Image.Image:
    """Three squares, each before and below the last: few cells, more, and the picture."""
    canvas = Image.new("RGBA", size, (0, 0, 0, 0))
    left = (size[0] - side - 2 * apart) // 2
    top = (size[1] - side - 2 * apart) // 2
    for i, cells in enumerate(STEPS):
        tile = rounded(in_cells(picture, cells, side), side // 12)
        shadow = Image.new("RGBA", size, (0, 0, 0, 0))
        shadow.paste((0, 0, 0, 150), (left + i * apart + 4, top + i * apart + 6), tile.getchannel("A"))
        canvas.alpha_composite(shadow.filter(ImageFilter.GaussianBlur(8)))
        canvas.alpha_composite(tile, (left + i * apart, top + i * apart))
    return canvas


def icon(picture: Image.Image) -> Image.Image:
    """The cascade on a dark square."""
    ground = rounded(Image.new("RGB", ICON, DARK), 72)
    ground.alpha_composite(cascade(picture, ICON, 220, 56))
    return ground


def banner(pictures: list[Image.Image]) -> Image.Image:
    """The cascade on the left, and four pictures that it drew on the right."""
    ground = Image.new("RGBA", BANNER, (*DARK, 255))
    ground.alpha_composite(cascade(pictures[0], (BANNER[1], BANNER[1]), 280, 84))
    side, gap = 236, 20
    left, top = BANNER[0] - 2 * side - gap - 34, (BANNER[1] - 2 * side - gap) // 2
    for i, picture in enumerate(pictures[1:]):
        place = (left + (i % 2) * (side + gap), top + (i // 2) * (side + gap))
        ground.alpha_composite(rounded(picture.resize((side, side), Image.Resampling.LANCZOS), 18), place)
    arrow = ImageDraw.Draw(ground)
    middle, start = BANNER[1] // 2, BANNER[1] + 20
    arrow.line((start, middle, left - 60, middle), fill=LIGHT, width=10)
    arrow.polygon([(left - 30, middle), (left - 66, middle - 26), (left - 66, middle + 26)], fill=LIGHT)
    return ground.convert("RGB")


def main(source: Path, target: Path) -> None:
    """Write icon.png and banner.png."""
    drawn = [Image.open(source / f"{number}.png").convert("RGB") for number in (1, *IN_BANNER)]
    target.mkdir(exist_ok=True)
    icon(drawn[0]).save(target / "icon.png", optimize=True)
    banner(drawn).save(target / "banner.png", optimize=True)


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:3]))
