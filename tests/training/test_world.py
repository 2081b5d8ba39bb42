"""Which scenes there are, how they are drawn, and what is said of them."""

import random

import numpy as np
import pytest
from comfy_host import comfy_tree
from comfyui_cascade.conditioning.text import END_ID, START_ID, Tokens
from comfyui_cascade.training import captions
from comfyui_cascade.training.draw import SIZE, draw
from comfyui_cascade.training.words import POSITIONS, TOKEN_IDS, tokenize
from comfyui_cascade.training.world import (
    COLOURS,
    FLYING,
    GROUNDS,
    HELD_OUT,
    KINDS,
    LAND,
    STANDING,
    TIMES,
    Scene,
    training_scene,
)

SCENES = [training_scene(seed) for seed in range(5_000)]


def test_a_seed_always_gives_the_same_scene():
    assert SCENES[:100] == [training_scene(seed) for seed in range(100)]
    assert len(set(SCENES[:100])) == 100


def test_no_training_scene_shows_a_held_out_pair():
    assert not {(scene.kind, scene.colour) for scene in SCENES} & HELD_OUT


def test_training_scenes_show_every_other_pair():
    shown = {(scene.kind, scene.colour) for scene in SCENES}
    assert shown | HELD_OUT == {(kind, colour) for kind in KINDS for colour in COLOURS}


def test_each_kind_misses_one_colour():
    assert sorted(kind for kind, _ in HELD_OUT) == sorted(KINDS)


def test_things_are_where_they_can_be():
    for scene in SCENES:
        if scene.kind in STANDING:
            assert scene.ground in LAND
        if scene.kind == "boat":
            assert scene.ground == "sea"
        assert scene.place == "middle" or scene.count == 1


@pytest.mark.parametrize("kind", KINDS)
def test_a_scene_is_always_drawn_alike(kind):
    ground = "sea" if kind == "boat" else "sand"
    scene = Scene(kind, "blue", 2, "middle", ground, "sunset", seed=3)
    first, boxes = draw(scene)
    second, again = draw(scene)
    assert first.shape == (SIZE, SIZE, 3)
    assert first.dtype == np.uint8
    assert (first == second).all()
    assert boxes == again
    assert len(boxes) == 2


@pytest.mark.parametrize("kind", KINDS)
def test_a_things_colour_shows_inside_its_box_only(kind):
    ground = "sea" if kind == "boat" else "grass"

    def picture(colour):
        return draw(Scene(kind, colour, 1, "left", ground, "day", seed=5))

    red, boxes = picture("red")
    blue, _ = picture("blue")
    changed = (red.astype(int) - blue).__abs__().max(axis=2) > 0
    rows, columns = changed.nonzero()
    left, top, right, bottom = (value * SIZE for value in boxes[0])
    margin = (right - left) * 0.1  # outlines and beaks stand out a little
    assert changed.mean() > 0.02
    assert columns.min() >= left - margin
    assert columns.max() <= right + margin
    assert rows.min() >= top - margin
    assert rows.max() <= bottom + margin


@pytest.mark.parametrize("time", TIMES)
@pytest.mark.parametrize("ground", GROUNDS)
def test_every_kind_can_be_drawn_everywhere_it_belongs(ground, time):
    for kind in FLYING:
        picture, _ = draw(Scene(kind, "white", 3, "middle", ground, time, seed=1))
        assert picture.std() > 10


def test_captions_use_words_of_the_vocabulary_alone_and_fit():
    texts = [captions.caption(scene, random.Random(i)) for i, scene in enumerate(SCENES[:2000])]
    rows = tokenize(texts)  # raises for a word that is not in the table
    assert rows.shape == (2000, POSITIONS)
    assert (rows[:, -1] == len(TOKEN_IDS) - 1).all(), "a caption was cut"


def test_a_caption_names_kind_and_count():
    for i, scene in enumerate(SCENES[:500]):
        text = captions.caption(scene, random.Random(i))
        assert scene.kind in text
        assert any(
            word in text.split()
            for word in {2: ("two", "2"), 3: ("three", "3")}.get(scene.count, ("a", "an"))
        )


def test_captions_of_one_scene_vary():
    assert len({captions.caption(SCENES[0], random.Random(i)) for i in range(50)}) > 20


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
        text = captions.caption(scene, random.Random(i))
        prompt = tokens.encode(text, clip_ids)
        assert not prompt.unknown
        assert not prompt.cut
        assert prompt.rows == tuple(tokenize([text])[0].tolist())


def test_every_word_of_the_captions_is_in_the_table(clip_ids):
    for word in captions.words():
        assert set(clip_ids(word)) <= set(TOKEN_IDS)
