"""Pictures of the workflows that nobody can run as they ship: ``cards.py FOLDER``.

Their weights cannot be shipped, so that they say what they are for and what they need.
"""

from __future__ import annotations

import sys
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

SIDE = 512
"""Pixels."""

PAPER, BRIGHT, DIM = (28, 33, 48), (245, 247, 250), (176, 184, 200)
STAGES = (("C", "24x24", (62, 92, 150)), ("B", "256x256", (64, 128, 94)), ("A", "1024x1024", (142, 110, 58)))
"""Name, cells and colour, as the nodes have it."""

FACES = (((84, 182), (62, 92, 150)), ((190, 206), (142, 110, 58)))
"""Centre of each, and its colour."""

PLACES = ((322, 150, 384, 262), (404, 186, 458, 280))
"""Where they are to be drawn."""


def official() -> Image.Image:
    """The three stages of the real weights."""
    page, pen = _page(
        "Stable Cascade, real weights", "needs Stability AI's files", "non-commercial research licence"
    )
    for i, (name, cells, colour) in enumerate(STAGES):
        left = 36 + i * 156
        pen.rounded_rectangle((left, 150, left + 129, 278), 12, colour)
        _write(pen, (left + 65, 203), name, 62)
        _write(pen, (left + 65, 261), cells, 18)
        if i:
            pen.polygon([(left - 20, 206), (left - 6, 214), (left - 20, 222)], DIM)
    return page


def checkpoint() -> Image.Image:
    """The stages, and which of them share a file."""
    page, pen = _page(
        "Stable Cascade in two files", "needs ComfyUI's checkpoints", "non-commercial research licence"
    )
    left = 36
    for file in (STAGES[:1], STAGES[1:]):
        width = 16 + 128 * len(file)
        pen.rounded_rectangle((left, 134, left + width, 294), 16, outline=DIM, width=3)
        for i, (name, _, colour) in enumerate(file):
            edge = left + 16 + 128 * i
            pen.rounded_rectangle((edge, 150, edge + 112, 278), 12, colour)
            _write(pen, (edge + 56, 214), name, 62)
        left += width + 24
    return page


def identity() -> Image.Image:
    """Two faces, and where they go."""
    page, pen = _page(
        "The same faces again", "needs the real weights and", "an identity ControlNet of your own"
    )
    for (x, y), colour in FACES:
        pen.ellipse((x - 33, y - 44, x + 33, y + 38), colour)
        pen.pieslice((x - 56, y + 44, x + 56, y + 152), 180, 360, colour)
        pen.rectangle((x - 42, y - 54, x + 42, y + 46), outline=BRIGHT, width=2)
    pen.polygon([(250, 200), (272, 214), (250, 228)], DIM)
    pen.rectangle((292, 118, 476, 302), (70, 78, 96))
    for place, (_, colour) in zip(PLACES, FACES, strict=True):
        pen.rectangle(place, colour)
    return page


def _page(title: str, *notes: str) -> tuple[Image.Image, ImageDraw.ImageDraw]:
    page = Image.new("RGB", (SIDE, SIDE), PAPER)
    pen = ImageDraw.Draw(page)
    _write(pen, (SIDE / 2, 76), title, 30)
    for i, note in enumerate(notes):
        _write(pen, (SIDE / 2, 366 + 40 * i), note, 23 - 3 * i, DIM)
    return page, pen


def _write(
    pen: ImageDraw.ImageDraw,
    middle: tuple[float, float],
    text: str,
    size: int,
    colour: tuple[int, int, int] = BRIGHT,
) -> None:
    pen.text(middle, text, colour, ImageFont.load_default(size), anchor="mm")


def main(folder: Path) -> None:
    """Write them beside their workflows."""
    cards = {
        "text_to_image_official": official(),
        "text_to_image_checkpoint": checkpoint(),
        "identity": identity(),
    }
    for name, card in cards.items():
        card.save(folder / f"{name}.jpg", quality=90)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
