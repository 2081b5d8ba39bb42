"""Styles laid over finished pictures of the picture-book world, for LoRAs to learn.

Each takes and gives ``h w 3`` uint8 and draws nothing at random, so that a picture has one look in a style.
What is where stays as it was.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from PIL import Image, ImageFilter

Style = Callable[[np.ndarray], np.ndarray]

PAPER = (243, 230, 202)
"""Cream."""

INK = (46, 36, 44)
"""Nearly black."""

INKS = (PAPER, INK, (192, 58, 44), (218, 160, 66), (58, 92, 132), (112, 130, 74))
"""Of a woodcut in colour: the paper, the key block, and blocks of vermilion, ochre, indigo and moss."""

HATCH = 10
"""Pixels from one cut to the next."""


def woodcut(picture: np.ndarray) -> np.ndarray:
    """A print from few blocks: flat inks on cream paper, dark contours, cuts of the knife in what is dark."""
    smooth = np.asarray(Image.fromarray(picture).filter(ImageFilter.GaussianBlur(1.5)), dtype=np.float32)
    inks = np.array(INKS, dtype=np.float32)
    nearest = np.square(_seen(smooth)[:, :, None] - _seen(inks)).sum(axis=-1).argmin(axis=-1)
    printed = inks[nearest]
    rows, columns = np.indices(nearest.shape)
    cut = (rows + columns + 2 * np.sin(columns / 9)) % HATCH < 1.5
    printed[cut & (nearest == 1)] = PAPER
    printed[_contours(smooth)] = INK
    return printed.round().astype(np.uint8)


def _seen(colours: np.ndarray) -> np.ndarray:
    """Brightness and two differences of hue, ``… 3``, in which distances are nearer to what an eye sees."""
    red, green, blue = np.moveaxis(colours, -1, 0)
    bright = (red + green + blue) / 3
    return np.stack([1.5 * bright, 1.5 * (red - green), 0.75 * (2 * blue - red - green)], axis=-1)


def _contours(smooth: np.ndarray) -> np.ndarray:
    """Where colours change quickly: ``h w``, two to three pixels wide."""
    down, across = np.zeros_like(smooth), np.zeros_like(smooth)
    down[1:-1] = smooth[2:] - smooth[:-2]
    across[:, 1:-1] = smooth[:, 2:] - smooth[:, :-2]
    steep = np.sqrt((np.square(down) + np.square(across)).sum(axis=-1))
    return steep > 70


def watercolour(picture: np.ndarray) -> np.ndarray:
    """Thin washes: pale colours that run a little, darker where a wash dried at its edge, on rough paper."""
    image = Image.fromarray(picture)
    wash = np.asarray(
        image.filter(ImageFilter.MedianFilter(9)).filter(ImageFilter.GaussianBlur(2)), np.float32
    )
    wide = np.asarray(image.filter(ImageFilter.GaussianBlur(7)), dtype=np.float32)
    edges = np.clip((wide - wash) / 255, -0.1, 0.25).mean(axis=-1, keepdims=True)
    rows, columns = np.indices(wash.shape[:2])
    grain = 5 * np.sin(rows * 1.3 + 2 * np.sin(columns * 0.7)) * np.sin(columns * 1.1 + rows * 0.2)
    thinned = 255 - 0.62 * (255 - wash) * (1 + 1.2 * edges)
    paper = thinned * np.array((0.99, 0.985, 0.96), dtype=np.float32) + grain[..., None]
    return np.clip(paper, 0, 255).round().astype(np.uint8)


STYLES: dict[str, Style] = {"woodcut": woodcut, "watercolour": watercolour}
"""By the names that recipes give them."""
