"""Walking a trunk with what does not change over a run known beforehand."""

from dataclasses import replace

import pytest
import tiny_cascade
import torch
from comfyui_cascade.layers.hooks import Hooks
from comfyui_cascade.layers.trunk import Level
from comfyui_cascade.layers.walk import keys_values
from comfyui_cascade.stage_b import StageB
from comfyui_cascade.stage_c import StageC
from random_weights import randomise
from tiny_cascade import unit

TWICE = replace(
    tiny_cascade.B.trunk,
    down=(*tiny_cascade.B.trunk.down[:2], Level(48, "CTA", 2, 1, 0), Level(32, "ATA", 1, 1, 0)),
    up=(Level(32, "ATA", 1, 2, 0), Level(48, "CTA", 2, 3, 48), *tiny_cascade.B.trunk.up[2:]),
)
"""Levels that run several times, of several widths, and units with two attention blocks."""

NETWORKS = {
    "stage_c": lambda: StageC(tiny_cascade.C),
    "stage_b": lambda: StageB(replace(tiny_cascade.B, trunk=TWICE)),
}


@pytest.fixture(params=NETWORKS)
def run(request):
    """A network's prediction for two pictures of two prompts, and its prompts' tokens."""
    network = randomise(NETWORKS[request.param]()).eval().requires_grad_(False)
    pooled, t = unit(2, tiny_cascade.TEXT), torch.tensor([0.9, 0.3])
    if request.param == "stage_c":
        tokens, rest = network.tokens(unit(2, 5, tiny_cascade.TEXT), pooled, unit(2, 1, 768)), ()
        x = unit(2, 16, 6, 7)
    else:
        tokens, rest = network.tokens(pooled), (network.semantic_map(unit(2, 16, 3, 3), 32, 48),)
        x = unit(2, 4, 32, 48)

    def forward(which=(0, 1), prompts=(0, 1), **inputs):
        pictures = list(which)
        given = [part[pictures] for part in rest]
        known = {"keys_values": keys_values(network, tokens[list(prompts)])} if prompts else {}
        return network(x[pictures], t[pictures], tokens[pictures], *given, **inputs, **known)

    return forward


def test_keys_known_beforehand_change_not_a_bit(run):
    assert torch.equal(run(), run(prompts=None))


def test_a_row_of_keys_stands_for_several_pictures(run):
    both = run(which=(0, 0, 1, 1), prompts=(0, 1))
    torch.testing.assert_close(both, run(which=(0, 0, 1, 1), prompts=(0, 0, 1, 1)), atol=1e-5, rtol=1e-5)
    assert not torch.equal(both, run(which=(0, 0, 1, 1), prompts=(1, 0)))


def test_hooks_inside_attention_are_given_the_tokens(run):
    seen = []

    def hook(sources, inner):
        seen.append(sources.k_tokens.shape[1])
        return inner(sources)

    assert torch.equal(run(hooks=Hooks(blocks=(hook,))), run())
    assert min(seen) > 0
