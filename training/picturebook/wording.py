"""Captions of scenes, in varied words; every one uses the words listed here and no others."""

from __future__ import annotations

import random

from .scene import COLOURS, FLYING, KINDS, STANDING, SWIMMING, Group, Scene

_PLURALS = {kind: f"{kind}s" for kind in KINDS} | {"fish": "fish", "butterfly": "butterflies"}
_NUMBERS = {2: ("two", "2"), 3: ("three", "3")}
_ONE = ("a", "a", "a", "a", "a", "one", "1")
_SIZES = {"big": ("", "", "", "big", "large"), "small": ("small", "small", "little", "tiny")}
_STYLES = {
    "flat": ("a flat picture of", "a flat drawing of", "a flat illustration of", "a flat image of"),
    "crayon": ("a crayon drawing of", "a crayon picture of", "a crayon sketch of", "a wax crayon drawing of"),
}
_ASIDES = {
    "flat": ("in flat style", "flat style", "in flat colours"),
    "crayon": ("in crayon", "crayon style", "drawn with crayons"),
}
_OPENINGS = (
    "a picture of", "a drawing of", "a painting of", "an image of", "a scene with", "the picture of",
)  # fmt: skip
_GROUNDS = {
    "grass": ("on the grass", "on green grass", "in a meadow", "on a lawn", "in a field"),
    "snow": ("on the snow", "in the snow", "on snow", "in winter"),
    "sand": ("on the sand", "on the beach", "in the desert", "on sand"),
    "sea": ("on the sea", "on the water", "on the ocean", "at sea"),
}
_OVER = {
    "grass": ("over the grass", "over a meadow", "over the field"),
    "snow": ("over the snow", "over snow"),
    "sand": ("over the sand", "over the beach", "over the desert"),
    "sea": ("over the sea", "over the water", "over the ocean"),
}
_TIMES = {
    "day": ("by day", "during the day", "in the daytime", "in daylight"),
    "sunset": ("at sunset", "at dusk", "in the evening", "in front of the sunset"),
    "night": ("at night", "by night", "in the night", "in the dark"),
}
_WEATHERS = {
    "clear": ("under a clear sky", "in clear weather", "with a clear sky"),
    "clouds": ("under a cloudy sky", "with clouds in the sky", "under clouds", "with clouds"),
    "rain": ("in the rain", "in rain", "with rain falling", "in rainy weather"),
    "snow": ("in falling snow", "with snow falling", "while it is snowing", "with falling snow"),
}
_PLACES = {
    "left": ("on the left", "at the left", "on the left side"),
    "right": ("on the right", "at the right", "on the right side"),
    "middle": ("in the middle", "in the center", "in the centre"),
}
_RELATIONS = {
    "left of": ("to the left of", "left of", "on the left of"),
    "right of": ("to the right of", "right of", "on the right of"),
    "above": ("above", "over", "above"),
    "below": ("below", "under", "beneath"),
}
# The first thing, then what stands between the two, then what follows the second.
_OTHER_RELATIONS = {
    "left of": (("on the left and", "on the right"), ("next to", ""), ("beside", ""), ("and", "")),
    "right of": (("on the right and", "on the left"), ("next to", ""), ("beside", ""), ("and", "")),
    "above": (("with", "below it"), ("with", "under it")),
    "below": (("with", "above it"), ("with", "over it")),
}

_VERBS = dict.fromkeys(SWIMMING, "floating") | dict.fromkeys(STANDING, "standing")


def _article(words: str) -> str:
    return "an" if words[0] in "aeiou" else "a"


def _what(group: Group, size: str, one: str, number: str) -> str:
    """A group in words; ``one`` and ``number`` are how one thing and several are counted."""
    if group.count > 1:
        return f"{number} {group.colour} {_PLURALS[group.kind]}"
    words = " ".join(filter(None, [size, group.colour, group.kind]))
    return f"{_article(words) if one == 'a' else one} {words}"


def _told(scene: Scene, rng: random.Random) -> str:
    """What is in a scene, and where two things are."""
    single = len(scene.groups) == 1 and scene.groups[0].count == 1
    size = rng.choice(_SIZES[scene.size]) if single else ""
    things = [
        _what(group, size, rng.choice(_ONE), rng.choice(_NUMBERS.get(group.count, ("",))))
        for group in scene.groups
    ]
    if scene.relation is None:
        return things[0]
    if rng.random() < 0.75:
        return f"{things[0]} {rng.choice(_RELATIONS[scene.relation])} {things[1]}"
    between, after = rng.choice(_OTHER_RELATIONS[scene.relation])
    return f"{things[0]} {between} {things[1]} {after}".rstrip()


def captions(scene: Scene, rng: random.Random) -> str:
    """One of many captions of a scene.

    The things and their relation are always in it; size, place, ground, time, weather and style sometimes.
    """
    lone = scene.relation is None
    details: list[str] = []
    if rng.random() < 0.75:
        over = lone and scene.groups[0].kind in FLYING and rng.random() < 0.6
        ground = rng.choice((_OVER if over else _GROUNDS)[scene.ground])
        verb = "flying" if over else _VERBS.get(scene.groups[0].kind)
        details.append(f"{verb} {ground}" if lone and verb and rng.random() < 0.15 else ground)
    if rng.random() < 0.75:
        details.append(rng.choice(_TIMES[scene.time]))
    if rng.random() < (0.3 if scene.weather == "clear" else 0.75):
        details.append(rng.choice(_WEATHERS[scene.weather]))
    if lone and scene.groups[0].count == 1 and rng.random() < 0.7:
        details.append(rng.choice(_PLACES[scene.place]))
    rng.shuffle(details)
    opening, aside = rng.choices(
        (("", ""), (rng.choice(_OPENINGS), ""), (rng.choice(_STYLES[scene.style]), ""),
         ("", rng.choice(_ASIDES[scene.style]))),
        (0.25, 0.15, 0.45, 0.15),
    )[0]  # fmt: skip
    joint = rng.choice((" ", " ", ", "))
    text = joint.join([f"{opening} {_told(scene, rng)}".strip(), *details])
    return f"{text}, {aside}" if aside else text


def prompt_of(scene: Scene) -> str:
    """A plain prompt that says everything which a judge can check."""
    single = len(scene.groups) == 1 and scene.groups[0].count == 1
    things = [
        _what(group, scene.size if single else "", "a", _NUMBERS.get(group.count, ("",))[0])
        for group in scene.groups
    ]
    middle = f" {_RELATIONS[scene.relation][0]} " if scene.relation else ""
    parts = [
        _STYLES[scene.style][0],
        middle.join(things),
        _PLACES[scene.place][0] if single else "",
        _GROUNDS[scene.ground][0],
        _TIMES[scene.time][0],
        _WEATHERS[scene.weather][0],
    ]
    return " ".join(filter(None, parts))


def words() -> set[str]:
    """Every word that captions use."""
    phrases = [*COLOURS, *KINDS, *_PLURALS.values(), *_ONE, *_OPENINGS, *_VERBS.values(), "flying", "an"]
    tables = (
        _NUMBERS, _SIZES, _STYLES, _ASIDES, _GROUNDS, _OVER, _TIMES, _WEATHERS, _PLACES, _RELATIONS,
    )  # fmt: skip
    phrases += [phrase for table in tables for group in table.values() for phrase in group]
    phrases += [phrase for group in _OTHER_RELATIONS.values() for pair in group for phrase in pair]
    return {word for phrase in phrases for word in phrase.split()} | {","}
