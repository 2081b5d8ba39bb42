"""Paints a scene with Pillow: sky, weather, what is far away, the ground, and the things on it."""

from __future__ import annotations

import math
import random
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw

from .hand import CANVAS, HANDS, Colour, Pen, SteadyHand, mix, oval, shade
from .scene import COLOURS, FLYING, STANDING, SWIMMING, Scene
from .things import DRAWERS

SIZE = 256
"""Pixels along a side of a picture, unless another size is asked for."""

Box = tuple[float, float, float, float]
"""Left, top, right, bottom in [0, 1]."""

_SKIES = {
    "day": ((84, 170, 244), (204, 236, 253)),
    "sunset": ((122, 76, 166), (255, 176, 108)),
    "night": ((30, 38, 92), (84, 94, 168)),
}
_DULL = {"day": (150, 166, 184), "sunset": (150, 116, 132), "night": (62, 68, 100)}
_GROUNDS = {
    "grass": ((136, 204, 90), (76, 158, 66)),
    "snow": ((238, 243, 252), (204, 216, 238)),
    "sand": ((246, 222, 158), (220, 188, 118)),
    "sea": ((70, 156, 216), (30, 96, 166)),
}
_FAR = {"grass": (92, 168, 104), "snow": (178, 196, 226), "sand": (226, 190, 130), "sea": (112, 160, 168)}
_GROUND_LIGHT = {"day": (1.0, 1.0, 1.0), "sunset": (0.96, 0.82, 0.78), "night": (0.5, 0.54, 0.74)}
_LIGHT = {"day": (1.0, 1.0, 1.0), "sunset": (1.0, 0.95, 0.91), "night": (0.87, 0.88, 0.96)}
_CLOUDS = {"day": (255, 255, 255), "sunset": (252, 206, 186), "night": (150, 158, 204)}
_DULL_CLOUDS = {"day": (206, 214, 224), "sunset": (196, 158, 166), "night": (112, 120, 160)}
_RAIN = {"day": (228, 242, 255), "sunset": (236, 220, 236), "night": (150, 176, 226)}
_FLAKES = {"day": (255, 255, 255), "sunset": (255, 255, 255), "night": (232, 236, 250)}

_Place = tuple[str, tuple[float, float, float]]
"""Kind, and its middle and half size in lengths of a sheet."""


@dataclass(frozen=True, slots=True)
class Placed:
    """A thing in a picture, and the box that just holds it."""

    kind: str
    colour: str
    box: Box


@dataclass(frozen=True, slots=True)
class Drawing:
    """A picture, ``h w 3`` uint8, and the things in it, group by group, each group from left to right."""

    picture: np.ndarray
    things: tuple[Placed, ...]


@dataclass(frozen=True, slots=True)
class _Sheet:
    """What is painted on: lengths in 256ths of the picture's shorter side, and the canvas.

    Attributes:
        width, height: of the picture.
        horizon: its distance from the top.
        scale: pixels of the canvas in one length.
    """

    image: Image.Image
    canvas: ImageDraw.ImageDraw
    hand: SteadyHand
    width: float
    height: float
    horizon: float
    scale: float

    def patch(self, colour: Colour, points: list[tuple[float, float]]) -> None:
        traced = self.hand.trace([(x * self.scale, y * self.scale) for x, y in points])
        self.canvas.polygon(traced, fill=colour)

    def disc(self, colour: Colour, x: float, y: float, r: float) -> None:
        edges = (x - r, y - r, x + r, y + r)
        self.canvas.ellipse([edge * self.scale for edge in edges], fill=colour)

    def line(self, colour: Colour, points: list[tuple[float, float]], width: float) -> None:
        scaled = [(x * self.scale, y * self.scale) for x, y in points]
        self.canvas.line(scaled, fill=colour, width=round(width * self.scale))


def draw(scene: Scene, size: tuple[int, int] = (SIZE, SIZE)) -> Drawing:
    """The picture of a scene.

    Args:
        scene: what to draw.
        size: width and height; things are as large as the shorter side has it.
    """
    rng = random.Random(scene.seed ^ 0x5EED)
    unit = min(size) / SIZE
    scale = unit * CANVAS
    width, height = size[0] / unit, size[1] / unit
    image = _sky(scene, size)
    sheet = _Sheet(
        image=image,
        canvas=ImageDraw.Draw(image),
        hand=HANDS[scene.style](rng, scale, scene.time),
        width=width,
        height=height,
        horizon=height * rng.uniform(0.6, 0.66),
        scale=scale,
    )
    places = _places(sheet, scene, rng)
    _heavens(sheet, scene, _clearer_side(sheet, places, rng), rng)
    _ground(sheet, scene, rng)
    _falling(sheet, scene, rng)
    for kind, (x, y, half) in places:
        _shadow(sheet, scene, kind, x, y, half)
    background = image.copy()
    kinds = [group for group in scene.groups for _ in range(group.count)]
    things = []
    for group, (kind, (x, y, half)) in zip(kinds, places, strict=True):
        pen = Pen(sheet.canvas, sheet.hand, (x * scale, y * scale), half * scale, _LIGHT[scene.time])
        DRAWERS[kind](pen, COLOURS[group.colour])
        edges = zip((pen.left, pen.top, pen.right, pen.bottom), image.size * 2, strict=True)
        things.append(Placed(kind, group.colour, tuple(min(max(v / side, 0.0), 1.0) for v, side in edges)))
    return Drawing(np.asarray(sheet.hand.finish(image, background)), tuple(things))


def _lit(colour: Colour, time: str) -> Colour:
    return tuple(round(c * channel) for c, channel in zip(colour, _GROUND_LIGHT[time], strict=True))


def _gradient(top: Colour, bottom: Colour, size: tuple[int, int]) -> Image.Image:
    share = np.linspace(0, 1, size[1], dtype=np.float32)[:, None, None]
    column = np.array(top) * (1 - share) + np.array(bottom) * share
    return Image.fromarray((column + 0.5).astype(np.uint8)).resize(size, Image.Resampling.NEAREST)


def _sky(scene: Scene, size: tuple[int, int]) -> Image.Image:
    dullness = {"clear": 0.0, "clouds": 0.25, "rain": 0.7, "snow": 0.5}[scene.weather]
    top, bottom = (mix(colour, _DULL[scene.time], dullness) for colour in _SKIES[scene.time])
    return _gradient(top, bottom, (size[0] * CANVAS, size[1] * CANVAS))


def _clearer_side(sheet: _Sheet, places: list[_Place], rng: random.Random) -> float:
    """Where the sun is, as a share of the width, so that things do not hide it."""
    lean = sum(x - sheet.width / 2 for _, (x, y, _) in places if y < sheet.horizon)
    if abs(lean) < 12:
        return rng.choice((0.13, 0.87))
    return 0.13 if lean > 0 else 0.87


def _heavens(sheet: _Sheet, scene: Scene, side: float, rng: random.Random) -> None:
    """Sun, or moon and stars, in a clear sky; clouds in any other."""
    if scene.weather != "clear":
        _cloud_cover(sheet, scene, rng)
        return
    x, y = side * sheet.width, rng.uniform(30, 38)
    if scene.time == "night":
        for _ in range(12):
            sx, sy = rng.uniform(6, sheet.width - 6), rng.uniform(6, sheet.horizon * 0.7)
            sheet.disc((236, 236, 214), sx, sy, rng.uniform(1.8, 2.8))
        sheet.patch((250, 244, 206), oval(x, y, 20))
        sheet.patch(mix(_SKIES["night"][0], _SKIES["night"][1], y / sheet.height), oval(x + 9, y - 5, 17))
    elif scene.time == "sunset":
        y = sheet.horizon - rng.uniform(24, 34)
        sheet.patch((255, 206, 128), oval(x, y, 34))
        sheet.patch((255, 236, 150), oval(x, y, 24))
    else:
        sheet.patch((255, 240, 150), oval(x, y, 27))
        sheet.patch((255, 220, 60), oval(x, y, 20))


def _cloud(sheet: _Sheet, colour: Colour, x: float, y: float, r: float) -> None:
    for dx, dy, part in ((-1.15, 0.25, 0.75), (0, -0.25, 1.0), (1.15, 0.2, 0.8)):
        sheet.patch(colour, oval(x + dx * r, y + dy * r, r * part))
    sheet.patch(
        colour,
        [(x - 1.6 * r, y + 0.2 * r), (x + 1.7 * r, y + 0.2 * r), (x + 1.5 * r, y + r), (x - 1.5 * r, y + r)],
    )


def _cloud_cover(sheet: _Sheet, scene: Scene, rng: random.Random) -> None:
    dull = scene.weather != "clouds"
    colour = (_DULL_CLOUDS if dull else _CLOUDS)[scene.time]
    count = max(3, round(sheet.width / 85))
    for i in range(count):
        x = (i + 0.5) / count * sheet.width + rng.uniform(-12, 12)
        _cloud(sheet, colour, x, 16 + 16 * (i % 2) + rng.uniform(-4, 4), rng.uniform(17, 22))


def _ground(sheet: _Sheet, scene: Scene, rng: random.Random) -> None:
    width, height, horizon = sheet.width, sheet.height, sheet.horizon
    haze = mix(_SKIES[scene.time][1], _DULL[scene.time], 0.3 if scene.weather in ("rain", "snow") else 0.0)
    far = mix(_lit(_FAR[scene.ground], scene.time), haze, 0.35)
    phase = rng.uniform(0, math.tau)
    if scene.ground == "snow":
        peaks = [(-20, horizon)]
        for i in range(round(width / 56) + 2):
            peaks += [
                (i * 56 - 20 + rng.uniform(-8, 8), horizon - rng.uniform(26, 44)),
                (i * 56 + 8, horizon - 12),
            ]
        sheet.patch(far, [*peaks, (width + 40, horizon + 20), (-20, horizon + 20)])
    elif scene.ground != "sea":
        hills = [(x, horizon - 12 - 11 * math.sin(phase + x / 38)) for x in range(-8, round(width) + 16, 12)]
        sheet.patch(far, [*hills, (width + 20, horizon + 20), (-20, horizon + 20)])
    top, bottom = (_lit(colour, scene.time) for colour in _GROUNDS[scene.ground])
    wave = 0 if scene.ground == "sea" else 4
    edge = [(x, horizon + wave * math.sin(phase + x / 52)) for x in range(-8, round(width) + 16, 12)]
    mask = Image.new("L", sheet.image.size)
    outline = [*edge, (width + 20, height + 20), (-20, height + 20)]
    traced = sheet.hand.trace([(x * sheet.scale, y * sheet.scale) for x, y in outline])
    ImageDraw.Draw(mask).polygon(traced, fill=255)
    start = round((horizon - 12) * sheet.scale)
    ground = _gradient(top, bottom, (sheet.image.width, sheet.image.height - start))
    sheet.image.paste(ground, (0, start), mask.crop((0, start, *mask.size)))
    _patches(sheet, scene, rng, top, bottom)


def _patches(sheet: _Sheet, scene: Scene, rng: random.Random, top: Colour, bottom: Colour) -> None:
    """A few broad marks: waves on water, soft hollows on land."""
    depth = sheet.height - sheet.horizon
    if scene.ground == "sea":
        for row in range(3):
            y = sheet.horizon + depth * (0.24 + 0.29 * row)
            x = rng.uniform(-30, 10)
            while x < sheet.width:
                sheet.line(
                    mix(top, (255, 255, 255), 0.3),
                    [(px, y + 4 * math.cos((px - x) / 24 * math.pi)) for px in _steps(x, x + 36, 6)],
                    3,
                )
                x += rng.uniform(70, 110)
        return
    for _ in range(4):
        x, y = rng.uniform(0, sheet.width), sheet.horizon + depth * rng.uniform(0.3, 0.92)
        sheet.patch(
            mix(top, bottom, rng.choice((0.15, 0.85))), oval(x, y, rng.uniform(26, 44), rng.uniform(5, 8))
        )


def _steps(start: float, end: float, step: float) -> list[float]:
    return [start + step * i for i in range(round((end - start) / step) + 1)]


def _falling(sheet: _Sheet, scene: Scene, rng: random.Random) -> None:
    """Rain or snow, spread evenly."""
    if scene.weather not in ("rain", "snow"):
        return
    across, down = round(sheet.width / 37), round(sheet.height / 37)
    for i in range(across):
        for j in range(down):
            x = (i + rng.uniform(0.1, 0.9)) * sheet.width / across
            y = (j + rng.uniform(0.1, 0.9)) * sheet.height / down
            if scene.weather == "rain":
                sheet.line(_RAIN[scene.time], [(x + 4, y - 9), (x - 4, y + 9)], 3)
            else:
                sheet.disc(_FLAKES[scene.time], x, y, rng.uniform(3, 4.4))


def _shadow(sheet: _Sheet, scene: Scene, kind: str, x: float, y: float, half: float) -> None:
    """Where a thing touches the ground or the water."""
    bottom = _lit(_GROUNDS[scene.ground][1], scene.time)
    if kind in STANDING:
        sheet.patch(shade(bottom, 0.76), oval(x, y + half * 0.97, half * 0.95, half * 0.13))
    elif kind in SWIMMING and kind != "fish":
        sheet.patch(mix(bottom, (255, 255, 255), 0.4), oval(x, y + half * 0.9, half * 1.12, half * 0.16))


def _places(sheet: _Sheet, scene: Scene, rng: random.Random) -> list[_Place]:
    """Kind, middle and half size of each thing, group by group."""
    if scene.relation in ("above", "below"):
        return _stacked(sheet, scene, rng)
    kinds = [group.kind for group in scene.groups for _ in range(group.count)]
    count, width = len(kinds), sheet.width
    if scene.relation is not None:
        xs, half = [width * 0.265, width * 0.735], 46.0
        if scene.relation == "right of":
            xs.reverse()
    elif count == 1:
        half = 57.0 if scene.size == "big" else 35.0
        xs = [{"left": 0.28, "middle": 0.5, "right": 0.72}[scene.place] * width]
    else:
        half = {2: 46.0, 3: 35.5}[count]
        gap = width * {2: 0.47, 3: 0.325}[count]
        xs = [width / 2 + gap * (i - (count - 1) / 2) for i in range(count)]
    half *= rng.uniform(0.94, 1.05)
    lift = rng.random()
    base = sheet.horizon + rng.uniform(0.5, 0.8) * (sheet.height - sheet.horizon)
    places = []
    for kind, x in zip(kinds, xs, strict=True):
        if kind in FLYING:
            low = 14 + half
            y = low + lift * max(sheet.horizon - 4 - half * 0.8 - low, 8)
        elif kind == "fish":
            y = max(sheet.horizon + 6 + half * 0.8, base - half * 0.5)
        else:
            y = base - half
        places.append((kind, (x + rng.uniform(-5, 5), y + rng.uniform(-3, 3), half)))
    return places


def _stacked(sheet: _Sheet, scene: Scene, rng: random.Random) -> list[_Place]:
    """One thing above another."""
    x = sheet.width / 2 + rng.uniform(-26, 26)
    half = 44 * rng.uniform(0.95, 1.05)
    upper = (sheet.height - 256) * 0.3 + 16 + half
    lower = max(sheet.height - rng.uniform(14, 20) - half, upper + 2 * half + 10)
    ys = (upper, lower) if scene.relation == "above" else (lower, upper)
    return [
        (group.kind, (x + rng.uniform(-12, 12), y, half)) for group, y in zip(scene.groups, ys, strict=True)
    ]
