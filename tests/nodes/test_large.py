"""Nodes for large pictures and for steps that take less time."""

import pytest
import torch
from random_weights import difference
from tiny_cascade import unit

EXACT = 1e-5


def with_prior(conditioning, latents):
    return [[text, {**more, "stable_cascade_prior": latents}] for text, more in conditioning]


def test_one_tile_is_stage_b_whole_and_more_are_close_to_it(pack, tiny, prompts, ksample):
    positive = with_prior(prompts.positive, unit(1, 16, 8, 15))
    start = torch.zeros(1, 4, 136, 256)
    draw = {"sampler_name": "euler", "steps": 2, "cfg": 1.0}
    whole = ksample(tiny.stage_b, positive, prompts.negative, start, **draw)

    def tiled(tile, overlap):
        model = pack["CascadeTileDecoder"](stage_b=tiny.stage_b, tile=tile, overlap=overlap)[0]
        return ksample(model, positive, prompts.negative, start, **draw)

    assert difference(tiled(1024, 0), whole) < EXACT
    found = tiled(512, 256)
    assert found.shape == whole.shape
    assert 1e-3 < difference(found, whole) < 1


def test_a_tile_that_is_all_overlap_is_refused(pack, tiny):
    with pytest.raises(ValueError, match="cannot overlap by 512"):
        pack["CascadeTileDecoder"](stage_b=tiny.stage_b, tile=512, overlap=512)


@pytest.mark.parametrize(
    ("node", "wrong"), [("CascadeTileDecoder", "stage_c"), ("CascadeReuseBlocks", "stage_b")]
)
def test_nodes_say_which_stage_they_take(pack, tiny, node, wrong):
    inputs = {
        "CascadeTileDecoder": {"stage_b": getattr(tiny, wrong), "tile": 512, "overlap": 0},
        "CascadeReuseBlocks": {
            "stage_c": getattr(tiny, wrong), "every": 2, "start_percent": 0.0, "end_percent": 1.0,
        },
    }  # fmt: skip
    with pytest.raises(ValueError, match="this node takes Stage"):
        pack[node](**inputs[node])


def test_fewer_keys_are_means_of_squares_of_cells(pack, tiny, prompts, ksample):
    start, cells = torch.zeros(1, 16, 6, 8), []

    def drawn(model):
        return ksample(model, prompts.positive, prompts.negative, start, sampler_name="euler", steps=1)

    def mean(q, k, v, options):
        """The same by hand, of every second row and column."""
        cells.append(k.shape[1])
        height, width = options["activations_shape"][-2:]
        grid = k.unflatten(1, (height, width))
        fewer = (grid[:, ::2, ::2] + grid[:, 1::2, ::2] + grid[:, ::2, 1::2] + grid[:, 1::2, 1::2]) / 4
        return q, fewer.flatten(1, 2), fewer.flatten(1, 2)

    def downsampled(most):
        return drawn(pack["CascadeDownsampleKeys"](model=tiny.stage_c, max_cells=most)[0])

    by_hand = tiny.stage_c.clone()
    by_hand.set_model_attn1_patch(mean)
    assert difference(downsampled(12), drawn(by_hand)) < EXACT
    assert set(cells) == {48}
    assert torch.equal(downsampled(48), drawn(tiny.stage_c))
    assert difference(downsampled(12), drawn(tiny.stage_c)) > 1e-3


def test_a_guide_leads_the_large_forms(pack, tiny, prompts, ksample):
    guide, start = unit(1, 16, 6, 6), torch.zeros(1, 16, 12, 12)

    def drawn(strength):
        inputs = {"guide": {"samples": guide}, "strength": strength, "end_percent": 1.0}
        model = pack["CascadeGuideLargeForms"](stage_c=tiny.stage_c, **inputs)[0]
        return ksample(model, prompts.positive, prompts.negative, start, sampler_name="euler", steps=2)

    def far(latents):
        return (torch.nn.functional.interpolate(latents, (6, 6), mode="area") - guide).norm()

    assert difference(drawn(0.0), ksample(
        tiny.stage_c, prompts.positive, prompts.negative, start, sampler_name="euler", steps=2
    )) < EXACT  # fmt: skip
    assert far(drawn(1.0)) < 0.1 * far(drawn(0.0))


def test_a_guide_of_stage_b_is_refused(pack, tiny):
    inputs = {"guide": {"samples": unit(1, 4, 6, 6)}, "strength": 1.0, "end_percent": 1.0}
    with pytest.raises(ValueError, match="4 channels and this model's latents have 16"):
        pack["CascadeGuideLargeForms"](stage_c=tiny.stage_c, **inputs)


def test_deep_blocks_are_computed_in_every_nth_step(pack, tiny, prompts, ksample):
    from comfyui_cascade.layers.hooks import Place

    start, calls = torch.zeros(1, 16, 8, 8), []

    def drawn(every):
        inputs = {"every": every, "start_percent": 0.0, "end_percent": 1.0}
        model = pack["CascadeReuseBlocks"](stage_c=tiny.stage_c, **inputs)[0]

        def count(place, x, inner, options):
            calls.append(place)
            return inner(x)

        model.set_model_patch(count, "cascade_unit")  # inside of the node's own
        calls.clear()
        return ksample(model, prompts.positive, prompts.negative, start, sampler_name="euler", steps=4)

    whole = drawn(1)
    assert (calls.count(Place("down", 1)), calls.count(Place("down", 0))) == (4, 4)
    same = ksample(tiny.stage_c, prompts.positive, prompts.negative, start, sampler_name="euler", steps=4)
    assert difference(whole, same) < EXACT
    reused = drawn(2)
    assert (calls.count(Place("down", 1)), calls.count(Place("down", 0))) == (2, 4)
    assert difference(reused, whole) > 1e-4
