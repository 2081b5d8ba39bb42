"""Styles laid over finished pictures of the picture-book world, for LoRAs to learn.

Each takes and gives ``h w 3`` uint8 and draws nothing at random, so that a picture has one look in a style.
What is where stays as it was.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

Style = Callable[[np.ndarray], np.ndarray]

BRIGHTNESS = (0.299, 0.587, 0.114)
"""Shares of red, green and blue in what an eye sees as bright. Source: ITU-R BT.601, section 2.5.1."""

TONES = ((20, 30, 80), (60, 110, 180), (235, 245, 255))
"""Of a print in Prussian blue, from what was darkest to the paper."""


def cyanotype(picture: np.ndarray) -> np.ndarray:
    """A print in blue and white: each pixel the tone of its brightness, whatever its colour was."""
    bright = picture @ np.array(BRIGHTNESS) / 255 * (len(TONES) - 1)
    places = np.arange(len(TONES))
    tones = [np.interp(bright, places, channel) for channel in zip(*TONES, strict=True)]
    return np.stack(tones, axis=-1).round().astype(np.uint8)


STYLES: dict[str, Style] = {"cyanotype": cyanotype}
"""By the names that recipes give them."""
