"""The picture-book world that the small cascade draws: what a scene is, and which scenes there are."""

from __future__ import annotations

import random
from dataclasses import dataclass

COLOURS = {
    "red": (222, 48, 44),
    "orange": (247, 140, 30),
    "yellow": (250, 210, 50),
    "green": (46, 160, 67),
    "blue": (45, 98, 220),
    "purple": (134, 62, 176),
    "pink": (246, 135, 182),
    "white": (248, 246, 240),
    "black": (44, 42, 48),
}
TIMES = ("day", "sunset", "night")
LAND = ("grass", "snow", "sand")
GROUNDS = (*LAND, "sea")
PLACES = ("left", "middle", "right")

STANDING = ("house", "tree", "flower", "mushroom", "cat", "car")
SWIMMING = ("boat",)
FLYING = ("balloon", "bird", "star", "heart", "fish")
KINDS = (*STANDING, *SWIMMING, *FLYING)

HELD_OUT = frozenset({
    ("house", "pink"), ("tree", "blue"), ("flower", "green"), ("mushroom", "purple"), ("cat", "orange"),
    ("car", "yellow"), ("boat", "white"), ("balloon", "black"), ("bird", "red"), ("star", "pink"),
    ("heart", "green"), ("fish", "orange"),
})  # fmt: skip
"""Pairs of kind and colour that no training picture shows."""

LARGEST_COUNT = 3


@dataclass(frozen=True, slots=True)
class Scene:
    """Everything a picture shows.

    Attributes:
        kind, colour, count: what is in it; several are a row.
        place: where a single one is; the middle for a row.
        ground, time: around it.
        seed: of what the caption does not tell: exact sizes, places, clouds, hills.
    """

    kind: str
    colour: str
    count: int
    place: str
    ground: str
    time: str
    seed: int


def grounds_of(kind: str) -> tuple[str, ...]:
    """Where a kind of thing can be: boats on the sea, standing things on land, flying things anywhere."""
    if kind in SWIMMING:
        return ("sea",)
    return LAND if kind in STANDING else GROUNDS


def training_scene(seed: int) -> Scene:
    """The scene of a seed; never one of a held-out pair."""
    rng = random.Random(seed)
    while True:
        kind, colour = rng.choice(KINDS), rng.choice(list(COLOURS))
        if (kind, colour) not in HELD_OUT:
            break
    count = rng.choices((1, 2, 3), (0.6, 0.2, 0.2))[0]
    place = rng.choice(PLACES) if count == 1 else "middle"
    return Scene(kind, colour, count, place, rng.choice(grounds_of(kind)), rng.choice(TIMES), seed)
