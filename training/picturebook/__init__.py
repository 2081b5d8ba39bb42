"""The procedural picture book that the small cascade learns from: scenes, pictures, captions and words."""

from .paint import SIZE, Box, Drawing, Placed, draw
from .scene import (
    COLOURS,
    FLYING,
    FRESH,
    GROUNDS,
    HELD_OUT_COLOURS,
    HELD_OUT_RELATIONS,
    KINDS,
    LAND,
    LARGEST_COUNT,
    PLACES,
    RELATIONS,
    SIZES,
    STANDING,
    STYLES,
    SWIMMING,
    TIMES,
    WEATHERS,
    Group,
    Scene,
    any_scene,
    arrangement,
    fresh_scenes,
    grounds_of,
    held_out_scenes,
    is_held_out,
    training_scene,
)
from .tokens import END, END_ROW, POSITIONS, START, TOKEN_IDS, ids_of, tokenize
from .wording import captions, prompt_of, words

__all__ = [
    "COLOURS", "END", "END_ROW", "FLYING", "FRESH", "GROUNDS", "HELD_OUT_COLOURS", "HELD_OUT_RELATIONS",
    "KINDS", "LAND", "LARGEST_COUNT", "PLACES", "POSITIONS", "RELATIONS", "SIZE", "SIZES", "STANDING",
    "START", "STYLES", "SWIMMING", "TIMES", "TOKEN_IDS", "WEATHERS", "Box", "Drawing", "Group", "Placed",
    "Scene", "any_scene", "arrangement", "captions", "draw", "fresh_scenes", "grounds_of",
    "held_out_scenes", "ids_of", "is_held_out", "prompt_of", "tokenize", "training_scene", "words",
]  # fmt: skip
