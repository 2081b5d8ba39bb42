"""The judge: what it is trained on, how it reads, and what counts as right."""

import pytest
import torch
from comfyui_cascade.training import judge
from comfyui_cascade.training.draw import draw
from comfyui_cascade.training.judge import (
    CELLS,
    COLOUR_NAMES,
    Judge,
    Reading,
    detection_loss,
    middles,
    verdict,
)
from comfyui_cascade.training.words import tokenize
from comfyui_cascade.training.world import GROUNDS, HELD_OUT, KINDS, TIMES, Scene
from torch.nn import functional

SCENE = Scene("cat", "blue", 1, "left", "grass", "night", seed=1)
RIGHT = Reading(("cat",), ("blue",), (0.28,), "grass", "night")


def changed(**fields):
    values = {name: getattr(RIGHT, name) for name in Reading.__slots__}
    return Reading(**{**values, **fields})


def test_the_right_reading_is_right_in_all():
    assert all(verdict(RIGHT, SCENE).values())


@pytest.mark.parametrize(
    ("reading", "wrong"),
    [
        (changed(kinds=("car",)), {"kind"}),
        (changed(colours=("red",)), {"colour"}),
        (changed(kinds=("cat", "cat"), colours=("blue", "blue"), places=(0.2, 0.3)), {"count"}),
        (changed(kinds=("cat", "car"), colours=("blue", "blue"), places=(0.2, 0.3)), {"kind", "count"}),
        (changed(places=(0.7,)), {"place"}),
        (changed(ground="sea"), {"ground"}),
        (changed(time="day"), {"time"}),
        (changed(kinds=(), colours=(), places=()), {"kind", "colour", "count", "place"}),
    ],
)
def test_a_wrong_reading_is_wrong_in_what_differs(reading, wrong):
    judged = verdict(reading, SCENE)
    assert {name for name, right in judged.items() if not right} == wrong | {"all"}


def test_each_thing_has_its_middle_marked():
    _, boxes = draw(Scene("tree", "red", 3, "middle", "snow", "day", seed=2))
    cells = middles(boxes)
    assert len(set(cells[:, 0].tolist())) == 3
    assert (cells >= 0).all()
    assert middles(boxes[:1])[1:].tolist() == [[-1, -1], [-1, -1]]


def test_detection_loss_is_its_direct_transcription():
    generator = torch.Generator().manual_seed(0)
    maps = torch.randn(1, 1 + len(KINDS) + len(COLOUR_NAMES), CELLS, CELLS, generator=generator)
    whole = torch.randn(1, len(GROUNDS) + len(TIMES), generator=generator)
    column, row = 3, 5
    loss = detection_loss(
        maps, whole, torch.tensor([[[column, row], [-1, -1]]]), torch.tensor([[2, 4, 1, 0]])
    )
    found = 0.0
    for y in range(CELLS):
        for x in range(CELLS):
            logit = maps[0, 0, y, x]
            if (x, y) == (column, row):
                found += 10 * functional.softplus(-logit)
            elif max(abs(x - column), abs(y - row)) > 1:
                found += functional.softplus(logit)
    kinds, colours = maps[0, 1:, row, column].split((len(KINDS), len(COLOUR_NAMES)))
    ground, time = whole[0].split((len(GROUNDS), len(TIMES)))
    names = [(kinds, 2), (colours, 4), (ground, 1), (time, 0)]
    expected = found - sum(logits.log_softmax(0)[label] for logits, label in names)
    assert loss.item() == pytest.approx(expected.item(), rel=1e-4)


class Marking(torch.nn.Module):
    """Says that there are a red house in cell (2, 3) and a blue one in cell (9, 3), on grass at sunset."""

    def forward(self, images):
        maps = torch.full((len(images), 1 + len(KINDS) + len(COLOUR_NAMES), CELLS, CELLS), -5.0)
        for column, colour in ((2, "red"), (9, "blue")):
            maps[:, 0, 3, column] = 5
            maps[:, 1 + KINDS.index("house"), 3, column] = 5
            maps[:, 1 + len(KINDS) + COLOUR_NAMES.index(colour), 3, column] = 5
        whole = torch.zeros(len(images), len(GROUNDS) + len(TIMES))
        whole[:, GROUNDS.index("grass")] = whole[:, len(GROUNDS) + TIMES.index("sunset")] = 1
        return maps, whole


def test_reading_gives_each_peak_its_kind_and_colour():
    (reading,) = judge.read(Marking(), torch.rand(1, 3, 256, 256))
    places = (2.5 / CELLS, 9.5 / CELLS)
    assert reading == Reading(("house", "house"), ("red", "blue"), places, "grass", "sunset")


def test_a_sure_judge_counts_a_thing_once():
    class Sure(Marking):
        def forward(self, images):
            maps, whole = super().forward(images)
            maps[:, 0, 3, 2:4] = torch.tensor([60.0, 59.0])  # both probabilities are 1
            return maps, whole

    (reading,) = judge.read(Sure(), torch.rand(1, 3, 256, 256))
    assert len(reading.kinds) == 2


def test_the_judge_reads_pictures_of_any_size():
    assert len(judge.read(Judge(width=16).eval(), torch.rand(2, 3, 256, 192))) == 2


def test_plain_prompts_use_words_the_text_encoder_has():
    scenes = [*judge.fresh_scenes(200), *judge.held_out_scenes(24)]
    tokenize([judge.prompt_of(scene) for scene in scenes])


def test_held_out_scenes_are_of_held_out_pairs_and_fresh_ones_are_not():
    assert {(s.kind, s.colour) for s in judge.held_out_scenes(24)} == HELD_OUT
    assert not {(s.kind, s.colour) for s in judge.fresh_scenes(200)} & HELD_OUT
