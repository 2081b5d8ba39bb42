"""Captions of scenes, in varied words; every one uses the words listed here and no others."""

from __future__ import annotations

import random

from .world import COLOURS, Scene

_KIND_WORDS = {
    "house": ("house", "houses"), "tree": ("tree", "trees"), "flower": ("flower", "flowers"),
    "mushroom": ("mushroom", "mushrooms"), "cat": ("cat", "cats"), "car": ("car", "cars"),
    "boat": ("boat", "boats"), "balloon": ("balloon", "balloons"), "bird": ("bird", "birds"),
    "star": ("star", "stars"), "heart": ("heart", "hearts"), "fish": ("fish", "fish"),
}  # fmt: skip
_NUMBERS = {2: ("two", "2"), 3: ("three", "3")}
_GROUND_WORDS = {
    "grass": ("on the grass", "on green grass", "in a meadow", "on a lawn"),
    "snow": ("on the snow", "in the snow", "in winter"),
    "sand": ("on the sand", "on the beach", "in the desert"),
    "sea": ("on the sea", "on the water", "on the ocean", "by the sea"),
}
_GROUND_UNDER = {
    "grass": "over the grass",
    "snow": "over the snow",
    "sand": "over the sand",
    "sea": "over the sea",
}
_TIME_WORDS = {
    "day": ("by day", "during the day", "in the daytime", "on a sunny day"),
    "sunset": ("at sunset", "at dusk", "in the evening"),
    "night": ("at night", "by night", "under the moon"),
}
_PLACE_WORDS = {
    "left": ("on the left", "at the left"), "right": ("on the right", "at the right"),
    "middle": ("in the middle", "in the center"),
}  # fmt: skip
_OPENINGS = ("", "", "", "", "a picture of ", "a drawing of ", "a painting of ", "an image of ")


def caption(scene: Scene, rng: random.Random) -> str:
    """One of many captions; it may leave out ground, time and place, and for a while the colour."""
    singular, plural = _KIND_WORDS[scene.kind]
    colour = scene.colour + " " if rng.random() < 0.95 else ""
    if scene.count == 1:
        article = "an" if (colour or singular)[0] in "aeiou" else "a"
        size = rng.choice(("", "", "", "big ", "large ")) if article == "a" else ""
        what = f"{article} {size}{colour}{singular}"
    else:
        what = f"{rng.choice(_NUMBERS[scene.count])} {colour}{plural}"
    details: list[str] = []
    if rng.random() < 0.85:
        above = scene.kind in ("balloon", "bird", "star", "heart", "fish") and rng.random() < 0.5
        details.append(_GROUND_UNDER[scene.ground] if above else rng.choice(_GROUND_WORDS[scene.ground]))
    if rng.random() < 0.85:
        details.append(rng.choice(_TIME_WORDS[scene.time]))
    if scene.count == 1 and rng.random() < 0.7:
        details.append(rng.choice(_PLACE_WORDS[scene.place]))
    rng.shuffle(details)
    joint = rng.choice((" ", " ", ", "))
    return rng.choice(_OPENINGS) + joint.join([what, *details])


def words() -> set[str]:
    """Every word that captions use."""
    phrases = [*_GROUND_UNDER.values(), *_OPENINGS, "a an big large"]
    for table in (_KIND_WORDS, _NUMBERS, _GROUND_WORDS, _TIME_WORDS, _PLACE_WORDS):
        phrases += [phrase for group in table.values() for phrase in group]
    return {word for phrase in [*phrases, *COLOURS] for word in phrase.split()} | {","}
