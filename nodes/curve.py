"""A run's noise levels as a picture."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

WIDTH, HEIGHT, MARGIN = 480, 300, 34
PAPER, GRID, LINE, INK = (24, 26, 31), (58, 62, 70), (92, 170, 255), (190, 195, 205)


def curve(sigmas: Tensor) -> Tensor:
    """The share of noise at each step, ``1 h w 3`` in [0, 1].

    Args:
        sigmas: falling, ``steps + 1`` of them.
    """
    page = Image.new("RGB", (WIDTH, HEIGHT), PAPER)
    pen, font = ImageDraw.Draw(page), ImageFont.load_default(12)
    _axes(pen, font, len(sigmas) - 1)
    shares = (sigmas / (1 + sigmas**2).sqrt()).tolist()
    points = [_place(i / max(1, len(shares) - 1), share) for i, share in enumerate(shares)]
    if len(points) > 1:
        pen.line(points, LINE, 2)
    for x, y in points:
        pen.ellipse((x - 3, y - 3, x + 3, y + 3), LINE)
    return torch.from_numpy(np.asarray(page, dtype=np.float32) / 255)[None]


def _place(across: float, up: float) -> tuple[float, float]:
    return MARGIN + across * (WIDTH - 2 * MARGIN), HEIGHT - MARGIN - up * (HEIGHT - 2 * MARGIN)


def _axes(pen: Any, font: Any, steps: int) -> None:
    for share in (0.0, 0.25, 0.5, 0.75, 1.0):
        left, right = _place(0, share), _place(1, share)
        pen.line((left, right), GRID, 1)
        pen.text((4, left[1] - 7), f"{share:g}", INK, font)
    pen.text((MARGIN, 10), "noise left in the latents", INK, font)
    pen.text((MARGIN, HEIGHT - 24), "0", INK, font)
    pen.text((WIDTH - MARGIN - 60, HEIGHT - 24), f"step {steps}", INK, font)
