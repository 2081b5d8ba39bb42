import pytest
import torch
from comfyui_cascade.checkpoints.identify import Part
from comfyui_cascade.checkpoints.layout import Layout, to_native
from comfyui_cascade.checkpoints.open import load_part
from comfyui_cascade.checkpoints.save import save
from comfyui_cascade.checkpoints.scaled import is_scaled, plain
from comfyui_cascade.weights import path as embedded
from safetensors.torch import load_file, save_file

KEY = "down_blocks.0.2.attention.attn.to_q.weight"


def scaled(weights, spelling, dtype=torch.float8_e4m3fn):
    """Every matrix in eight bits, with its factor, as ComfyUI's converters store them."""
    found = {}
    for key, value in weights.items():
        if key.endswith("weight") and value.ndim == 2:
            factor = value.float().abs().max() / torch.finfo(dtype).max
            found[key] = (value.float() / factor).to(dtype)
            found[f"{key.rpartition('.')[0]}.{spelling}"] = factor
        else:
            found[key] = value
    return found


@pytest.fixture
def weights():
    return {name: weight.clone() for name, weight in to_native(load_file(embedded("stage_c"))).items()}


@pytest.mark.parametrize("spelling", ["scale_weight", "weight_scale"])
def test_scaled_weights_come_back_to_their_size(weights, spelling):
    back = plain(scaled(weights, spelling))
    assert back.keys() == weights.keys()
    error = (back[KEY].float() - weights[KEY].float()).abs().max() / weights[KEY].float().abs().max()
    assert 0 < error < 2**-4
    assert torch.equal(back["clf.1.bias"], weights["clf.1.bias"])


def test_weights_without_factors_stay_as_they_are(weights):
    assert not is_scaled(weights)
    assert all(plain(weights)[key] is weights[key] for key in weights)


def test_scaled_file_opens_as_a_network(tmp_path, weights):
    metadata = {"cascade.head_dim": "32"}
    save_file(scaled(weights, "weight_scale"), tmp_path / "a.safetensors", metadata)
    found = load_part(tmp_path / "a.safetensors", Part.STAGE_C).state_dict()[KEY]
    assert (found.float() - weights[KEY].float()).abs().max() < 2**-4 * weights[KEY].float().abs().max()


def test_scaled_file_is_saved_as_plain_weights(tmp_path, weights):
    path, stored = tmp_path / "a.safetensors", scaled(weights, "weight_scale")
    save(path, Part.STAGE_C, stored, layout=Layout.STABILITY, dtype=torch.bfloat16, metadata={})
    packed = load_file(path)["down_blocks.0.2.attention.attn.in_proj_weight"]
    assert torch.equal(packed[: len(packed) // 3], plain(stored)[KEY])


def test_scaled_file_is_saved_as_it_is(tmp_path, weights):
    path, stored = tmp_path / "a.safetensors", scaled(weights, "weight_scale")
    save(path, Part.STAGE_C, stored, layout=Layout.DIFFUSERS, dtype=None, metadata={})
    found = load_file(path)
    assert torch.equal(found["down_blocks.0.2.attention.to_q.weight"].float(), stored[KEY].float())
    assert "down_blocks.0.2.attention.to_q.weight_scale" in found


def test_three_factors_do_not_go_into_one_tensor(tmp_path, weights):
    stored = scaled(weights, "weight_scale")
    with pytest.raises(ValueError, match=r"do not go into one tensor, .* choose bf16"):
        save(tmp_path / "a", Part.STAGE_C, stored, layout=Layout.STABILITY, dtype=None, metadata={})


@pytest.mark.parametrize(
    "extra",
    [
        {"a.weight_scale": torch.ones(3)},
        {"a.weight_scale": torch.ones(()), "a.weight_scale_2": torch.ones(())},
    ],
)
def test_other_ways_of_storing_are_refused(extra):
    with pytest.raises(ValueError, match=r"^a\.weight"):
        plain({"a.weight": torch.ones(3, 3).to(torch.float8_e4m3fn), **extra})
