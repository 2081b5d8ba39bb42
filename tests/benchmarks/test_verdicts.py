"""What counts as right, attribute by attribute."""

import pytest
from comfyui_cascade.benchmarks.judge import Found, Reading
from comfyui_cascade.benchmarks.verdicts import ATTRIBUTES, tally, verdict
from comfyui_cascade.training.picturebook import Group, Scene


def thing(kind, colour, x=0.28, y=0.6, size="small"):
    return Found(kind, colour, size, x, y, 0.3, 0.3)


def reading(*things, ground="grass", time="night", weather="rain", style="crayon"):
    return Reading(things, ground, time, weather, style)


def scene(*groups, relation=None, place="left", size="small"):
    return Scene(groups, relation, place, size, "grass", "night", "rain", "crayon", seed=1)


CAT = scene(Group("cat", "blue"))
ROW = scene(Group("cat", "blue", 3), place="middle", size="big")
PAIR = scene(Group("cat", "blue"), Group("car", "red"), relation="left of", place="middle", size="big")
BLUE_CAT, RED_CAR = thing("cat", "blue"), thing("car", "red", x=0.7)
AROUND = {"ground", "time", "weather", "style"}


def wrong(reading, scene):
    return {name for name, right in verdict(reading, scene).items() if not right}


@pytest.mark.parametrize(
    ("asked", "asserted"),
    [
        (CAT, {"kind", "colour", "count", "place", "size"} | AROUND),
        (ROW, {"kind", "colour", "count"} | AROUND),
        (PAIR, {"kind", "colour", "count", "relation"} | AROUND),
    ],
    ids=["single", "row", "pair"],
)
def test_only_what_the_prompt_asserts_is_judged(asked, asserted):
    assert set(verdict(reading(BLUE_CAT), asked)) == asserted


@pytest.mark.parametrize(
    ("seen", "mistakes"),
    [
        (reading(BLUE_CAT), set()),
        (reading(thing("car", "blue")), {"kind"}),
        (reading(thing("cat", "red")), {"colour"}),
        (reading(thing("car", "red")), {"kind", "colour"}),
        (reading(BLUE_CAT, thing("cat", "blue", x=0.2)), {"count"}),
        (reading(BLUE_CAT, thing("car", "red")), {"kind", "count"}),
        (reading(thing("cat", "blue", x=0.5)), {"place"}),
        (reading(thing("cat", "blue", x=0.8)), {"place"}),
        (reading(thing("cat", "blue", size="big")), {"size"}),
        (reading(BLUE_CAT, ground="sea"), {"ground"}),
        (reading(BLUE_CAT, time="day"), {"time"}),
        (reading(BLUE_CAT, weather="snow"), {"weather"}),
        (reading(BLUE_CAT, style="flat"), {"style"}),
        (reading(), {"kind", "colour", "count", "place", "size"}),
    ],
)
def test_a_single_thing_is_wrong_in_what_differs(seen, mistakes):
    assert wrong(seen, CAT) == mistakes


@pytest.mark.parametrize(
    ("things", "mistakes"),
    [
        ([BLUE_CAT] * 3, set()),
        ([BLUE_CAT] * 2, {"count"}),
        ([BLUE_CAT, BLUE_CAT, thing("cat", "pink")], {"colour"}),
        ([BLUE_CAT, BLUE_CAT, thing("duck", "blue")], {"kind"}),
    ],
)
def test_a_row_is_wrong_in_what_differs(things, mistakes):
    assert wrong(reading(*things), ROW) == mistakes


@pytest.mark.parametrize(
    ("things", "mistakes"),
    [
        ([BLUE_CAT, RED_CAR], set()),
        ([RED_CAR, BLUE_CAT], set()),
        ([thing("cat", "red"), thing("car", "blue", x=0.7)], {"colour"}),
        ([thing("cat", "blue", x=0.7), thing("car", "red")], {"relation"}),
        ([thing("cat", "blue", x=0.45), thing("car", "red", x=0.55, y=0.2)], {"relation"}),
        ([BLUE_CAT, thing("duck", "red", x=0.7)], {"kind"}),
        ([BLUE_CAT], {"kind", "colour", "count", "relation"}),
        ([thing("duck", "blue"), thing("fish", "red", x=0.7)], {"kind", "colour", "relation"}),
    ],
)
def test_two_things_are_wrong_in_what_differs(things, mistakes):
    assert wrong(reading(*things), PAIR) == mistakes


@pytest.mark.parametrize(
    ("relation", "cat", "car"),
    [
        ("left of", (0.3, 0.6), (0.7, 0.6)),
        ("right of", (0.7, 0.6), (0.3, 0.6)),
        ("above", (0.5, 0.2), (0.5, 0.8)),
        ("below", (0.5, 0.8), (0.5, 0.2)),
    ],
)
def test_each_relation_is_seen_from_the_second_thing(relation, cat, car):
    asked = scene(*PAIR.groups, relation=relation)
    things = [thing("cat", "blue", *cat), thing("car", "red", *car)]
    turned = [thing("cat", "blue", *car), thing("car", "red", *cat)]
    assert verdict(reading(*things), asked)["relation"]
    assert not verdict(reading(*turned), asked)["relation"]


def test_shares_count_only_pictures_that_were_asked():
    counted = tally([
        {"kind": True, "place": False, "ground": True},
        {"kind": False, "relation": True, "ground": True},
    ])  # fmt: skip
    assert counted.shares == {"kind": 0.5, "place": 0.0, "relation": 1.0, "ground": 1.0}
    assert list(counted.shares) == [name for name in ATTRIBUTES if name in counted.shares]
    assert counted.alignment == pytest.approx(4 / 6)
    assert counted.all_right == 0
    assert counted.pictures == 2
