"""Put pictures side by side into a JPEG: ``thumbnail.py OUT.jpg PICTURE …``."""

from __future__ import annotations

import sys
from pathlib import Path

from PIL import Image

WIDTH = 512
"""Pixels of a thumbnail."""

QUALITY = 88


def thumbnail(pictures: list[Image.Image]) -> Image.Image:
    """Pictures side by side at one height, ``WIDTH`` pixels wide in all."""
    widths = [picture.width / picture.height for picture in pictures]
    height = round(WIDTH / sum(widths))
    page = Image.new("RGB", (WIDTH, height))
    for i, picture in enumerate(pictures):
        left, right = (round(height * sum(widths[:n])) for n in (i, i + 1))
        page.paste(picture.convert("RGB").resize((right - left, height), Image.Resampling.LANCZOS), (left, 0))
    return page


if __name__ == "__main__":
    out, *names = map(Path, sys.argv[1:])
    thumbnail([Image.open(name) for name in names]).save(out, quality=QUALITY)
