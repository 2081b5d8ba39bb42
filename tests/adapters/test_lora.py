"""LoRA files of every trainer: what their names mean, and what is said of files that do not fit."""

import json
import pickle
import re

import lora_files
import manifests
import pytest
import torch
from comfyui_cascade.adapters import lora_order
from comfyui_cascade.adapters.lora import LoraFile, fit, read_lora
from comfyui_cascade.adapters.lora_config import Scales, read_scales
from comfyui_cascade.adapters.lora_names import take_apart
from comfyui_cascade.adapters.lora_words import Learned
from comfyui_cascade.checkpoints.adapters import find_adapter
from comfyui_cascade.checkpoints.layout import native_shapes, shapes
from lora_files import DIALECTS, stage_b_shapes, stage_c_shapes, text_shapes
from safetensors.torch import save_file

RELEASED = [name for name in manifests.names() if name.startswith("lora_")]


def write(folder, tensors, name="style.safetensors", metadata=None):
    path = folder / name
    save_file({key: value.contiguous().clone() for key, value in tensors.items()}, path, metadata)
    return path


@pytest.mark.parametrize("name", RELEASED)
def test_every_name_of_a_released_layout_has_a_place_in_the_released_sizes(name):
    weights = manifests.meta_weights(name)
    file = LoraFile(name, find_adapter(shapes(weights)), weights, Scales(), Learned())
    stage = native_shapes(manifests.manifest("stage_c" if "_full_" in name else "stage_c_lite"))
    found = fit(file, stage, manifests.manifest("text_encoder_clip_g"), "Stage C")
    assert found.unmatched == ()
    assert len(found.changed) == len(set(found.changed))
    named = {
        re.sub(r"\.(lora_\w+\.weight|alpha|hada_\w+|lokr_\w+)$", "", key) for key in found.stage | found.text
    }
    assert named == set(found.changed)
    attention = sum(path.endswith((".to_q", ".to_k", ".to_v", ".out_proj")) for path in found.changed)
    blocks = 64 if "_full_" in name else 32
    assert attention == 4 * blocks + (4 * 32 if any("self_attn" in path for path in found.changed) else 0) - (
        3 * 32 if any("self_attn" in path for path in found.changed) else 0
    )


@pytest.mark.parametrize("model", ["stage_c", "stage_c_lite"])
def test_stability_matrices_go_to_the_attentions_in_running_order_with_the_output_first(model):
    stage = native_shapes(manifests.manifest(model))
    width = stage["clip_txt_mapper.weight"][0]
    blocks = sum(name.endswith("out_proj.weight") for name in stage)
    places = lora_order.places(stage, [(width, width), (3 * width, width)] * blocks)
    outputs = [paths[0] for paths in places[::2]]
    order = [re.match(r"(down|up)_blocks\.(\d)\.(\d+)\.", path).groups() for path in outputs]
    assert order == sorted(order, key=lambda at: (at[0] == "up", int(at[1]), int(at[2])))
    assert all(
        paths == tuple(output.replace("out_proj", f"to_{one}") for one in "qkv")
        for output, paths in zip(outputs, places[1::2], strict=True)
    )


@pytest.mark.parametrize("dialect", DIALECTS)
def test_every_tensor_of_a_dialect_is_used(tmp_path, dialect):
    tensors, deltas = DIALECTS[dialect]()
    found = fit(read_lora(write(tmp_path, tensors)), stage_c_shapes(), None, "Stage C")
    assert found.unmatched == ()
    weights = {path for path in deltas if not path.endswith(".bias")}
    assert weights <= set(found.changed)


@pytest.mark.parametrize(
    ("name", "flat", "suffix"),
    [
        ("lora_prior_unet_clf_1.lora_down.weight", "clf_1", "lora_down.weight"),
        ("base_model.model.clf.1.lora_A.default.weight", "clf_1", "lora_down.weight"),
        ("prior.clf.1.lora_magnitude_vector", "clf_1", "dora_scale"),
        ("module.diffusion_model.clf.1.lora_linear_layer.up.weight", "clf_1", "lora_up.weight"),
        ("lycoris_clf_1.oft_blocks", "clf_1", "oft_blocks"),
        ("text_encoder.text_projection.lora_B.weight", "text_projection", "lora_up.weight"),
    ],
)
def test_name_is_taken_apart(name, flat, suffix):
    taken = take_apart(name)
    assert (taken.flat, taken.suffix) == (flat, suffix)


def test_names_without_meaning_are_kept_for_a_warning(tmp_path):
    tensors, _ = lora_files.onetrainer()
    tensors["lora_prior_unet_attic_3.lora_up.weight"] = torch.zeros(4, 4)
    tensors["notes"] = torch.zeros(1)
    found = fit(read_lora(write(tmp_path, tensors)), stage_c_shapes(), None, "Stage C")
    assert set(found.unmatched) == {"lora_prior_unet_attic_3.lora_up.weight", "notes"}


def test_depthwise_change_of_onetrainer_is_left_out_with_a_reason(tmp_path):
    tensors, _ = lora_files.onetrainer()
    name = "lora_prior_unet_down_blocks_0_0_depthwise"
    tensors[f"{name}.lora_down.weight"] = torch.zeros(4, 32, 3, 3)
    tensors[f"{name}.lora_up.weight"] = torch.zeros(1, 4, 1, 1)
    found = fit(read_lora(write(tmp_path, tensors)), stage_c_shapes(), None, "Stage C")
    assert len(found.unmatched) == 1
    assert "depthwise convolution" in found.unmatched[0]


def wider(shape):
    return {
        name: tuple(48 if side == 32 else 144 if side == 96 else side for side in s)
        for name, s in shape.items()
    }


@pytest.mark.parametrize(
    "dialect", ["stability", "onetrainer", "kohya", "peft", "loha", "lokr", "difference"]
)
def test_lora_of_another_width_is_told_apart_by_both_widths(tmp_path, dialect):
    file = read_lora(write(tmp_path, DIALECTS[dialect]()[0]))
    with pytest.raises(ValueError, match=r"`style.safetensors` was made for .*32 wide.* is 48 wide"):
        fit(file, wider(stage_c_shapes()), None, "Stage C")


def test_released_sizes_are_told_by_the_name_people_know(tmp_path):
    tensors = {"lora_unet_down_blocks_0_2_attention_attn_to_q.lora_up.weight": torch.zeros(2048, 1)}
    tensors["lora_unet_down_blocks_0_2_attention_attn_to_q.lora_down.weight"] = torch.zeros(1, 2048)
    with pytest.raises(ValueError, match=r"2048 wide \(as the released one of 3.6 B parameters is\)"):
        fit(read_lora(write(tmp_path, tensors)), stage_c_shapes(), None, "Stage C")


def test_lora_of_a_deeper_model_is_told_apart_by_a_block(tmp_path):
    tensors, _ = lora_files.kohya()
    name = "lora_unet_up_blocks_0_29_attention_attn_to_q"
    tensors |= {f"{name}.lora_up.weight": torch.zeros(32, 4), f"{name}.lora_down.weight": torch.zeros(4, 32)}
    with pytest.raises(
        ValueError, match=r"32 wide with a block up_blocks\.0\.29.* is 32 wide with 4 attention"
    ):
        fit(read_lora(write(tmp_path, tensors)), stage_c_shapes(), None, "Stage C")


def test_lora_for_one_stage_is_refused_by_the_other(tmp_path):
    file = read_lora(write(tmp_path, lora_files.stage_b()[0]))
    with pytest.raises(ValueError, match=r"LoRA for Stage B, and the model is a Stage C"):
        fit(file, stage_c_shapes(), None, "Stage C")
    assert fit(file, stage_b_shapes(), None, "Stage B").unmatched == ()


def test_text_encoder_of_another_width_is_told(tmp_path):
    file = read_lora(write(tmp_path, lora_files.text()[0]))
    text = {
        name: tuple(40 if side == 32 else side for side in shape) for name, shape in text_shapes().items()
    }
    with pytest.raises(ValueError, match=r"text encoder 32 wide, and this one is 40"):
        fit(file, stage_c_shapes(), text, "Stage C")


def bad_files(folder):
    """Files that are no LoRA, each with a part of what is said."""
    good = write(folder, lora_files.onetrainer()[0], "good.safetensors").read_bytes()
    other = {
        "lora_unet_down_blocks_0_attentions_0_transformer_blocks_0_attn2_to_k.lora_up.weight": torch.zeros(
            320, 4
        ),
        "lora_unet_down_blocks_0_attentions_0_transformer_blocks_0_attn2_to_k.lora_down.weight": torch.zeros(
            4, 2048
        ),
    }
    stage_a = {"in_block.1.weight": torch.zeros(1), "out_block.0.weight": torch.zeros(1)}
    stage_a["up_blocks.0.0.weight"] = torch.zeros(1)
    return {
        "cut": (good[:-100], "cut short"),
        "pickle.pt": (pickle.dumps({"a": 1}), "pickle"),
        "web": (b"<!DOCTYPE html>", "web page"),
        "sdxl": (other, "SDXL"),
        "stage_a": (stage_a, "a Stage A, and a LoRA of Stable Cascade was expected"),
        "embedding": ({"clip_g": torch.zeros(2, 1280)}, "embedding:name"),
        "nothing": ({"x": torch.zeros(1)}, "a LoRA of Stable Cascade was expected"),
        "torn": (
            {"weights.0.lora_up": torch.zeros(32, 4), "weights.1.lora_down": torch.zeros(4, 32)},
            "damaged",
        ),
        "foreign": ({"lora_unet_attic.lora_up.weight": torch.zeros(4, 4)}, "means anything to this Stage C"),
    }


@pytest.mark.parametrize(
    "kind", ["cut", "pickle.pt", "web", "sdxl", "stage_a", "embedding", "nothing", "torn", "foreign"]
)
def test_file_that_cannot_be_used_ends_in_a_sentence(tmp_path, kind):
    content, said = bad_files(tmp_path)[kind]
    path = tmp_path / (kind if "." in kind else f"{kind}.safetensors")
    if isinstance(content, bytes):
        path.write_bytes(content)
    else:
        write(tmp_path, content, path.name)
    with pytest.raises(ValueError, match=re.escape(said)) as caught:
        fit(read_lora(path), stage_c_shapes(), None, "Stage C")
    assert f"`{path.name}`" in str(caught.value)
    assert str(caught.value).count(". ") <= 1


# Scales outside of the file ------------------------------------------------------------------------------


def test_alpha_of_peft_is_read_beside_the_file_and_by_pattern(tmp_path):
    config = {"lora_alpha": 8, "r": 4, "alpha_pattern": {"down_blocks.0.2.attention.to_q": 2}}
    (tmp_path / "adapter_config.json").write_text(json.dumps(config))
    path = write(tmp_path, lora_files.peft()[0], "adapter_model.safetensors")
    found = fit(read_lora(path), stage_c_shapes(), None, "Stage C")
    alphas = {key: value.item() for key, value in found.stage.items() if key.endswith("alpha")}
    assert alphas.pop("down_blocks.0.2.attention.attn.to_q.alpha") == 2
    assert set(alphas.values()) == {8}


def test_alpha_of_diffusers_is_read_from_the_metadata(tmp_path):
    notes = {
        "lora_adapter_metadata": json.dumps({"prior.lora_alpha": 6, "prior.r": 4, "prior.use_rslora": True})
    }
    scales = read_scales(tmp_path / "x.safetensors", notes)
    assert scales.alpha_of("clf_1") == 12  # 6 / sqrt(4) is 12 / 4


@pytest.mark.parametrize("text", ["", "no json", "[1]", '{"r": 0, "lora_alpha": 1}', '{"r": 4}'])
def test_configuration_without_sense_says_nothing(tmp_path, text):
    assert read_scales(tmp_path / "x", {"lora_adapter_metadata": text}).alpha_of("clf_1") is None
