"""What counts as right: a reading of a picture against the scene whose prompt it was drawn from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from comfyui_cascade.benchmarks.judge import AROUND, Found, Reading
from comfyui_cascade.training.picturebook import Group, Scene

ATTRIBUTES = ("kind", "colour", "count", "place", "relation", "size", *AROUND)
"""Everything that ``picturebook.prompt_of`` may assert of a scene."""

THIRDS = {"left": (0.0, 0.39), "middle": (0.39, 0.61), "right": (0.61, 1.0)}
"""Where the middle of a single thing is: halfway between where the places of the world are."""

LEAST_APART = 0.2
"""Distance of two things along the axis of their relation, as a share of the picture; in the world 0.38."""

_DIRECTIONS = {"left of": ("x", 1), "right of": ("x", -1), "above": ("y", 1), "below": ("y", -1)}
"""Axis of a relation, and the sign of what leads from the first thing to the second along it."""


def assign(things: Sequence[Found], groups: Sequence[Group]) -> list[list[Found]]:
    """The things that stand for each group: those of its kind.

    Where one group alone has none, things of no group's kind stand for it, so that a wrong kind does not
    count as a wrong colour and place too.
    """
    assigned = [[thing for thing in things if thing.kind == group.kind] for group in groups]
    empty = [i for i, found in enumerate(assigned) if not found]
    if len(empty) == 1:
        asked = {group.kind for group in groups}
        assigned[empty[0]] = [thing for thing in things if thing.kind not in asked]
    return assigned


def verdict(reading: Reading, scene: Scene) -> dict[str, bool]:
    """Whether each attribute that the scene's prompt asserts is right, by the names in ``ATTRIBUTES``."""
    groups, things = scene.groups, reading.things
    assigned = assign(things, groups)
    right = {
        "kind": {thing.kind for thing in things} == {group.kind for group in groups},
        "colour": all(
            found and all(thing.colour == group.colour for thing in found)
            for found, group in zip(assigned, groups, strict=True)
        ),
        "count": len(things) == sum(group.count for group in groups),
    }
    if scene.relation is not None:
        right["relation"] = all(assigned) and _related(*assigned, scene.relation)
    elif groups[0].count == 1:
        low, high = THIRDS[scene.place]
        right["place"] = bool(things) and low <= _middle(things, "x") <= high
        right["size"] = bool(things) and all(thing.size == scene.size for thing in things)
    return right | {name: getattr(reading, name) == getattr(scene, name) for name in AROUND}


def _middle(things: Sequence[Found], axis: str) -> float:
    return sum(getattr(thing, axis) for thing in things) / len(things)


def _related(first: Sequence[Found], second: Sequence[Found], relation: str) -> bool:
    axis, sign = _DIRECTIONS[relation]
    return sign * (_middle(second, axis) - _middle(first, axis)) >= LEAST_APART


@dataclass(frozen=True, slots=True)
class Tally:
    """Verdicts on several pictures.

    Attributes:
        pictures: how many there are.
        shares: of the pictures whose prompt asserts an attribute, by its name, those that show it.
        alignment: share of all asserted attributes that are right.
        all_right: share of pictures in which all of them are.
    """

    pictures: int
    shares: dict[str, float]
    alignment: float
    all_right: float


def tally(verdicts: Sequence[dict[str, bool]]) -> Tally:
    """Count verdicts, at least one."""
    shares = {}
    for name in ATTRIBUTES:
        judged = [verdict[name] for verdict in verdicts if name in verdict]
        if judged:
            shares[name] = sum(judged) / len(judged)
    every = [right for verdict in verdicts for right in verdict.values()]
    return Tally(
        pictures=len(verdicts),
        shares=shares,
        alignment=sum(every) / len(every),
        all_right=sum(all(verdict.values()) for verdict in verdicts) / len(verdicts),
    )
