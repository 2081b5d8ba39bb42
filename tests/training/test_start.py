"""Initial weights."""

import pytest
import tiny_runs
import torch
from comfyui_cascade.checkpoints.identify import Part
from comfyui_cascade.layers.blocks import ResBlock, TimestepBlock
from comfyui_cascade.training.start import network_of


def new(part, base):
    torch.manual_seed(0)
    return network_of(Part(part), tiny_runs.NETWORKS[part], "", base)


@pytest.mark.parametrize("part", ["stage_b", "stage_c"])
def test_a_new_diffusion_stage_begins_as_the_reference_does(part, base):
    network = new(part, base)
    assert network.training
    assert not network.clf[1].weight.any()
    for module in network.modules():
        if isinstance(module, TimestepBlock):
            assert not any(weight.any() for weight in module.parameters())
        if isinstance(module, torch.nn.Conv2d | torch.nn.Linear) and module.bias is not None:
            assert not module.bias.any()
    block = next(module for module in network.modules() if isinstance(module, ResBlock))
    first, last = block.channelwise[0].weight, block.channelwise[-1].weight
    depth = sum(level.depth for level in network.config.trunk.down)
    xavier = (6 / sum(last.shape)) ** 0.5
    assert first.abs().max() <= xavier
    assert last.abs().max() <= xavier * depth**-0.5
    assert last.abs().max() > 0.9 * xavier * depth**-0.5


def test_small_maps_of_the_conditions(base):
    network = new("stage_c", base)
    for mapper in (network.clip_txt_mapper, network.clip_txt_pooled_mapper, network.clip_img_mapper):
        assert mapper.weight.std().item() == pytest.approx(0.02, rel=0.1)


def test_a_new_stage_a_makes_latents_of_unit_variance_in_stage_bs_scale(base):
    latents = new("stage_a", base).encode(torch.rand(8, 3, 64, 64)) / 0.43
    assert latents.std().item() == pytest.approx(1, abs=0.02)
    assert latents.mean().item() == pytest.approx(0, abs=0.02)


def test_a_run_may_start_from_a_file(base):
    network = network_of(Part.STAGE_C, {}, "stage_c.safetensors", base)
    assert network.training
    assert all(p.dtype == torch.float32 and p.requires_grad for p in network.parameters())


def test_a_start_of_another_part_or_of_nothing_is_refused(base):
    with pytest.raises(ValueError, match="is a"):
        network_of(Part.STAGE_C, {}, "stage_b.safetensors", base)
    with pytest.raises(ValueError, match=r"nothing\.safetensors is not there"):
        network_of(Part.STAGE_C, {}, "nothing.safetensors", base)


def test_sizes_that_are_not_whole_are_refused(base):
    with pytest.raises(ValueError, match=r"network \(stage_a\) lacks widths"):
        network_of(Part.STAGE_A, {}, "", base)
