"""Which scenes there are, how they are drawn, and what is said of them."""

import random
from dataclasses import replace

import numpy as np
import pytest
from comfy_host import comfy_tree
from comfyui_cascade.conditioning.text import END_ID, START_ID, Tokens
from comfyui_cascade.training.picturebook import (
    COLOURS,
    END_ROW,
    FLYING,
    GROUNDS,
    HELD_OUT_COLOURS,
    HELD_OUT_RELATIONS,
    KINDS,
    LAND,
    PLACES,
    POSITIONS,
    RELATIONS,
    SIZE,
    SIZES,
    STANDING,
    STYLES,
    SWIMMING,
    TIMES,
    TOKEN_IDS,
    WEATHERS,
    Group,
    Scene,
    any_scene,
    arrangement,
    captions,
    draw,
    fresh_scenes,
    grounds_of,
    held_out_scenes,
    is_held_out,
    prompt_of,
    tokenize,
    training_scene,
    words,
)
from comfyui_cascade.training.picturebook.hand import Pen, SteadyHand
from comfyui_cascade.training.picturebook.things import DRAWERS
from PIL import Image, ImageDraw

SCENES = [training_scene(seed) for seed in range(20_000)]
SINGLES = [scene for scene in SCENES if scene.relation is None]
PAIRS = [scene for scene in SCENES if scene.relation is not None]


def alone(kind, colour="red", **changes):
    scene = Scene(
        (Group(kind, colour),), None, "middle", "big", grounds_of(kind)[0], "day", "clear", "flat", seed=5
    )
    return replace(scene, **changes)


def test_a_seed_always_gives_the_same_scene_and_the_same_picture():
    for seed in range(12):
        scene = training_scene(seed)
        assert scene == SCENES[seed]
        first, second = draw(scene), draw(scene)
        assert first.things == second.things
        assert first.picture.dtype == np.uint8
        assert first.picture.shape == (SIZE, SIZE, 3)
        assert first.picture.tobytes() == second.picture.tobytes()
    assert len(set(SCENES[:100])) == 100


def test_no_training_scene_shows_a_held_out_combination():
    for scene in SCENES:
        assert not {(group.kind, group.colour) for group in scene.groups} & HELD_OUT_COLOURS
        assert arrangement(scene) not in HELD_OUT_RELATIONS


def test_training_scenes_show_every_other_pair_of_kind_and_colour():
    shown = {(group.kind, group.colour) for scene in SCENES for group in scene.groups}
    assert shown | HELD_OUT_COLOURS == {(kind, colour) for kind in KINDS for colour in COLOURS}


def test_each_kind_misses_one_colour():
    assert sorted(kind for kind, _ in HELD_OUT_COLOURS) == sorted(KINDS)


def test_a_relation_and_its_mirror_image_are_one_arrangement():
    cat, house = Group("cat", "red"), Group("house", "blue")
    one = replace(alone("cat"), groups=(cat, house), relation="left of")
    other = replace(one, groups=(house, cat), relation="right of")
    assert arrangement(one) == arrangement(other) == ("cat", "left of", "house")
    assert is_held_out(other)


def test_held_out_scenes_are_held_out_and_could_be_drawn():
    scenes = held_out_scenes(120)
    assert all(is_held_out(scene) for scene in scenes)
    assert {arrangement(scene) for scene in scenes} >= HELD_OUT_RELATIONS
    pairs = {(group.kind, group.colour) for scene in scenes for group in scene.groups}
    assert pairs >= HELD_OUT_COLOURS
    for scene in scenes:
        assert scene.ground in grounds_of(*(group.kind for group in scene.groups))


def test_a_held_out_scene_is_of_one_held_out_thing_only():
    for scene in held_out_scenes(120):
        if scene.relation is not None:
            assert not {(group.kind, group.colour) for group in scene.groups} & HELD_OUT_COLOURS


def test_fresh_scenes_are_no_held_out_ones_and_no_training_ones():
    fresh = fresh_scenes(50)
    assert not any(is_held_out(scene) for scene in fresh)
    assert not set(fresh) & set(SCENES)


def test_any_scene_may_be_held_out():
    assert any(is_held_out(any_scene(seed)) for seed in range(200))


def test_things_are_where_they_can_be():
    for scene in SCENES:
        for group in scene.groups:
            assert scene.ground in (LAND if group.kind in STANDING else GROUNDS)
            assert scene.ground == "sea" or group.kind not in SWIMMING
        if (order := arrangement(scene)) and order[1] == "above":
            assert order[0] in FLYING


def test_all_attributes_are_shown_often():
    def shares(values):
        return {value: values.count(value) / len(values) for value in set(values)}

    for values, names in (
        ([scene.place for scene in SINGLES], PLACES),
        ([scene.size for scene in SINGLES], SIZES),
        ([scene.relation for scene in PAIRS], RELATIONS),
        ([scene.ground for scene in SCENES], GROUNDS),
        ([scene.time for scene in SCENES], TIMES),
        ([scene.weather for scene in SCENES], WEATHERS),
        ([scene.style for scene in SCENES], STYLES),
        ([group.kind for scene in SCENES for group in scene.groups], KINDS),
        ([scene.groups[0].count for scene in SINGLES], (1, 2, 3)),
    ):
        found = shares(values)
        assert set(found) == set(names)
        assert min(found.values()) > 0.4 / len(names)
    assert 0.65 < len(SINGLES) / len(SCENES) < 0.75


@pytest.mark.parametrize("style", STYLES)
@pytest.mark.parametrize("kind", KINDS)
def test_a_box_holds_its_thing_tightly(kind, style):
    red, blue = (draw(alone(kind, colour, style=style)) for colour in ("red", "blue"))
    changed = np.abs(red.picture.astype(int) - blue.picture).max(axis=2) > 12
    rows, columns = changed.nonzero()
    left, top, right, bottom = (value * SIZE for value in red.things[0].box)
    assert left - 1 <= columns.min()
    assert columns.max() <= right + 1
    assert top - 1 <= rows.min()
    assert rows.max() <= bottom + 1
    # What is not of the asked colour, as a stem or a beak, may stand out; the rest fills the box.
    assert columns.max() - columns.min() > 0.6 * (right - left)
    assert max(right - left, bottom - top) > 90
    assert changed[round(top) : round(bottom), round(left) : round(right)].mean() > 0.2


@pytest.mark.parametrize("kind", KINDS)
def test_most_of_a_thing_is_of_its_colour(kind):
    def painted(colour):
        canvas = Image.new("RGB", (256, 256), (0, 255, 0))
        pen = Pen(
            ImageDraw.Draw(canvas), SteadyHand(random.Random(0), 1.0, "day"), (128, 128), 100, (1, 1, 1)
        )
        DRAWERS[kind](pen, COLOURS[colour])
        return np.asarray(canvas).astype(int)

    red, blue = painted("red"), painted("blue")
    thing = (red != (0, 255, 0)).any(axis=2)
    coloured = np.abs(red - blue).max(axis=2) > 60
    assert coloured.sum() > 0.55 * thing.sum()


@pytest.mark.parametrize("style", STYLES)
@pytest.mark.parametrize("time", TIMES)
def test_every_colour_stands_out_at_every_time(time, style):
    for ground in GROUNDS:
        for colour in COLOURS:
            scene = alone("star", colour, ground=ground, time=time, style=style)
            picture = draw(scene).picture.astype(int)
            left, top, right, bottom = (round(value * SIZE) for value in draw(scene).things[0].box)
            around = picture[top : top + 12, left : left + 12].mean(axis=(0, 1))
            y, x = round((top + bottom) / 2), round((left + right) / 2)
            inside = picture[y - 6 : y + 6, x - 6 : x + 6].mean(axis=(0, 1))
            assert np.abs(inside - around).max() > 35, (ground, colour)


def test_things_are_where_the_scene_says():
    for scene in SCENES[:400]:
        boxes = [thing.box for thing in draw(scene).things]
        assert len(boxes) == sum(group.count for group in scene.groups)
        across = [(box[0] + box[2]) / 2 for box in boxes]
        if scene.relation is None:
            assert across == sorted(across)
            low, high = {"left": (0, 0.38), "middle": (0.4, 0.6), "right": (0.62, 1)}[scene.place]
            assert low < sum(across) / len(across) < high
            continue
        first, second = boxes
        if scene.relation in ("above", "below"):
            upper, lower = (first, second) if scene.relation == "above" else (second, first)
            assert upper[3] < lower[1] + 0.08
        else:
            left, right = (first, second) if scene.relation == "left of" else (second, first)
            assert left[2] < right[0] + 0.03


def test_small_things_are_clearly_smaller():
    def side(size):
        left, top, right, bottom = draw(alone("robot", size=size)).things[0].box
        return max(right - left, bottom - top)

    assert side("small") < 0.7 * side("big")


@pytest.mark.parametrize("size", [(384, 256), (256, 384), (192, 192), (384, 384), (288, 192)])
def test_other_sizes_show_the_same_things_as_large(size):
    for scene in SCENES[:12]:
        usual, other = draw(scene), draw(scene, size)
        assert other.picture.shape == (size[1], size[0], 3)
        for thing, as_usual in zip(other.things, usual.things, strict=True):
            left, top, right, bottom = thing.box
            assert 0 <= left < right <= 1
            assert 0 <= top < bottom <= 1
            height = (bottom - top) * size[1] / min(size)
            assert height == pytest.approx(as_usual.box[3] - as_usual.box[1], abs=0.09)


def test_captions_use_words_of_the_vocabulary_alone_and_fit():
    texts = [captions(scene, random.Random(i)) for i, scene in enumerate(SCENES[:5000])]
    texts += [prompt_of(scene) for scene in SCENES[:5000]]
    rows = tokenize(texts)  # raises for a word that is not in the table
    assert rows.shape == (10_000, POSITIONS)
    assert (rows[:, -1] == END_ROW).all(), "a caption was cut"


def test_a_caption_names_colour_and_kind_of_each_group():
    for i, scene in enumerate(SCENES[:1000]):
        text = captions(scene, random.Random(i))
        for group in scene.groups:
            assert f"{group.colour} {group.kind[:-1]}" in text  # butterfly, butterflies
            if group.count > 1:
                assert any(
                    number in text.split() for number in {2: ("two", "2"), 3: ("three", "3")}[group.count]
                )


def test_captions_of_one_scene_vary():
    assert len({captions(SCENES[0], random.Random(i)) for i in range(50)}) > 20


def test_a_prompt_tells_scenes_apart_that_differ_in_anything_but_the_seed():
    told = {prompt_of(scene): replace(scene, seed=0) for scene in SCENES}
    assert len(told) == len({replace(scene, seed=0) for scene in SCENES})


def test_the_table_ends_with_clips_own_frame():
    assert TOKEN_IDS[-2:] == (START_ID, END_ID)
    assert len(set(TOKEN_IDS)) == len(TOKEN_IDS)


@pytest.fixture(scope="module")
def clip_ids():
    """ComfyUI's CLIP tokenizer: the ids of a word, without its frame."""
    from transformers import CLIPTokenizer

    tokenizer = CLIPTokenizer.from_pretrained(str(comfy_tree() / "comfy" / "sd1_tokenizer"))
    return lambda word: tokenizer(word)["input_ids"][1:-1]


def test_training_reads_captions_as_the_pack_reads_prompts(clip_ids):
    tokens = Tokens(TOKEN_IDS, POSITIONS)
    for i, scene in enumerate(SCENES[:200]):
        text = captions(scene, random.Random(i))
        prompt = tokens.encode(text, clip_ids)
        assert not prompt.unknown
        assert not prompt.cut
        assert prompt.rows == tuple(tokenize([text])[0].tolist())


def test_every_word_of_the_captions_is_one_token_of_clips(clip_ids):
    assert sorted(clip_ids(word)[0] for word in words()) == list(TOKEN_IDS[:-2])
    assert all(len(clip_ids(word)) == 1 for word in words())
