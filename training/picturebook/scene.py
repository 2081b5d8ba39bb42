"""The picture-book world that the small cascade draws: what a scene is, and which scenes there are."""

from __future__ import annotations

import random
from dataclasses import dataclass, replace
from itertools import count as count_from

COLOURS = {
    "red": (220, 38, 40),
    "orange": (250, 136, 20),
    "yellow": (252, 216, 52),
    "green": (40, 158, 62),
    "blue": (40, 92, 222),
    "purple": (136, 58, 182),
    "pink": (250, 138, 190),
    "white": (250, 249, 246),
    "black": (38, 36, 44),
    "brown": (130, 78, 44),
}
TIMES = ("day", "sunset", "night")
LAND = ("grass", "snow", "sand")
GROUNDS = (*LAND, "sea")
WEATHERS = ("clear", "clouds", "rain", "snow")
STYLES = ("flat", "crayon")
PLACES = ("left", "middle", "right")
SIZES = ("big", "small")
RELATIONS = ("left of", "right of", "above", "below")

STANDING = (
    "house", "castle", "tent", "tree", "flower", "mushroom", "umbrella", "cat", "rabbit", "snail", "robot",
    "car", "train", "apple", "cup",
)  # fmt: skip
SWIMMING = ("boat", "whale", "duck", "fish")
FLYING = ("balloon", "bird", "butterfly", "kite", "rocket", "star", "heart")
KINDS = (*STANDING, *SWIMMING, *FLYING)

HELD_OUT_COLOURS = frozenset({
    ("house", "pink"), ("castle", "green"), ("tent", "purple"), ("tree", "blue"), ("flower", "brown"),
    ("mushroom", "purple"), ("umbrella", "white"), ("cat", "orange"), ("rabbit", "red"), ("snail", "pink"),
    ("robot", "yellow"), ("car", "yellow"), ("train", "orange"), ("apple", "brown"), ("cup", "black"),
    ("boat", "white"), ("whale", "red"), ("duck", "blue"), ("fish", "green"), ("balloon", "black"),
    ("bird", "brown"), ("butterfly", "white"), ("kite", "blue"), ("rocket", "orange"), ("star", "pink"),
    ("heart", "green"),
})  # fmt: skip
"""Pairs of kind and colour that no training picture shows."""

HELD_OUT_RELATIONS = frozenset({
    ("cat", "left of", "house"), ("tree", "left of", "car"), ("rabbit", "left of", "castle"),
    ("flower", "left of", "tent"), ("robot", "left of", "cat"), ("house", "left of", "train"),
    ("mushroom", "left of", "snail"), ("cup", "left of", "apple"), ("umbrella", "left of", "flower"),
    ("snail", "left of", "robot"), ("castle", "left of", "umbrella"), ("duck", "left of", "boat"),
    ("boat", "left of", "whale"), ("fish", "left of", "duck"), ("star", "left of", "rocket"),
    ("butterfly", "left of", "tree"), ("bird", "above", "house"), ("star", "above", "boat"),
    ("balloon", "above", "castle"), ("kite", "above", "cat"), ("butterfly", "above", "flower"),
    ("heart", "above", "robot"), ("rocket", "above", "train"), ("bird", "above", "whale"),
    ("balloon", "above", "mushroom"), ("kite", "above", "duck"), ("star", "above", "tent"),
    ("heart", "above", "rabbit"), ("rocket", "above", "fish"), ("butterfly", "above", "apple"),
})  # fmt: skip
"""Arrangements that no training picture shows, the left or the upper thing first."""

LARGEST_COUNT = 3
FRESH = 10_000_000
"""Seeds from here on are nobody's training pictures."""

_MIRRORED = {"right of": "left of", "below": "above"}


@dataclass(frozen=True, slots=True)
class Group:
    """Things of one kind and colour, one to ``LARGEST_COUNT`` of them; several are a row."""

    kind: str
    colour: str
    count: int = 1


@dataclass(frozen=True, slots=True)
class Scene:
    """Everything a picture shows.

    Attributes:
        groups: what is in it: one group, or two of one thing each.
        relation: where the first of two things is, seen from the second; None for one group.
        place: where a single thing is; the middle for a row and for two groups.
        size: of a single thing; big for a row and for two groups.
        ground, time, weather, style: around it.
        seed: of what no caption tells: exact places, clouds, hills, the wobble of a hand.
    """

    groups: tuple[Group, ...]
    relation: str | None
    place: str
    size: str
    ground: str
    time: str
    weather: str
    style: str
    seed: int


def grounds_of(*kinds: str) -> tuple[str, ...]:
    """Where things can be together: swimmers on the sea, standing things on land, flying ones anywhere."""
    grounds = GROUNDS
    if any(kind in SWIMMING for kind in kinds):
        grounds = ("sea",)
    if any(kind in STANDING for kind in kinds):
        grounds = tuple(ground for ground in grounds if ground in LAND)
    return grounds


def arrangement(scene: Scene) -> tuple[str, str, str] | None:
    """Kind, relation, kind of two groups, the left or the upper one first; None for one group."""
    if scene.relation is None:
        return None
    first, second = (group.kind for group in scene.groups)
    if scene.relation in _MIRRORED:
        return second, _MIRRORED[scene.relation], first
    return first, scene.relation, second


def is_held_out(scene: Scene) -> bool:
    """Whether a scene shows a pair or an arrangement that training must not show."""
    pairs = {(group.kind, group.colour) for group in scene.groups}
    return bool(pairs & HELD_OUT_COLOURS) or arrangement(scene) in HELD_OUT_RELATIONS


def any_scene(seed: int) -> Scene:
    """The scene of a seed, of a held-out combination or not."""
    return _scene(random.Random(seed), seed)


def training_scene(seed: int) -> Scene:
    """The scene of a seed; never one of a held-out combination."""
    rng = random.Random(seed)
    return next(scene for scene in (_scene(rng, seed) for _ in count_from()) if not is_held_out(scene))


def fresh_scenes(count: int) -> list[Scene]:
    """Scenes that no training saw, of combinations that training did see."""
    return [training_scene(FRESH + i) for i in range(count)]


def held_out_scenes(count: int) -> list[Scene]:
    """Scenes of combinations that no training saw: a pair of kind and colour and an arrangement in turns."""
    pairs, relations = sorted(HELD_OUT_COLOURS), sorted(HELD_OUT_RELATIONS)
    scenes = []
    for i in range(count):
        rng, seed = random.Random(FRESH + i), FRESH + i
        if i % 2:
            scenes.append(_arranged(rng, seed, relations[i // 2 % len(relations)]))
        else:
            kind, colour = pairs[i // 2 % len(pairs)]
            scenes.append(_single(rng, seed, Group(kind, colour)))
    return scenes


def _surroundings(rng: random.Random, *kinds: str) -> dict[str, str]:
    return {
        "ground": rng.choice(grounds_of(*kinds)),
        "time": rng.choice(TIMES),
        "weather": rng.choices(WEATHERS, (0.56, 0.2, 0.12, 0.12))[0],
        "style": rng.choice(STYLES),
    }


def _single(rng: random.Random, seed: int, group: Group) -> Scene:
    count = rng.choices((1, 2, 3), (0.66, 0.17, 0.17))[0]
    alone = count == 1
    return Scene(
        groups=(replace(group, count=count),),
        relation=None,
        place=rng.choice(PLACES) if alone else "middle",
        size=rng.choices(SIZES, (0.6, 0.4))[0] if alone else "big",
        seed=seed,
        **_surroundings(rng, group.kind),
    )


def _pair(rng: random.Random, seed: int, relation: str, groups: tuple[Group, Group]) -> Scene:
    around = _surroundings(rng, *(group.kind for group in groups))
    return Scene(groups, relation, "middle", "big", seed=seed, **around)


def _arranged(rng: random.Random, seed: int, kinds: tuple[str, str, str]) -> Scene:
    """A held-out arrangement, told from either side, in colours that training showed."""
    first, relation, second = kinds
    groups = tuple(Group(kind, rng.choice(_seen_colours(kind))) for kind in (first, second))
    if rng.random() < 0.5:
        groups = groups[::-1]
        relation = next(told for told, meant in _MIRRORED.items() if meant == relation)
    return _pair(rng, seed, relation, groups)


def _seen_colours(kind: str) -> list[str]:
    return [colour for colour in COLOURS if (kind, colour) not in HELD_OUT_COLOURS]


def _scene(rng: random.Random, seed: int) -> Scene:
    colours = tuple(COLOURS)
    if rng.random() < 0.7:
        return _single(rng, seed, Group(rng.choice(KINDS), rng.choice(colours)))
    relation = rng.choice(RELATIONS)
    first, second = _companions(rng, relation)
    return _pair(rng, seed, relation, (Group(first, rng.choice(colours)), Group(second, rng.choice(colours))))


def _companions(rng: random.Random, relation: str) -> tuple[str, str]:
    """Two kinds that can be in one picture so; the upper one flies."""
    while True:
        kinds = rng.choice(KINDS), rng.choice(KINDS)
        upper = {"above": kinds[0], "below": kinds[1]}.get(relation, FLYING[0])
        if kinds[0] != kinds[1] and upper in FLYING and grounds_of(*kinds):
            return kinds
