"""Examples, batches of them, and maps of what is where."""

import logging

import pytest
import tiny_runs
import torch
from comfyui_cascade.training.examples import (
    COLOUR_NAMES,
    NOTHING,
    Examples,
    batches,
    collate,
    label_maps,
    reading_losses,
    regions,
)
from comfyui_cascade.training.picturebook import COLOURS, KINDS, Placed
from comfyui_cascade.training.sources import UnreadablePicture
from safetensors.torch import load_file

THING = Placed(KINDS[3], COLOUR_NAMES[2], (0.25, 0.5, 0.75, 1.0))


def number(i, rng):
    return torch.tensor([float(i), rng.random()])


def test_an_examples_randomness_is_its_positions():
    examples = Examples({"number": number}, 0, [0] * 9)
    assert torch.equal(examples[3, 5]["number"], examples[3, 5]["number"])
    assert not torch.equal(examples[3, 5]["number"], examples[4, 5]["number"])
    assert examples[3, 5]["position"] == 3
    assert not torch.equal(Examples({"number": number}, 1, [0] * 9)[3, 5]["number"], examples[3, 5]["number"])


def test_a_batch_stacks_tensors_and_those_in_tuples_and_lists_the_rest():
    items = [
        {"a": torch.tensor([i]), "pair": (torch.zeros(2), torch.ones(3)), "text": str(i), "things": things}
        for i, things in enumerate([(), (THING,)])
    ]
    batch = collate(items)
    assert batch["a"].tolist() == [[0], [1]]
    assert [part.shape for part in batch["pair"]] == [(2, 2), (2, 3)]
    assert batch["text"] == ["0", "1"]
    assert batch["things"] == [(), (THING,)]


def test_an_unreadable_picture_is_replaced_by_the_next_of_its_shape_with_one_warning(caplog):
    def picture(i, rng):
        if i in (2, 4):
            raise UnreadablePicture(f"{i}.png is no readable picture")
        return torch.tensor(i)

    examples = Examples({"picture": picture, "number": number}, 0, [0, 1, 0, 1, 0, 1, 0])
    with caplog.at_level(logging.WARNING):
        found = [examples[7, 2] for _ in range(3)]
    assert {int(one["picture"]) for one in found} == {6}
    assert found[0]["number"][0] == 6  # the other entries are of the same example
    assert [record.message for record in caplog.records] == [
        "2.png is no readable picture; the next picture takes its place",
        "4.png is no readable picture; the next picture takes its place",
    ]


def test_a_run_without_one_readable_picture_ends():
    def picture(i, rng):
        raise UnreadablePicture("no")

    with pytest.raises(ValueError, match="not one picture of this shape can be read"):
        Examples({"picture": picture}, 0, [0, 0])[0, 1]


def test_regions_are_the_cells_that_boxes_touch():
    found = regions([(THING,), ()], 4, 8)
    assert found.shape == (2, 1, 4, 8)
    assert found[0, 0, 2:, 2:6].all()
    assert found.sum() == 8


def test_a_tiny_box_touches_a_cell_even_at_the_border():
    for box in ((0.51, 0.51, 0.52, 0.52), (1.0, 1.0, 1.0, 1.0), (-0.2, 0.0, 0.0, 0.1)):
        assert regions([(Placed(KINDS[0], COLOUR_NAMES[0], box),)], 4, 4).sum() >= 1 or box[0] == 1.0


def test_label_maps_number_kind_and_colour():
    kinds, colours = label_maps([(THING,)], 4, 8)[:, 0]
    assert (kinds[2:, 2:6] == 3).all()
    assert (colours[2:, 2:6] == 2).all()
    assert (kinds == NOTHING).sum() == 24


def test_reading_losses_are_cross_entropies_over_cells_with_things():
    labels = label_maps([(THING,), ()], 4, 8)
    readings = torch.randn(2, len(KINDS) + len(COLOURS), 4, 8, generator=torch.Generator().manual_seed(0))
    found = reading_losses(readings, labels)
    kinds, colours = readings[0].split([len(KINDS), len(COLOURS)])
    cells = (slice(None), slice(2, 4), slice(2, 6))
    expected = -(kinds.log_softmax(0)[cells][3].mean() + colours.log_softmax(0)[cells][2].mean())
    torch.testing.assert_close(found, torch.stack([expected, torch.tensor(0.0)]))


@pytest.mark.parametrize(("part", "data"), [("stage_a", {"crop": 32}), ("stage_c", {})])
def test_what_another_process_loads_trains_to_the_same_bits(part, data, base, tmp_path):
    alone, helped = (
        tiny_runs.run(
            part, base, tmp_path / str(workers), data={**data, "workers": workers}, schedule={"steps": 3}
        )
        for workers in (0, 1)
    )
    ours, theirs = (load_file(done.files[part]) for done in (alone, helped))
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)


def test_workers_where_nothing_can_be_forked_are_refused(monkeypatch):
    monkeypatch.setattr("comfyui_cascade.training.examples.get_all_start_methods", lambda: ["spawn"])
    with pytest.raises(ValueError, match="this system cannot fork processes; set it to 0"):
        batches(Examples({}, 0, [0]), [[(0, 0)]], 2)
