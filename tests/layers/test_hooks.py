"""Hooks around units, blocks and attention: what others may do inside a network."""

from dataclasses import replace

import pytest
import tiny_cascade
import torch
from comfyui_cascade.layers.blocks import AttnBlock
from comfyui_cascade.layers.hooks import Hooks
from comfyui_cascade.stage_b import StageB
from comfyui_cascade.stage_c import StageC
from random_weights import randomise
from tiny_cascade import unit
from torch.nn import functional


@pytest.fixture(scope="module")
def stage_c():
    return randomise(StageC(tiny_cascade.C)).eval().requires_grad_(False)


@pytest.fixture(scope="module")
def run(stage_c):
    tokens = stage_c.tokens(unit(2, 5, tiny_cascade.TEXT), unit(2, tiny_cascade.TEXT), unit(2, 1, 768))

    def forward(**inputs):
        return stage_c(unit(2, 16, 6, 7), torch.tensor([0.9, 0.3]), tokens, **inputs)

    return forward


def places(network):
    return [module.place for module in network.modules() if isinstance(module, AttnBlock)]


@pytest.mark.parametrize("network", [StageB(tiny_cascade.B), StageC(tiny_cascade.C)])
def test_every_attention_block_has_a_place_of_its_own(network):
    found = places(network)
    assert len(set(found)) == len(found) > 3


def test_hooks_that_call_their_piece_change_nothing(run):
    through = Hooks(
        units=(lambda place, x, inner: inner(x),),
        blocks=(lambda sources, inner: inner(sources),),
        attention=(lambda call, inner: inner(call),),
        skips=(lambda place, x, skip: (x, skip),),
    )
    assert torch.equal(run(hooks=through), run())


def test_the_first_hook_is_the_outermost(run):
    order = []

    def named(name):
        def hook(place, x, inner):
            order.append(name)
            return inner(x)

        return hook

    run(hooks=Hooks(units=(named("outer"), named("inner"))))
    assert order == ["outer", "inner"] * 4


def test_hooks_of_units_see_every_unit_and_those_of_attention_every_block(run, stage_c):
    units, blocks = [], []

    def of_unit(place, x, inner):
        units.append(place)
        return inner(x)

    def of_attention(call, inner):
        blocks.append((call.place, call.grid, call.cells, call.k.shape[1] - call.cells))
        return inner(call)

    run(hooks=Hooks(units=(of_unit,), attention=(of_attention,)))
    assert units == places(stage_c)
    assert blocks == [(place, (6, 7), 42, 13) for place in units]


def test_a_decoupled_attention_is_added_before_the_output_projection(stage_c):
    block = stage_c.down_blocks[0][2]
    x, tokens, picture = unit(2, 3, 4, 32), unit(2, 5, 32), unit(2, 6, 32)
    mask = torch.zeros(1, 12, 1)
    mask[:, 5] = 0.7
    added = []

    def with_picture(call, inner):
        added.append(mask * call.attend(call.q, picture, picture, call.heads))
        return inner(call) + added[0]

    change = block.hooked(x, tokens, Hooks(attention=(with_picture,))) - block.hooked(x, tokens, Hooks())
    expected = functional.linear(added[0], block.attention["attn"].out_proj.weight).view_as(x)
    torch.testing.assert_close(change, expected, atol=1e-5, rtol=1e-4)
    assert change.flatten(1, 2)[:, 5].abs().max() > 1e-3


def test_values_may_be_parted_from_keys(stage_c):
    block = stage_c.down_blocks[0][2]
    x, tokens = unit(1, 3, 4, 32), unit(1, 5, 32)

    def split(sources, inner):
        return inner(replace(sources, v=sources.v.clone(), v_tokens=sources.v_tokens.clone()))

    assert torch.equal(block.hooked(x, tokens, Hooks(blocks=(split,))), block.hooked(x, tokens, Hooks()))


def test_a_unit_left_out_keeps_the_residuals_of_the_others(run):
    def without_second(place, x, inner):
        return x if (place.side, place.unit) == ("down", 1) else inner(x)

    residuals = [unit(2, 32, 6, 7) for _ in range(4)]
    hooks = Hooks(units=(without_second,))
    kept = run(control=residuals, hooks=hooks)
    for index, matters in enumerate([True, False, True, True]):
        changed = [r * 2 if i == index else r for i, r in enumerate(residuals)]
        assert torch.equal(run(control=changed, hooks=hooks), kept) != matters


def test_a_hook_may_shrink_the_map_and_the_output_keeps_its_size(run):
    def shrunk(place, x, inner):
        return inner(x)[:, ::2, ::2]

    assert run(hooks=Hooks(units=(shrunk,))).shape == run().shape
