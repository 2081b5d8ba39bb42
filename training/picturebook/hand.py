"""How lines and surfaces are put on a canvas: with a steady hand, or with a crayon."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from functools import cache

import numpy as np
from PIL import Image, ImageChops, ImageDraw

Colour = tuple[int, int, int]
Point = tuple[float, float]

CANVAS = 2
"""Pixels of the canvas for one of the picture, along each axis; reduced at the end, so edges are smooth."""

_PAPERS = {"day": (252, 247, 236), "sunset": (252, 240, 226), "night": (132, 138, 188)}
"""What shows between the strokes of a crayon, by the time of day."""


class SteadyHand:
    """Draws every line where it belongs."""

    line = 3.2
    """Width of outlines, in 256ths of a picture's shorter side."""

    def __init__(self, rng: random.Random, scale: float, time: str):
        self.rng, self.scale, self.time = rng, scale, time

    def trace(self, points: Sequence[Point]) -> Sequence[Point]:
        """Where a line through these points of the canvas comes to lie."""
        return points

    def finish(self, canvas: Image.Image, background: Image.Image) -> Image.Image:
        """The picture of a canvas, given what the canvas was before things were drawn on it."""
        return canvas.reduce(CANVAS)


class CrayonHand(SteadyHand):
    """Draws wobbly lines, and broad strokes between which the paper shows."""

    line = 4.4

    def __init__(self, rng: random.Random, scale: float, time: str):
        super().__init__(rng, scale, time)
        self._waves = [
            (
                rng.uniform(1.0, 1.7) * scale,
                math.tau / (rng.uniform(34, 64) * scale),
                rng.uniform(0, math.tau),
            )
            for _ in range(4)
        ]

    def trace(self, points: Sequence[Point]) -> Sequence[Point]:
        """The points and some between them, each moved by a smooth field."""
        step = 11 * self.scale
        dense: list[Point] = []
        for (x, y), (u, v) in zip(points, [*points[1:], points[0]], strict=True):
            parts = max(1, round(math.hypot(u - x, v - y) / step))
            dense += [(x + (u - x) * i / parts, y + (v - y) * i / parts) for i in range(parts)]
        (a, k, p), (b, m, q), (c, n, r), (d, o, s) = self._waves
        return [
            (
                x + a * math.sin(k * y + p) + b * math.sin(m * x + q),
                y + c * math.sin(n * x + r) + d * math.sin(o * y + s),
            )
            for x, y in dense
        ]

    def finish(self, canvas: Image.Image, background: Image.Image) -> Image.Image:
        touched = ImageChops.difference(canvas, background).convert("L").point(lambda v: 255 * (v > 3))
        picture = canvas.reduce(CANVAS)
        strokes = self._crop(_strokes(-0.62, 9.0, 0.76), picture.size)
        strokes.paste(self._crop(_strokes(0.85, 8.0, 0.88), picture.size), mask=touched.reduce(CANVAS))
        return Image.composite(picture, Image.new("RGB", picture.size, _PAPERS[self.time]), strokes)

    def _crop(self, strokes: Image.Image, size: tuple[int, int]) -> Image.Image:
        x, y = (self.rng.randrange(_STROKES - side) if side < _STROKES else 0 for side in size)
        return strokes.crop((x, y, x + size[0], y + size[1]))


HANDS = {"flat": SteadyHand, "crayon": CrayonHand}

_STROKES = 1024


@cache
def _strokes(angle: float, width: float, least: float) -> Image.Image:
    """How much wax covers each point of a large sheet, of strokes side by side in one direction."""
    random_state = np.random.default_rng(7)
    rows, columns = np.mgrid[0:_STROKES, 0:_STROKES].astype(np.float32)
    along = columns * math.cos(angle) + rows * math.sin(angle)
    across = rows * math.cos(angle) - columns * math.sin(angle)
    across = across + 2.2 * np.sin(along / 23) + 1.4 * np.sin(along / 9.7 + across / 31)
    stroke = np.floor(across / width).astype(int) + 4 * _STROKES
    # Pressed unevenly, each its own way; lightest at its edges.
    pressure = random_state.uniform(0.35, 1, 8 * _STROKES)[stroke]
    phase = random_state.uniform(0, math.tau, 8 * _STROKES)[stroke]
    pressure = pressure * (0.8 + 0.2 * np.sin(along / 19 + phase))
    edge = np.abs(across / width % 1 - 0.5) * 2
    covered = least + (1 - least) * pressure * (1.2 - 0.9 * edge**3)
    return Image.fromarray((covered.clip(0, 1) * 255).astype(np.uint8))


class Pen:
    """Draws one thing in units of its own half size around its middle, outlined in a darker shade.

    Attributes:
        left, top, right, bottom: what was drawn so far lies between these, in pixels of the canvas.
    """

    def __init__(
        self,
        canvas: ImageDraw.ImageDraw,
        hand: SteadyHand,
        middle: Point,
        unit: float,
        light: tuple[float, float, float],
    ):
        self.canvas, self.hand, self.light = canvas, hand, light
        self.x, self.y, self.unit = middle[0], middle[1], unit
        self.line = max(2, round(hand.line * hand.scale))
        self.left = self.top = math.inf
        self.right = self.bottom = -math.inf

    def shape(self, colour: Colour, points: Sequence[Point]) -> None:
        """A filled polygon with an outline."""
        points = self._traced(points, self.line / 2)
        lit = self._lit(colour)
        self.canvas.polygon(points, fill=lit)
        self._along([*points, points[0], points[1]], outline(lit), self.line)

    def patch(self, colour: Colour, points: Sequence[Point]) -> None:
        """A filled polygon without an outline."""
        self.canvas.polygon(self._traced(points, 0), fill=self._lit(colour))

    def box(self, colour: Colour, left: float, top: float, right: float, bottom: float) -> None:
        """A filled rectangle with an outline."""
        self.shape(colour, [(left, top), (right, top), (right, bottom), (left, bottom)])

    def oval(self, colour: Colour, x: float, y: float, rx: float, ry: float | None = None) -> None:
        """A filled ellipse with an outline."""
        self.shape(colour, oval(x, y, rx, ry))

    def dot(self, colour: Colour, x: float, y: float, rx: float, ry: float | None = None) -> None:
        """A filled ellipse without an outline."""
        self.patch(colour, oval(x, y, rx, ry))

    def union(self, colour: Colour, shapes: Sequence[Sequence[Point]]) -> None:
        """Filled polygons that overlap, with one outline around all of them."""
        lit = self._lit(colour)
        traced = [self._traced(points, self.line / 2) for points in shapes]
        for points in traced:
            self._along([*points, points[0], points[1]], outline(lit), self.line)
        for points in traced:
            self.canvas.polygon(points, fill=lit)

    def stroke(self, colour: Colour, points: Sequence[Point], width: float) -> None:
        """A line of a width in the pen's units, open at its ends."""
        wide = max(self.line, round(width * self.unit))
        # There and back again, because hands trace closed lines.
        there_and_back = [*points, *points[-2:0:-1]]
        traced = self._traced(there_and_back, wide / 2)
        self._along([*traced, traced[0], traced[1]], self._lit(colour), wide)

    def _along(self, points: Sequence[Point], colour: Colour, width: int) -> None:
        """A line with round corners; Pillow's own joints are slow, and curves need none."""
        self.canvas.line(points, fill=colour, width=width)
        r = width / 2 - 0.5
        for (x0, y0), (x, y), (x1, y1) in zip(points, points[1:], points[2:], strict=False):
            ux, uy, vx, vy = x - x0, y - y0, x1 - x, y1 - y
            along = ux * vx + uy * vy
            if along <= 0 or along * along < 0.85 * (ux * ux + uy * uy) * (vx * vx + vy * vy):
                self.canvas.ellipse((x - r, y - r, x + r, y + r), fill=colour)

    def _lit(self, colour: Colour) -> Colour:
        return tuple(round(c * channel) for c, channel in zip(colour, self.light, strict=True))

    def _traced(self, points: Sequence[Point], margin: float) -> Sequence[Point]:
        traced = self.hand.trace([(self.x + px * self.unit, self.y + py * self.unit) for px, py in points])
        xs, ys = [x for x, _ in traced], [y for _, y in traced]
        self.left, self.right = min(self.left, min(xs) - margin), max(self.right, max(xs) + margin)
        self.top, self.bottom = min(self.top, min(ys) - margin), max(self.bottom, max(ys) + margin)
        return traced


def oval(x: float, y: float, rx: float, ry: float | None = None) -> list[Point]:
    """Points of an ellipse; a circle without ``ry``."""
    ry = rx if ry is None else ry
    return [(x + rx * c, y + ry * s) for c, s in _TURN]


_TURN = [(math.cos(i * math.tau / 28), math.sin(i * math.tau / 28)) for i in range(28)]


def arc(x: float, y: float, rx: float, ry: float, start: float, end: float, steps: int = 16) -> list[Point]:
    """Points along an ellipse between two angles in degrees, clockwise from the right."""
    angles = (math.radians(start + (end - start) * i / steps) for i in range(steps + 1))
    return [(x + rx * math.cos(a), y + ry * math.sin(a)) for a in angles]


def shade(colour: Colour, factor: float) -> Colour:
    """Darker below 1; above it, as far towards white as ``factor`` exceeds 1."""
    if factor > 1:
        return mix(colour, (255, 255, 255), factor - 1)
    return tuple(round(c * factor) for c in colour)


def mix(first: Colour, second: Colour, share: float) -> Colour:
    """The colour that has ``share`` of the second."""
    return tuple(round(a + (b - a) * share) for a, b in zip(first, second, strict=True))


def outline(colour: Colour) -> Colour:
    """The colour around a surface: darker, but lighter around a black one, which would vanish in the dark."""
    return shade(colour, 0.52) if max(colour) > 80 else mix(colour, (190, 192, 215), 0.42)
