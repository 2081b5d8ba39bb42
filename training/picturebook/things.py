"""How each kind of thing is drawn: large shapes, most of each in the colour that was asked for.

Every function draws in [-1, 1] both ways, y downwards; what stands touches y = 1.
"""

from __future__ import annotations

import math
from collections.abc import Callable

from .hand import Colour, Pen, Point, arc, mix, oval, shade

_WOOD = (146, 98, 60)
_CREAM = (250, 236, 210)
_GLASS = (196, 230, 252)
_LAMP = (255, 238, 150)
_DARK = (58, 54, 66)
_LEAF = (70, 156, 70)
_BEAK = (250, 152, 36)


def _is_white(colour: Colour) -> bool:
    return min(colour) > 225


def _is_black(colour: Colour) -> bool:
    return max(colour) < 80


def _deep(colour: Colour) -> Colour:
    """A second tone of the same colour, to tell parts apart."""
    if _is_black(colour):
        return shade(colour, 1.2)
    return shade(colour, 0.86 if _is_white(colour) else 0.76)


def _eye(pen: Pen, x: float, y: float, r: float) -> None:
    pen.dot((255, 255, 255), x, y, r)
    pen.dot((34, 32, 42), x, y, r * 0.6)


def _house(pen: Pen, colour: Colour) -> None:
    pen.box(_deep(colour), 0.34, -0.95, 0.6, -0.3)
    pen.box(colour, -0.74, -0.12, 0.74, 1)
    pen.shape(_deep(colour), [(-1, -0.08), (0, -0.98), (1, -0.08)])
    pen.box(_WOOD, -0.2, 0.38, 0.2, 1)
    for x in (-0.48, 0.48):
        pen.box(_LAMP, x - 0.15, 0.1, x + 0.15, 0.42)


def _castle(pen: Pen, colour: Colour) -> None:
    pen.box(colour, -0.6, -0.1, 0.6, 1)
    for x in (-0.66, 0.66):
        pen.shape(_deep(colour), _battlements(x - 0.34, x + 0.34, -0.72, 1))
    pen.shape(colour, _battlements(-0.36, 0.36, -0.38, 0.5))
    pen.shape(_DARK, [(-0.22, 1), (-0.22, 0.6), *arc(0, 0.6, 0.22, 0.24, 180, 360, 8), (0.22, 1)])
    for x in (-0.66, 0.66):
        pen.dot(_LAMP, x, -0.1, 0.13, 0.2)


def _battlements(left: float, right: float, top: float, bottom: float) -> list[Point]:
    """A tower with three teeth."""
    tooth, step = 0.26, (right - left) / 5
    upper = []
    for i in range(5):
        y = top - tooth if i % 2 == 0 else top
        upper += [(left + i * step, y), (left + (i + 1) * step, y)]
    return [*upper, (right, bottom), (left, bottom)]


def _tent(pen: Pen, colour: Colour) -> None:
    pen.shape(_deep(colour), [(0, -0.78), (1, 0.98), (-1, 0.98)])
    pen.shape(colour, [(0, -0.78), (-0.3, 0.98), (-1, 0.98)])
    pen.shape(colour, [(0, -0.78), (0.3, 0.98), (1, 0.98)])
    pen.patch(_DARK, [(0, -0.3), (0.26, 0.98), (-0.26, 0.98)])
    pen.stroke(_WOOD, [(0, -0.72), (0, -1)], 0.07)


def _tree(pen: Pen, colour: Colour) -> None:
    pen.box(_WOOD, -0.17, 0.2, 0.17, 1)
    puffs = (
        (-0.44, 0.06, 0.46),
        (0.44, 0.06, 0.46),
        (-0.3, -0.42, 0.42),
        (0.3, -0.42, 0.42),
        (0, -0.55, 0.42),
    )
    pen.union(colour, [*(oval(x, y, r) for x, y, r in puffs), oval(0, -0.1, 0.5)])


def _flower(pen: Pen, colour: Colour) -> None:
    pen.box(_LEAF, -0.07, 0, 0.07, 1)
    for side in (-1, 1):
        pen.shape(_LEAF, [(0, 0.9), (side * 0.3, 0.5), (side * 0.66, 0.42), (side * 0.48, 0.76)])
    petals = [(0.42 * math.cos(i * math.pi / 3), 0.42 * math.sin(i * math.pi / 3) - 0.32) for i in range(6)]
    for x, y in petals:
        pen.oval(colour, x, y, 0.27)
    pen.oval((255, 206, 40) if colour[2] > 70 or colour[1] < 130 else (150, 90, 40), 0, -0.32, 0.23)


def _mushroom(pen: Pen, colour: Colour) -> None:
    pen.shape(_CREAM, [(-0.24, 0), (0.24, 0), (0.34, 1), (-0.34, 1)])
    pen.shape(colour, [*arc(0, 0.2, 0.98, 1.15, 180, 360), (0.7, 0.32), (-0.7, 0.32)])
    dots = (222, 216, 206) if _is_white(colour) else (255, 252, 244)
    for x, y, r in ((-0.48, -0.2, 0.16), (0.06, -0.55, 0.19), (0.52, -0.1, 0.15)):
        pen.dot(dots, x, y, r)


def _umbrella(pen: Pen, colour: Colour) -> None:
    pen.stroke(_WOOD, [(0, -0.9), (0, 0.78), *arc(0.16, 0.78, 0.16, 0.18, 180, 0, 6)], 0.1)
    scallops: list[Point] = []
    for x in (0.75, 0.25, -0.25, -0.75):
        scallops += arc(x, 0.12, 0.25, 0.2, 360, 180, 6)
    pen.shape(colour, [*arc(0, 0.12, 1, 1.0, 180, 360), *scallops[1:]])
    pen.patch(
        _deep(colour),
        [(0, -0.84), (0.32, -0.5), (0.5, 0.08), *arc(0.25, 0.12, 0.24, 0.15, 360, 180, 6), (0, 0.1)],
    )
    pen.patch(
        _deep(colour),
        [(-0.1, -0.82), (-0.66, -0.4), (-0.94, 0.05), *arc(-0.75, 0.12, 0.22, 0.15, 180, 360, 6)],
    )


def _cat(pen: Pen, colour: Colour) -> None:
    tail = [
        (0.3, 0.96),
        (0.9, 0.86),
        (0.98, 0.3),
        (0.8, 0.1),
        (0.66, 0.18),
        (0.74, 0.42),
        (0.62, 0.62),
        (0.3, 0.66),
    ]
    pen.shape(colour, tail)
    pen.oval(colour, 0, 0.52, 0.56, 0.48)
    ears = [[(s * 0.6, -0.3), (s * 0.62, -1), (s * 0.08, -0.72)] for s in (-1, 1)]
    pen.union(colour, [*ears, oval(0, -0.3, 0.64, 0.52)])
    for side in (-1, 1):
        pen.patch((246, 160, 176), [(side * 0.5, -0.64), (side * 0.54, -0.86), (side * 0.32, -0.74)])
        pen.dot((255, 255, 240), side * 0.27, -0.34, 0.14, 0.16)
        pen.dot((34, 32, 42), side * 0.27, -0.34, 0.07, 0.14)
    pen.patch((240, 110, 130), [(-0.1, -0.14), (0.1, -0.14), (0, -0.02)])


def _rabbit(pen: Pen, colour: Colour) -> None:
    for side in (-1, 1):
        pen.oval(colour, side * 0.27, -0.6, 0.2, 0.42)
        pen.dot((250, 176, 190), side * 0.27, -0.6, 0.1, 0.28)
    pen.oval(colour, 0, 0.56, 0.58, 0.44)
    for side in (-1, 1):
        pen.oval(colour, side * 0.38, 0.86, 0.27, 0.14)
    pen.oval(colour, 0, -0.02, 0.54, 0.42)
    pen.dot(shade(colour, 1.4) if not _is_white(colour) else (232, 228, 226), 0, 0.62, 0.24, 0.24)
    for side in (-1, 1):
        _eye(pen, side * 0.24, -0.08, 0.13)
    pen.dot((240, 110, 130), 0, 0.1, 0.09, 0.07)
    pen.patch((255, 255, 255), [(-0.08, 0.2), (0.08, 0.2), (0.08, 0.36), (-0.08, 0.36)])


def _snail(pen: Pen, colour: Colour) -> None:
    skin = (240, 204, 146)
    body = [(1, 0.98), (-0.8, 0.98), (-0.98, 0.8), (-0.98, 0.1), (-0.6, 0.1), (-0.5, 0.6), (0.5, 0.66)]
    for x in (-0.9, -0.66):
        pen.stroke(shade(skin, 0.72), [(x + 0.02, 0.1), (x - 0.04, -0.3)], 0.07)
        pen.dot(_DARK, x - 0.04, -0.32, 0.08)
    pen.shape(skin, body)
    pen.oval(colour, 0.2, 0.05, 0.72)
    spiral = [
        (0.2 + (0.5 - 0.045 * i) * math.cos(i * 0.75), 0.05 + (0.5 - 0.045 * i) * math.sin(i * 0.75))
        for i in range(10)
    ]
    pen.stroke(shade(colour, 0.6) if not _is_black(colour) else (150, 150, 166), spiral, 0.09)


def _robot(pen: Pen, colour: Colour) -> None:
    pen.stroke(_DARK, [(0, -0.6), (0, -0.88)], 0.08)
    pen.dot((250, 90, 70) if colour[0] < 200 else _LAMP, 0, -0.9, 0.1)
    for side in (-1, 1):
        pen.box(_deep(colour), side * 0.34 - 0.17, 0.6, side * 0.34 + 0.17, 1)
        pen.box(_deep(colour), side * 0.76 - 0.13, -0.02, side * 0.76 + 0.13, 0.56)
    pen.box(colour, -0.6, -0.1, 0.6, 0.74)
    pen.box(colour, -0.5, -0.72, 0.5, -0.08)
    for side in (-1, 1):
        _eye(pen, side * 0.22, -0.44, 0.15)
    pen.box(_GLASS, -0.34, 0.12, 0.34, 0.46)


def _car(pen: Pen, colour: Colour) -> None:
    pen.shape(colour, [(-0.68, 0.2), (-0.42, -0.5), (0.36, -0.5), (0.7, 0.2)])
    pen.shape(_GLASS, [(-0.48, 0.12), (-0.3, -0.34), (-0.06, -0.34), (-0.06, 0.12)])
    pen.shape(_GLASS, [(0.08, 0.12), (0.08, -0.34), (0.28, -0.34), (0.5, 0.12)])
    pen.shape(colour, [(-0.98, 0.24), (-0.8, 0.1), (0.8, 0.1), (0.98, 0.24), (0.98, 0.68), (-0.98, 0.68)])
    pen.dot(_LAMP, 0.86, 0.34, 0.1)
    for x in (-0.54, 0.54):
        pen.oval(_DARK, x, 0.7, 0.28)
        pen.dot((216, 216, 222), x, 0.7, 0.12)


def _train(pen: Pen, colour: Colour) -> None:
    pen.shape(_deep(colour), [(0.38, 0), (0.28, -0.56), (0.82, -0.56), (0.72, 0)])
    pen.box(colour, -0.4, -0.14, 0.88, 0.6)
    pen.box(colour, -0.92, -0.6, -0.2, 0.6)
    pen.box(_deep(colour), -1, -0.78, -0.1, -0.54)
    pen.box(_GLASS, -0.74, -0.4, -0.38, 0)
    pen.shape(_DARK, [(0.9, 0.5), (1, 0.92), (0.76, 0.92), (0.76, 0.5)])
    pen.box(_DARK, -0.92, 0.52, 0.88, 0.7)
    for x, r in ((-0.6, 0.3), (0.08, 0.24), (0.56, 0.24)):
        pen.oval(_DARK, x, 1 - r, r)
        pen.dot((216, 216, 222), x, 1 - r, r * 0.42)


def _apple(pen: Pen, colour: Colour) -> None:
    body = [
        (0, -0.42), (0.22, -0.56), (0.54, -0.56), (0.82, -0.34), (0.92, 0.02), (0.84, 0.44), (0.62, 0.8),
        (0.36, 0.98), (0.14, 0.96), (0, 0.9), (-0.14, 0.96), (-0.36, 0.98), (-0.62, 0.8), (-0.84, 0.44),
        (-0.92, 0.02), (-0.82, -0.34), (-0.54, -0.56), (-0.22, -0.56),
    ]  # fmt: skip
    pen.shape(colour, body)
    pen.dot(shade(colour, 1.4) if not _is_white(colour) else (228, 226, 226), -0.48, -0.1, 0.15, 0.24)
    pen.stroke(_WOOD, [(0, -0.42), (0.06, -0.7), (0.02, -0.92)], 0.1)
    pen.shape(_LEAF, [(0.06, -0.62), (0.26, -0.94), (0.66, -0.96), (0.46, -0.68)])


def _cup(pen: Pen, colour: Colour) -> None:
    pen.stroke(_deep(colour), arc(0.56, 0.28, 0.34, 0.34, -90, 90, 10), 0.2)
    for x in (-0.42, 0.1):
        pen.stroke((244, 244, 250), [(x, -0.52), (x + 0.12, -0.66), (x, -0.82), (x + 0.1, -0.96)], 0.11)
    pen.shape(colour, [(-0.82, -0.3), (0.62, -0.3), (0.5, 0.86), (0.36, 0.98), (-0.56, 0.98), (-0.7, 0.86)])
    pen.oval((112, 66, 40), -0.1, -0.3, 0.72, 0.14)


def _boat(pen: Pen, colour: Colour) -> None:
    pen.box(_WOOD, -0.08, -1, 0.02, 0.4)
    pen.shape((255, 252, 244), [(0.1, -0.86), (0.8, 0.18), (0.1, 0.18)])
    pen.shape(shade(colour, 1.12), [(-0.16, -0.7), (-0.16, 0.18), (-0.72, 0.18)])
    pen.shape(colour, [(-1, 0.28), (1, 0.28), (0.84, 0.68), (0.56, 0.98), (-0.56, 0.98), (-0.84, 0.68)])
    pen.patch(_deep(colour), [(-0.8, 0.66), (0.8, 0.66), (0.54, 0.92), (-0.54, 0.92)])


def _whale(pen: Pen, colour: Colour) -> None:
    for bend in (-1, 1):
        pen.stroke((222, 240, 252), [(-0.36, -0.4), (-0.36, -0.72), (-0.36 + bend * 0.2, -0.9)], 0.11)
    tail = [
        (0.62, 0.3),
        (0.7, -0.1),
        (0.44, -0.44),
        (0.66, -0.52),
        (0.82, -0.36),
        (0.96, -0.54),
        (1.14, -0.46),
    ]
    tail += [(0.98, -0.08), (0.98, 0.5)]
    body = [
        *arc(-0.1, 0.38, 0.92, 0.74, 180, 330),
        (0.98, 0.3),
        (0.9, 0.7),
        *arc(0.2, 0.6, 0.5, 0.26, 30, 90, 5),
    ]
    body += [*arc(-0.4, 0.5, 0.62, 0.36, 90, 190, 7)]
    pen.union(colour, [tail, body])
    belly = (214, 218, 226) if _is_white(colour) else mix(colour, (255, 255, 255), 0.55)
    pen.patch(belly, [(-0.96, 0.5), (0, 0.6), (0.5, 0.56), (0.2, 0.8), (-0.4, 0.82), (-0.84, 0.68)])
    _eye(pen, -0.56, 0.22, 0.14)


def _duck(pen: Pen, colour: Colour) -> None:
    pen.shape(_BEAK, [(-0.76, -0.54), (-1.04, -0.4), (-0.98, -0.22), (-0.64, -0.26)])
    body = [
        (-0.76, 0.3), (-0.5, 0.1), (0.3, 0.2), (0.66, 0.1), (0.98, -0.16), (1.0, 0.32), (0.84, 0.72),
        (0.5, 0.98), (-0.3, 0.98), (-0.66, 0.76),
    ]  # fmt: skip
    pen.union(
        colour, [body, [(-0.84, -0.3), (-0.2, -0.3), (-0.02, 0.3), (-0.72, 0.5)], oval(-0.42, -0.48, 0.4)]
    )
    pen.shape(
        _deep(colour), [(-0.2, 0.42), (0.3, 0.3), (0.76, 0.26), (0.62, 0.6), (0.22, 0.74), (-0.1, 0.66)]
    )
    _eye(pen, -0.52, -0.56, 0.13)


def _fish(pen: Pen, colour: Colour) -> None:
    pen.shape(_deep(colour), [(0.44, 0), (1, -0.58), (0.86, 0), (1, 0.58)])
    pen.shape(_deep(colour), [(-0.34, -0.4), (0.1, -0.88), (0.36, -0.3)])
    pen.shape(_deep(colour), [(-0.1, 0.46), (0.16, 0.8), (0.34, 0.34)])
    pen.oval(colour, -0.2, 0, 0.78, 0.56)
    pen.stroke(_deep(colour), arc(-0.42, 0, 0.2, 0.42, -70, 70, 8), 0.1)
    _eye(pen, -0.62, -0.14, 0.15)


def _balloon(pen: Pen, colour: Colour) -> None:
    for side in (-1, 1):
        pen.stroke(_WOOD, [(side * 0.4, 0.3), (side * 0.17, 0.74)], 0.06)
    pen.shape(colour, [*arc(0, -0.3, 0.76, 0.7, 160, 380, 20), (0.24, 0.5), (-0.24, 0.5)])
    pen.patch(_deep(colour), [*arc(0, -0.3, 0.28, 0.66, 180, 360, 10), (0.1, 0.46), (-0.1, 0.46)])
    pen.box(_WOOD, -0.22, 0.68, 0.22, 1)


def _bird(pen: Pen, colour: Colour) -> None:
    pen.shape(_deep(colour), [(0.36, 0.18), (1.04, -0.02), (0.9, 0.22), (1, 0.46), (0.4, 0.42)])
    pen.shape(_deep(colour), [(-0.3, 0.1), (0.02, -0.7), (0.34, -0.92), (0.34, 0.1)])
    pen.shape(_BEAK, [(-0.84, 0), (-1.14, 0.16), (-0.8, 0.26)])
    pen.union(colour, [oval(0, 0.3, 0.66, 0.38), oval(-0.56, 0.08, 0.36)])
    pen.shape(_deep(colour), [(-0.24, 0.28), (0.4, -0.6), (0.84, -0.7), (0.66, -0.1), (0.3, 0.34)])
    _eye(pen, -0.64, 0, 0.13)


def _butterfly(pen: Pen, colour: Colour) -> None:
    for side in (-1, 1):
        pen.stroke(_DARK, [(0, -0.4), (side * 0.16, -0.7), (side * 0.34, -0.84)], 0.07)
        upper = [
            (side * x, y)
            for x, y in ((0, 0), (0.2, -0.52), (0.62, -0.84), (0.96, -0.7), (0.96, -0.2), (0.6, 0.12))
        ]
        lower = [
            (side * x, y)
            for x, y in ((0, 0), (0.62, 0.08), (0.8, 0.38), (0.66, 0.78), (0.34, 0.84), (0.1, 0.5))
        ]
        pen.shape(_deep(colour), lower)
        pen.shape(colour, upper)
        pen.dot(shade(colour, 1.45) if not _is_white(colour) else (214, 210, 220), side * 0.64, -0.42, 0.17)
    pen.oval(_DARK, 0, 0.04, 0.12, 0.52)


def _kite(pen: Pen, colour: Colour) -> None:
    pen.stroke(_WOOD, [(0, 0.3), (0.12, 0.54), (-0.04, 0.74), (0.1, 0.98)], 0.08)
    pen.shape(colour, [(0, -1), (0.72, -0.34), (0, 0.44), (-0.72, -0.34)])
    pen.patch(_deep(colour), [(0, -0.9), (0, -0.34), (-0.62, -0.34)])
    pen.patch(_deep(colour), [(0.62, -0.34), (0, -0.34), (0, 0.34)])
    bow = [(-0.3, 0.6), (0.02, 0.74), (0.34, 0.6), (0.34, 0.9), (0.02, 0.76), (-0.3, 0.9)]
    pen.shape(colour, bow)


def _rocket(pen: Pen, colour: Colour) -> None:
    pen.shape((255, 170, 40), [(-0.26, 0.6), (0.26, 0.6), (0.16, 0.86), (0, 1), (-0.16, 0.86)])
    for side in (-1, 1):
        pen.shape(
            _deep(colour), [(side * 0.34, 0.02), (side * 0.8, 0.46), (side * 0.8, 0.84), (side * 0.3, 0.6)]
        )
    right = [(0, -1), (0.24, -0.78), (0.42, -0.44), (0.47, 0), (0.42, 0.4), (0.3, 0.66)]
    pen.shape(colour, [*right, *((-x, y) for x, y in reversed(right[1:]))])
    pen.oval(_GLASS, 0, -0.26, 0.22)


def _star(pen: Pen, colour: Colour) -> None:
    radii = (1.06, 0.5) * 5
    turns = [i * math.pi / 5 for i in range(10)]
    pen.shape(colour, [(r * math.sin(t), 0.06 - r * math.cos(t)) for r, t in zip(radii, turns, strict=True)])


def _heart(pen: Pen, colour: Colour) -> None:
    turns = [i * math.tau / 32 for i in range(32)]
    pen.shape(
        colour,
        [
            (
                math.sin(t) ** 3,
                -(13 * math.cos(t) - 5 * math.cos(2 * t) - 2 * math.cos(3 * t) - math.cos(4 * t)) / 15.5,
            )
            for t in turns
        ],
    )
    pen.dot(shade(colour, 1.4) if not _is_white(colour) else (228, 226, 226), -0.5, -0.42, 0.17, 0.13)


DRAWERS: dict[str, Callable[[Pen, Colour], None]] = {
    "house": _house, "castle": _castle, "tent": _tent, "tree": _tree, "flower": _flower,
    "mushroom": _mushroom, "umbrella": _umbrella, "cat": _cat, "rabbit": _rabbit, "snail": _snail,
    "robot": _robot, "car": _car, "train": _train, "apple": _apple, "cup": _cup, "boat": _boat,
    "whale": _whale, "duck": _duck, "fish": _fish, "balloon": _balloon, "bird": _bird,
    "butterfly": _butterfly, "kite": _kite, "rocket": _rocket, "star": _star, "heart": _heart,
}  # fmt: skip
"""By kind: draws one with a pen, in a colour."""
