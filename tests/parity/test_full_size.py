"""The released sizes without storage: every shape of a forward pass, at the sizes of pictures people draw."""

import pytest
import torch
from comfyui_cascade.checkpoints.identify import Part
from comfyui_cascade.checkpoints.layout import shapes
from comfyui_cascade.checkpoints.open import NETWORKS, build, pick
from comfyui_cascade.latents.geometry import stage_b_size, stage_c_size
from comfyui_cascade.layers.half import HALF
from comfyui_cascade.layers.ops import TORCH
from manifests import meta_weights

PICTURES = [(1024, 1024), (1536, 640), (4096, 4096)]

SIZES = {"stage_c": 3.6e9, "stage_c_lite": 1.0e9, "stage_b": 1.5e9, "stage_b_lite": 0.7e9}


def full(name, ops=TORCH):
    """A released network without storage."""
    weights = pick(meta_weights(name), Part(name.removesuffix("_lite")))
    network_class, config_class = NETWORKS[Part(name.removesuffix("_lite"))]
    return build(network_class, config_class.from_shapes(shapes(weights)), weights, ops)


def empty(*shape):
    return torch.empty(shape, device="meta")


@pytest.mark.parametrize("ops", [TORCH, HALF], ids=["torch", "half"])
@pytest.mark.parametrize("name", ["stage_c", "stage_c_lite"])
def test_stage_c_runs_through_at_every_size(name, ops):
    network = full(name, ops)
    assert sum(p.numel() for p in network.parameters()) == pytest.approx(SIZES[name], rel=0.05)
    with torch.device("meta"), torch.inference_mode():
        tokens = network.tokens(empty(2, 77, 1280), empty(2, 1280), empty(2, 1, 768))
        assert tokens.shape == (2, 77 + 4 + 4, network.config.trunk.c_cond)
        for width, height in PICTURES:
            columns, rows = stage_c_size(width, height)
            latents = empty(2, 16, rows, columns)
            assert network(latents, empty(2), tokens).shape == latents.shape


@pytest.mark.parametrize("ops", [TORCH, HALF], ids=["torch", "half"])
@pytest.mark.parametrize("name", ["stage_b", "stage_b_lite"])
def test_stage_b_runs_through_at_every_size(name, ops):
    network = full(name, ops)
    assert sum(p.numel() for p in network.parameters()) == pytest.approx(SIZES[name], rel=0.05)
    with torch.device("meta"), torch.inference_mode():
        tokens = network.tokens(empty(2, 1280))
        for width, height in PICTURES:
            (columns, rows), (c_columns, c_rows) = stage_b_size(width, height), stage_c_size(width, height)
            latents = empty(2, 4, rows, columns)
            cells = network.semantic_map(empty(2, 16, c_rows, c_columns), rows, columns)
            assert cells.shape == (2, rows // 2, columns // 2, 320)
            assert network(latents, empty(2), tokens, cells).shape == latents.shape


def test_sizes_of_the_latents_are_the_released_ones():
    assert [stage_c_size(*size) for size in PICTURES] == [(24, 24), (36, 15), (96, 96)]
    assert [stage_b_size(*size) for size in PICTURES] == [(256, 256), (384, 160), (1024, 1024)]
