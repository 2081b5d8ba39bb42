"""ControlNets: read from files of every kind, and equal to the reference's."""

import json

import pytest
import tiny_controlnet
import torch
from comfyui_cascade.adapters.controlnet import (
    ControlNet,
    ControlNetConfig,
    DeepBackbone,
    EfficientNetBackbone,
    PlainBackbone,
    load_controlnet,
    read_blocks,
)
from comfyui_cascade.checkpoints.layout import shapes
from manifests import manifest
from random_weights import difference, randomise
from safetensors.torch import save_file

TOLERANCE = 1e-5
EIGHT = (0, 4, 8, 12, 51, 55, 59, 63)
RELEASED = {
    "controlnet_canny": (EfficientNetBackbone, 1, 1280, 32, EIGHT, "canny"),
    "controlnet_inpainting": (EfficientNetBackbone, 4, 1280, 32, EIGHT, "inpainting"),
    "controlnet_super_resolution": (DeepBackbone, 16, 1280, 1, EIGHT, "super-resolution"),
    "controlnet_face_identity": (PlainBackbone, 512, 512, 1, tuple(range(64)), "identity"),
}


def unit(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("name", RELEASED)
def test_released_files_are_read_from_their_shapes_alone(name):
    backbone, c_in, features, downscale, blocks, kind = RELEASED[name]
    config = ControlNetConfig.from_shapes(manifest(name))
    assert type(config.backbone) is backbone
    assert config.backbone.c_in == c_in
    assert config.backbone.features == features
    assert config.backbone.downscale == downscale
    assert (config.c_proj, config.blocks, config.kind) == (2048, blocks, kind)
    with torch.device("meta"):
        assert shapes(ControlNet(config).state_dict()) == manifest(name)


@pytest.mark.parametrize("kind", tiny_controlnet.CONFIGS)
def test_any_size_is_read_back_from_its_file(kind, tmp_path):
    network = tiny_controlnet.network(kind)
    read = load_controlnet(tiny_controlnet.write(tmp_path, kind, network))
    assert read.config == tiny_controlnet.CONFIGS[kind]
    c_in = read.config.backbone.c_in
    hint = torch.rand(2, c_in, 40, 56)
    with torch.no_grad():
        for ours, theirs in zip(read(hint), network(hint), strict=True):
            assert (ours is None) == (theirs is None)
            assert ours is None or difference(ours, theirs) < TOLERANCE


def test_backbone_over_pictures_equals_the_hosts_own_class(comfy_nodes):
    from comfy.ldm.cascade.controlnet import ControlNet as Theirs

    for c_in in (1, 3):
        theirs = randomise(Theirs(c_in=c_in, c_proj=24, proj_blocks=[0, 3], operations=torch.nn).eval(), c_in)
        config = ControlNetConfig.from_shapes(shapes(theirs.state_dict()), blocks=(0, 3))
        ours = ControlNet(config).eval()
        ours.load_state_dict(theirs.state_dict())
        hint = torch.rand(1, c_in, 96, 64)
        with torch.no_grad():
            expected, found = theirs(hint)["input"][::-1], ours(hint)
        assert [r is None for r in found] == [r is None for r in expected] == [False, True, True, False]
        assert difference(found[0], expected[0]) < TOLERANCE
        assert difference(found[3], expected[3]) < TOLERANCE


def test_backbone_over_faces_equals_the_hosts_own_class(comfy_nodes):
    from comfy.ldm.cascade.controlnet import ControlNet as Theirs

    theirs = randomise(
        Theirs(c_in=6, c_proj=24, proj_blocks=[1, 0], bottleneck_mode="simple", operations=torch.nn)
    )
    config = ControlNetConfig.from_shapes(shapes(theirs.state_dict()), blocks=(1, 0))
    ours = ControlNet(config).eval()
    ours.load_state_dict(theirs.state_dict())
    hint = unit(2, 6, 5, 7)
    with torch.no_grad():
        for expected, found in zip(theirs(hint.clone())["input"][::-1], ours(hint), strict=True):
            assert difference(found, expected) < TOLERANCE


def test_backbone_over_latents_equals_the_reference_written_out():
    network = tiny_controlnet.network("super-resolution")
    weights = {key: value.double() for key, value in network.state_dict().items()}

    def conv(x, name, padding=0):
        weight, bias = weights[f"{name}.weight"], weights.get(f"{name}.bias")
        return torch.nn.functional.conv2d(x, weight, bias, padding=padding)

    def norm(x, name):  # over channels, with gain and bias, eps 1e-5
        mean = x.mean(dim=1, keepdim=True)
        spread = (x - mean).square().mean(dim=1, keepdim=True)
        unit_variance = (x - mean) / (spread + 1e-5).sqrt()
        gain, bias = (weights[f"{name}.{which}"].view(-1, 1, 1) for which in ("weight", "bias"))
        return unit_variance * gain + bias

    def leaky(x):
        return torch.where(x > 0, x, 0.2 * x)

    def gelu(x):
        return x * 0.5 * (1 + torch.erf(x / 2**0.5))

    hint = unit(2, 16, 6, 9)
    x = conv(leaky(conv(hint.double(), "backbone.0")), "backbone.2")
    for i in (3, 4, 5):
        y = conv(gelu(norm(x, f"backbone.{i}.blocks.0")), f"backbone.{i}.blocks.2", 1)
        x = x + conv(gelu(norm(y, f"backbone.{i}.blocks.3")), f"backbone.{i}.blocks.5", 1)
    x = conv(x, "backbone.6")
    with torch.no_grad():
        found = network(hint)
    for i in range(4):
        expected = conv(leaky(conv(x, f"projections.{i}.0")), f"projections.{i}.2")
        assert difference(found[i], expected) < TOLERANCE


def test_residuals_lie_at_the_blocks_that_the_projections_feed():
    network = tiny_controlnet.network("colours")  # projection 0 feeds block 3, projection 1 block 0
    hint = torch.rand(1, 3, 32, 32)
    with torch.no_grad():
        residuals = network(hint)
        features = network.backbone(hint)
        assert torch.equal(residuals[3], network.projections[0](features))
        assert torch.equal(residuals[0], network.projections[1](features))
    assert residuals[1] is None
    assert residuals[2] is None


def test_features_have_one_cell_for_so_many_pixels():
    for kind, side in (("canny", 96), ("colours", 96), ("super-resolution", 6), ("identity", 6)):
        network = tiny_controlnet.network(kind)
        hint = torch.rand(1, network.config.backbone.c_in, side, side)
        with torch.no_grad():
            first = next(r for r in network(hint) if r is not None)
        assert first.shape == (1, tiny_controlnet.WIDTH, 6, 6)


def test_blocks_given_by_a_person_come_before_those_in_the_file(tmp_path):
    path = tiny_controlnet.write(tmp_path, "canny")
    assert load_controlnet(path, (3, 1, 0)).config.blocks == (3, 1, 0)


def test_unknown_blocks_are_asked_for(tmp_path):
    path = tiny_controlnet.write(tmp_path, "canny", blocks=None)
    with pytest.raises(
        ValueError, match=r"`canny.safetensors`: the ControlNet has 3 projections, and .*as blocks"
    ):
        load_controlnet(path)
    assert load_controlnet(path, (0, 1, 2)).config.blocks == (0, 1, 2)


@pytest.mark.parametrize("blocks", [(0, 1), (0, 1, 1), (0, 1, 2, 3)])
def test_a_wrong_number_of_blocks_is_refused(blocks, tmp_path):
    path = tiny_controlnet.write(tmp_path, "canny")
    with pytest.raises(ValueError, match="different blocks are given for 3 projections"):
        load_controlnet(path, blocks)


@pytest.mark.parametrize("text", ["x", "1.5", "-3", "4-", "99999"])
def test_text_that_numbers_no_blocks_is_refused(text, tmp_path):
    with pytest.raises(ValueError, match="no number of a residual block"):
        read_blocks(text)
    path = tiny_controlnet.write(tmp_path, "canny", blocks=json.dumps([text]))
    with pytest.raises(ValueError, match=r"the file says cascade\.blocks"):
        load_controlnet(path)


def test_file_of_another_model_is_refused_by_its_name(tmp_path):
    weights = {"control_model.input_blocks.0.0.weight": unit(4, 4, 3, 3)}
    save_file(weights, tmp_path / "sd.safetensors")
    with pytest.raises(ValueError, match=r"`sd\.safetensors` is a ControlNet of another model family"):
        load_controlnet(tmp_path / "sd.safetensors")


@pytest.mark.parametrize(
    ("kind", "key"),
    [
        ("canny", "projections.1.2.weight"),
        ("canny", "backbone.2.0.block.0.0.weight"),
        ("super-resolution", "backbone.2.weight"),
        ("identity", "backbone.2.weight"),
    ],
)
def test_cut_file_is_refused(kind, key, tmp_path):
    weights = dict(tiny_controlnet.network(kind).state_dict())
    del weights[key]
    path = tmp_path / "cut.safetensors"
    save_file({k: v.contiguous() for k, v in weights.items()}, path, tiny_controlnet.metadata(kind))
    with pytest.raises(ValueError, match=r"`cut.safetensors`.*(cut|whole)"):
        load_controlnet(path)
