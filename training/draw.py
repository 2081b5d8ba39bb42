"""Draws a scene with Pillow, at twice the size and then reduced, so that edges are smooth."""

from __future__ import annotations

import math
import random
from collections.abc import Callable

import numpy as np
from PIL import Image, ImageDraw

from .world import COLOURS, FLYING, Scene

SIZE = 256
"""Pixels along a side of a picture."""

_SCALE = 2
Colour = tuple[int, int, int]
Box = tuple[float, float, float, float]
"""Left, top, right, bottom in [0, 1]."""

_SKIES = {
    "day": ((86, 168, 240), (200, 232, 252)),
    "sunset": ((110, 70, 150), (250, 165, 100)),
    "night": ((12, 16, 52), (48, 54, 108)),
}
_GROUNDS = {
    "grass": ((128, 200, 84), (70, 150, 62)),
    "snow": ((244, 246, 252), (206, 214, 232)),
    "sand": ((244, 220, 156), (216, 184, 112)),
    "sea": ((62, 146, 212), (28, 92, 160)),
}
_LIGHT = {"day": (1.0, 1.0, 1.0), "sunset": (1.0, 0.88, 0.82), "night": (0.52, 0.55, 0.72)}
_WOOD = (134, 88, 52)


def _shade(colour: Colour, factor: float) -> Colour:
    return tuple(max(0, min(255, round(c * factor))) for c in colour)


def _lit(colour: Colour, time: str, strength: float = 1.0) -> Colour:
    light = (1 - strength * (1 - channel) for channel in _LIGHT[time])
    return tuple(round(c * channel) for c, channel in zip(colour, light, strict=True))


class _Pen:
    """Draws in units of a thing's size around its middle; outlines are a darker shade."""

    def __init__(self, canvas: ImageDraw.ImageDraw, x: float, y: float, unit: float, time: str):
        self.canvas, self.x, self.y, self.unit, self.time = canvas, x, y, unit, time
        self.line = max(2, round(unit * 0.06))

    def _at(self, points: list[tuple[float, float]]) -> list[tuple[float, float]]:
        return [(self.x + px * self.unit, self.y + py * self.unit) for px, py in points]

    def polygon(self, colour: Colour, points: list[tuple[float, float]]) -> None:
        colour, points = _lit(colour, self.time, 0.6), self._at(points)
        self.canvas.polygon(points, fill=colour)
        self.canvas.line(
            [*points, points[0], points[1]], fill=_shade(colour, 0.6), width=self.line, joint="curve"
        )

    def ellipse(self, colour: Colour, left: float, top: float, right: float, bottom: float) -> None:
        colour = _lit(colour, self.time, 0.6)
        (x0, y0), (x1, y1) = self._at([(left, top), (right, bottom)])
        self.canvas.ellipse((x0, y0, x1, y1), fill=colour, outline=_shade(colour, 0.6), width=self.line)

    def box(self, colour: Colour, left: float, top: float, right: float, bottom: float) -> None:
        self.polygon(colour, [(left, top), (right, top), (right, bottom), (left, bottom)])


def _house(pen: _Pen, colour: Colour) -> None:
    pen.box(colour, -0.75, -0.15, 0.75, 1)
    pen.polygon(_shade(colour, 0.62), [(-0.98, -0.15), (0, -1), (0.98, -0.15)])
    pen.box(_WOOD, -0.2, 0.4, 0.2, 1)
    for x in (-0.5, 0.5):
        pen.box((255, 240, 170), x - 0.15, 0.08, x + 0.15, 0.36)


def _tree(pen: _Pen, colour: Colour) -> None:
    pen.box(_WOOD, -0.16, 0.2, 0.16, 1)
    for x, y in ((-0.38, 0.02), (0.38, 0.02), (0, -0.42)):
        pen.ellipse(colour, x - 0.52, y - 0.52, x + 0.52, y + 0.52)
    pen.canvas.ellipse(_box_of(pen, -0.5, -0.5, 0.5, 0.38), fill=_lit(colour, pen.time, 0.6))


def _box_of(pen: _Pen, left: float, top: float, right: float, bottom: float) -> Box:
    (x0, y0), (x1, y1) = pen._at([(left, top), (right, bottom)])
    return x0, y0, x1, y1


def _flower(pen: _Pen, colour: Colour) -> None:
    pen.box((60, 150, 60), -0.06, 0, 0.06, 1)
    pen.polygon((60, 150, 60), [(0, 0.8), (0.5, 0.42), (0.4, 0.8)])
    for i in range(6):
        x, y = 0.4 * math.cos(i * math.pi / 3), -0.45 + 0.4 * math.sin(i * math.pi / 3)
        pen.ellipse(colour, x - 0.26, y - 0.26, x + 0.26, y + 0.26)
    pen.ellipse((250, 200, 50), -0.22, -0.67, 0.22, -0.23)


def _mushroom(pen: _Pen, colour: Colour) -> None:
    pen.box((246, 232, 208), -0.24, -0.05, 0.24, 1)
    arc = [(0.9 * math.cos(a), 0.1 - 1.05 * math.sin(a)) for a in np.linspace(0, math.pi, 24)]
    pen.polygon(colour, arc)
    dots = (255, 255, 250) if colour != COLOURS["white"] else (226, 120, 110)
    for x, y, r in ((-0.42, -0.28, 0.15), (0.08, -0.58, 0.18), (0.5, -0.2, 0.13)):
        pen.ellipse(dots, x - r, y - r, x + r, y + r)


def _cat(pen: _Pen, colour: Colour) -> None:
    tail = [
        (0.45, 0.95),
        (0.85, 0.8),
        (0.95, 0.3),
        (0.8, 0.05),
        (0.72, 0.1),
        (0.8, 0.35),
        (0.7, 0.65),
        (0.45, 0.7),
    ]
    pen.polygon(colour, tail)
    pen.ellipse(colour, -0.52, -0.05, 0.52, 1.02)
    for s in (-1, 1):
        pen.polygon(colour, [(s * 0.5, -0.4), (s * 0.5, -1.05), (s * 0.1, -0.75)])
    pen.ellipse(colour, -0.55, -0.88, 0.55, 0.08)
    eyes = (60, 170, 80) if colour == COLOURS["black"] else (40, 40, 46)
    for x in (-0.22, 0.22):
        pen.ellipse(eyes, x - 0.09, -0.52, x + 0.09, -0.32)
    pen.polygon((240, 140, 150), [(-0.07, -0.24), (0.07, -0.24), (0, -0.14)])


def _car(pen: _Pen, colour: Colour) -> None:
    pen.polygon(colour, [(-0.6, 0.2), (-0.38, -0.35), (0.35, -0.35), (0.65, 0.2)])
    pen.polygon((206, 232, 250), [(-0.4, 0.12), (-0.26, -0.2), (-0.03, -0.2), (-0.03, 0.12)])
    pen.polygon((206, 232, 250), [(0.08, 0.12), (0.08, -0.2), (0.26, -0.2), (0.42, 0.12)])
    pen.polygon(colour, [(-1, 0.15), (1, 0.15), (1, 0.7), (-1, 0.7)])
    for x in (-0.55, 0.55):
        pen.ellipse((50, 50, 56), x - 0.28, 0.45, x + 0.28, 1.01)
        pen.ellipse((210, 210, 214), x - 0.11, 0.62, x + 0.11, 0.84)


def _boat(pen: _Pen, colour: Colour) -> None:
    pen.box(_WOOD, -0.06, -1, 0.04, 0.5)
    pen.polygon((252, 250, 244), [(0.08, -0.95), (0.8, 0.3), (0.08, 0.3)])
    pen.polygon((240, 232, 214), [(-0.1, -0.75), (-0.7, 0.3), (-0.1, 0.3)])
    pen.polygon(colour, [(-1, 0.42), (1, 0.42), (0.65, 1), (-0.65, 1)])


def _balloon(pen: _Pen, colour: Colour) -> None:
    pen.polygon((240, 232, 214), [(-0.4, 0.2), (0.4, 0.2), (0.16, 0.72), (-0.16, 0.72)])
    pen.ellipse(colour, -0.72, -1, 0.72, 0.42)
    pen.ellipse(_shade(colour, 0.82), -0.28, -1, 0.28, 0.42)
    pen.box(_WOOD, -0.2, 0.7, 0.2, 1)


def _bird(pen: _Pen, colour: Colour) -> None:
    pen.polygon(_shade(colour, 0.75), [(0.3, 0.05), (1, -0.25), (0.95, 0.3)])
    pen.ellipse(colour, -0.6, -0.25, 0.62, 0.48)
    pen.polygon((250, 160, 40), [(-0.88, -0.28), (-1.15, -0.12), (-0.86, -0.06)])
    pen.ellipse(colour, -0.95, -0.52, -0.35, 0.08)
    pen.polygon(_shade(colour, 0.75), [(-0.2, 0.05), (0.35, -0.9), (0.45, 0.12)])
    pen.ellipse((255, 255, 255), -0.8, -0.36, -0.6, -0.16)
    pen.ellipse((30, 30, 36), -0.77, -0.31, -0.67, -0.21)


def _star(pen: _Pen, colour: Colour) -> None:
    radii = [1.0, 0.45] * 5
    pen.polygon(
        colour,
        [(r * math.sin(i * math.pi / 5), 0.08 - r * math.cos(i * math.pi / 5)) for i, r in enumerate(radii)],
    )


def _heart(pen: _Pen, colour: Colour) -> None:
    turn = np.linspace(0, 2 * math.pi, 40, endpoint=False)
    x = np.sin(turn) ** 3
    y = -(13 * np.cos(turn) - 5 * np.cos(2 * turn) - 2 * np.cos(3 * turn) - np.cos(4 * turn)) / 16.5
    pen.polygon(colour, [(float(px) * 0.95, float(py)) for px, py in zip(x, y, strict=True)])


def _fish(pen: _Pen, colour: Colour) -> None:
    pen.polygon(_shade(colour, 0.78), [(0.45, 0), (1, -0.55), (0.85, 0), (1, 0.55)])
    pen.polygon(_shade(colour, 0.78), [(-0.25, -0.45), (0.15, -0.85), (0.3, -0.35)])
    pen.ellipse(colour, -0.95, -0.55, 0.6, 0.55)
    pen.ellipse((255, 255, 255), -0.7, -0.26, -0.42, 0.02)
    pen.ellipse((30, 30, 36), -0.64, -0.19, -0.5, -0.05)


_THINGS: dict[str, Callable[[_Pen, Colour], None]] = {
    "house": _house, "tree": _tree, "flower": _flower, "mushroom": _mushroom, "cat": _cat, "car": _car,
    "boat": _boat, "balloon": _balloon, "bird": _bird, "star": _star, "heart": _heart, "fish": _fish,
}  # fmt: skip


def _gradient(top: Colour, bottom: Colour, height: int, width: int) -> Image.Image:
    column = np.linspace(top, bottom, height)[:, None, :].repeat(width, axis=1)
    return Image.fromarray(column.astype(np.uint8))


def _sky(canvas: ImageDraw.ImageDraw, scene: Scene, rng: random.Random, s: float) -> None:
    """Sun or moon, stars or clouds, in the upper corners, out of the way of things."""
    side = rng.choice((0.13, 0.87))
    x, y, r = side * SIZE * s, 30 * s, 17 * s
    if scene.time == "night":
        for _ in range(22):
            px, py, pr = rng.uniform(0, SIZE) * s, rng.uniform(0, 120) * s, rng.uniform(0.7, 1.5) * s
            canvas.ellipse((px - pr, py - pr, px + pr, py + pr), fill=(236, 236, 220))
        canvas.ellipse((x - r, y - r, x + r, y + r), fill=(246, 240, 200))
        return
    canvas.ellipse(
        (x - r, y - r, x + r, y + r), fill=(255, 224, 70) if scene.time == "day" else (255, 206, 120)
    )
    cloud = (255, 255, 255) if scene.time == "day" else (250, 200, 176)
    x = (1 - side) * SIZE * s + rng.uniform(-12, 12) * s
    for dx, dy, cr in ((-15, 4, 10), (0, -2, 14), (15, 4, 10)):
        px, py, pr = x + dx * s, y + dy * s, cr * s
        canvas.ellipse((px - pr, py - pr, px + pr, py + pr), fill=cloud)


def _ground(picture: Image.Image, scene: Scene, rng: random.Random, horizon: float, s: float) -> None:
    top, bottom = (_lit(c, scene.time) for c in _GROUNDS[scene.ground])
    side = round(SIZE * s)
    mask = Image.new("L", (side, side))
    phase, wave = rng.uniform(0, 6.28), 0 if scene.ground == "sea" else rng.uniform(3, 7)
    line = [(x, (horizon + wave * math.sin(phase + x / side * 5)) * s) for x in range(0, side + 9, 8)]
    ImageDraw.Draw(mask).polygon([*line, (side, side), (0, side)], fill=255)
    picture.paste(_gradient(top, bottom, side, side), mask=mask)
    if scene.ground == "sea":
        canvas = ImageDraw.Draw(picture)
        for _ in range(9):
            x, y = rng.uniform(0, SIZE - 26) * s, rng.uniform(horizon + 12, SIZE - 12) * s
            canvas.arc((x, y, x + 22 * s, y + 9 * s), 200, 340, fill=_shade(top, 1.25), width=round(1.5 * s))


def _places(scene: Scene, rng: random.Random, horizon: float) -> list[tuple[float, float, float]]:
    """Middle and half size of each thing, in pixels of the picture."""
    unit = {1: rng.uniform(52, 62), 2: rng.uniform(38, 44), 3: rng.uniform(31, 36)}[scene.count]
    if scene.count == 1:
        xs = [{"left": 72, "middle": 128, "right": 184}[scene.place] + rng.uniform(-8, 8)]
    else:
        gap = 256 / (scene.count + 1) if scene.count == 3 else 104
        xs = [128 + gap * 1.12 * (i - (scene.count - 1) / 2) + rng.uniform(-4, 4) for i in range(scene.count)]
    if scene.kind in FLYING:
        low, high = 62 + unit * 0.6, max(64 + unit * 0.6, horizon + 6 - unit * 0.6)
        y = rng.uniform(low, high)
    else:
        y = horizon + rng.uniform(26, 44) - unit * 0.55
    return [(x, y + rng.uniform(-3, 3), unit) for x in xs]


def draw(scene: Scene) -> tuple[np.ndarray, list[Box]]:
    """The picture of a scene, and where its things are.

    Returns:
        ``SIZE SIZE 3`` uint8, and a box for each thing.
    """
    rng = random.Random(scene.seed ^ 0x5EED)
    side = SIZE * _SCALE
    horizon = rng.uniform(148, 168)
    picture = _gradient(*_SKIES[scene.time], side, side)
    _sky(ImageDraw.Draw(picture), scene, rng, _SCALE)
    _ground(picture, scene, rng, horizon, _SCALE)
    canvas = ImageDraw.Draw(picture)
    boxes: list[Box] = []
    for x, y, unit in _places(scene, rng, horizon):
        if scene.kind not in FLYING and scene.ground != "sea":
            shadow = _shade(_lit(_GROUNDS[scene.ground][1], scene.time), 0.78)
            foot = (y + unit * 0.98) * _SCALE
            half, flat = unit * 0.85 * _SCALE, unit * 0.12 * _SCALE
            canvas.ellipse((x * _SCALE - half, foot - flat, x * _SCALE + half, foot + flat), fill=shadow)
        pen = _Pen(canvas, x * _SCALE, y * _SCALE, unit * _SCALE, scene.time)
        _THINGS[scene.kind](pen, COLOURS[scene.colour])
        boxes.append(tuple(v / SIZE for v in (x - unit, y - unit, x + unit, y + unit)))
    return np.asarray(picture.reduce(_SCALE)), boxes
