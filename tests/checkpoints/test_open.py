import dataclasses

import pytest
import torch
from comfyui_cascade.checkpoints.identify import Part, find_parts
from comfyui_cascade.checkpoints.layout import shapes
from comfyui_cascade.checkpoints.open import NETWORKS, build, check_weights, load_part, pick
from comfyui_cascade.stage_a.model import StageA, StageAConfig
from manifests import manifest, meta_weights, names
from random_weights import randomise
from safetensors.torch import save_file

HOLDING = [(name, part) for name in names() for part in find_parts(manifest(name)) if part in NETWORKS]
SMALL = StageAConfig(widths=(8, 16), c_hidden=(16, 32), bottleneck_blocks=2, channels=4, codebook_size=10)


@pytest.mark.parametrize(("name", "part"), HOLDING)
def test_network_has_exactly_the_names_and_shapes_of_the_file(name, part):
    weights = pick(meta_weights(name), part)
    network_class, config_class = NETWORKS[part]
    network = build(network_class, config_class.from_shapes(shapes(weights)), weights)
    assert shapes(network.state_dict()) == shapes(weights)


def test_nothing_of_an_all_in_one_file_is_left_over():
    whole = meta_weights("comfyui_stable_cascade_stage_c")
    taken = sum(tensor.numel() for part in find_parts(shapes(whole)) for tensor in pick(whole, part).values())
    position_ids = 257
    assert taken == sum(tensor.numel() for tensor in whole.values()) - position_ids


@pytest.fixture(scope="module")
def stage_a():
    return randomise(StageA(SMALL))


@pytest.fixture
def file(stage_a, tmp_path):
    save_file(stage_a.state_dict(), tmp_path / "a.safetensors")
    return tmp_path / "a.safetensors"


def test_loaded_part_is_the_one_saved(stage_a, file):
    loaded = load_part(file, Part.STAGE_A)
    latents = torch.randn(1, 4, 6, 5)
    assert loaded.config == dataclasses.replace(SMALL)
    assert not loaded.training
    assert torch.equal(loaded.decode(latents), stage_a.decode(latents))


def test_weights_are_put_in_and_not_copied(stage_a):
    weights = {key: tensor.clone() for key, tensor in stage_a.state_dict().items()}
    network = build(StageA, SMALL, weights)
    assert network.out_block[0].weight.data_ptr() == weights["out_block.0.weight"].data_ptr()


def test_part_is_loaded_out_of_an_all_in_one_file(stage_a, tmp_path):
    weights = {"vae." + key: tensor for key, tensor in stage_a.state_dict().items()}
    save_file(weights | {"model.diffusion_model.x": torch.ones(1)}, tmp_path / "all.safetensors")
    load_part(tmp_path / "all.safetensors", Part.STAGE_A)


def test_file_without_counters_loads(stage_a, tmp_path):
    weights = {key: t for key, t in stage_a.state_dict().items() if not key.endswith("num_batches_tracked")}
    save_file(weights, tmp_path / "a.safetensors")
    load_part(tmp_path / "a.safetensors", Part.STAGE_A)


def test_first_missing_weight_is_named(stage_a):
    expected = shapes(stage_a.state_dict())
    weights = {key: tensor for key, tensor in stage_a.state_dict().items() if not key.startswith("out_block")}
    with pytest.raises(
        ValueError, match=r"^`x` holds \d+ of \d+ weights and lacks out_block\.0\.weight, first of 2;"
    ):
        check_weights(expected, weights, "x")


def test_first_weight_of_another_shape_is_named(stage_a):
    weights = stage_a.state_dict() | {"out_block.0.bias": torch.ones(3)}
    with pytest.raises(
        ValueError, match=r"out_block\.0\.bias of shape \(3,\), and \(12,\) was expected, first of 1 "
    ):
        check_weights(shapes(stage_a.state_dict()), weights, "x")


def test_weights_that_are_not_used_are_returned(stage_a):
    weights = stage_a.state_dict() | {"other": torch.ones(3)}
    assert check_weights(shapes(stage_a.state_dict()), weights) == ["other"]


def test_bad_metadata_is_told_before_the_weights_are_read(stage_a, tmp_path):
    save_file(stage_a.state_dict(), tmp_path / "a.safetensors", {"cascade.prediction": "magic"})
    with pytest.raises(ValueError, match=r"^`a\.safetensors` says cascade\.prediction = 'magic'"):
        load_part(tmp_path / "a.safetensors", Part.STAGE_A)


def test_file_whose_tensors_overlap_is_refused(tmp_path):
    import json
    import struct

    entry = {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}
    keys = ("in_block.1.weight", "out_block.0.weight", "up_blocks.0.0.weight")
    text = json.dumps(dict.fromkeys(keys, entry)).encode()
    (tmp_path / "a.safetensors").write_bytes(struct.pack("<Q", len(text)) + text + b"\0" * 4)
    with pytest.raises(ValueError, match=r"^`a\.safetensors` contradicts itself"):
        load_part(tmp_path / "a.safetensors", Part.STAGE_A)
