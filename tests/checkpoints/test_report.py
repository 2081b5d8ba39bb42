import json

import pytest
import torch
from comfyui_cascade.checkpoints.identify import Part
from comfyui_cascade.checkpoints.layout import Layout
from comfyui_cascade.checkpoints.report import report
from comfyui_cascade.checkpoints.save import save
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from manifests import names, tensors
from random_sizes import parts
from sparse import write_sparse

CONFIG_C = "2048+2048 wide, 8+24 blocks down, 24+8 up, c_cond 2048"
CONFIG_C_LITE = "1536+1536 wide, 4+12 blocks down, 12+4 up, c_cond 1536"
CONFIG_B = "320+640+1280+1280 wide, 2+6+28+6 blocks down, 6+28+6+2 up, c_cond 1280"
CONFIG_B_LITE = "320+576+1152+1152 wide, 2+4+14+4 blocks down, 4+14+4+2 up, c_cond 1280"
CONFIG_A = "192+384 wide, codebook of 8192, 4 channels"
TEXT = "1280 wide, 32 layers, 49408 tokens"
IMAGE = "1024 wide, 24 layers, 224 pixels"

LINES = {
    "stage_a": f"a Stage A; {CONFIG_A}; Stability names; 18.4 M parameters, fp32, 73.6 MB",
    "stage_b": f"a Stage B; {CONFIG_B}; Stability names; 1.56 B parameters, fp32, 6.25 GB",
    "stage_b_lite": f"a Stage B; {CONFIG_B_LITE}; Stability names; 699 M parameters, fp32, 2.8 GB",
    "stage_c": f"a Stage C; {CONFIG_C}; Stability names; 3.59 B parameters, fp32, 14.4 GB",
    "stage_c_lite": f"a Stage C; {CONFIG_C_LITE}; Stability names; 1.03 B parameters, fp32, 4.12 GB",
    "effnet_encoder": "a semantic encoder; 6 stages, 1280 wide, 16 channels; Stability names; "
    "20.2 M parameters, fp32, 81.4 MB",
    "previewer": "a Stage C previewer; 9 convolutions, 16 channels; Stability names; "
    "3.98 M parameters, fp32, 15.9 MB",
    "text_encoder_clip_g": f"a CLIP text encoder; {TEXT}; transformers names; "
    "695 M parameters, bf16, 1.39 GB",
    "image_encoder_clip_l_vision": f"a CLIP image encoder; {IMAGE}; transformers names; "
    "304 M parameters, bf16, 608 MB",
    "diffusers_vqgan": f"a Stage A; {CONFIG_A}; diffusers names; 18.4 M parameters, fp32, 73.6 MB",
    "diffusers_decoder": f"a Stage B; {CONFIG_B}; diffusers names; 1.56 B parameters, fp32, 6.25 GB",
    "diffusers_decoder_lite": f"a Stage B; {CONFIG_B_LITE}; diffusers names; 699 M parameters, fp32, 2.8 GB",
    "diffusers_prior": f"a Stage C; {CONFIG_C}; diffusers names; 3.59 B parameters, fp32, 14.4 GB",
    "diffusers_prior_lite": f"a Stage C; {CONFIG_C_LITE}; diffusers names; 1.03 B parameters, fp32, 4.12 GB",
    "comfyui_stable_cascade_stage_b": "an all-in-one Stage B checkpoint; "
    f"Stage B: 1.56 B parameters, {CONFIG_B}; Stage A: 18.4 M parameters, {CONFIG_A}; "
    f"CLIP text encoder: 695 M parameters, {TEXT}; ComfyUI names; 2.28 B parameters, bf16 + fp16, 4.55 GB",
    "comfyui_stable_cascade_stage_c": "an all-in-one Stage C checkpoint; "
    f"Stage C: 3.59 B parameters, {CONFIG_C}; "
    "semantic encoder: 20.2 M parameters, 6 stages, 1280 wide, 16 channels; "
    "Stage C previewer: 3.98 M parameters, 9 convolutions, 16 channels; "
    f"CLIP text encoder: 695 M parameters, {TEXT}; CLIP image encoder: 304 M parameters, {IMAGE}; "
    "ComfyUI names; 4.61 B parameters, bf16 + fp16, 9.22 GB",
    "controlnet_canny": "a Stage C ControlNet (canny); feeds 8 blocks of a Stage C 2048 wide; "
    "Stability names; 54.3 M parameters, fp32, 218 MB",
    "controlnet_inpainting": "a Stage C ControlNet (inpainting); feeds 8 blocks of a Stage C 2048 wide; "
    "Stability names; 54.3 M parameters, fp32, 218 MB",
    "controlnet_super_resolution": "a Stage C ControlNet (super-resolution); "
    "feeds 8 blocks of a Stage C 2048 wide; Stability names; 203 M parameters, fp32, 814 MB",
    "controlnet_face_identity": "a Stage C ControlNet (identity); feeds 64 blocks of a Stage C 2048 wide; "
    "Stability names; 103 M parameters, fp32, 411 MB",
    "lora_stability_stage_c_lite_rank4": "a LoRA for Stage C; rank 4, 64 weights; Stability names; "
    "1.18 M parameters, fp32, 4.72 MB",
    "lora_stability_stage_c_full_rank4": "a LoRA for Stage C; rank 4, 128 weights; Stability names; "
    "3.15 M parameters, fp32, 12.6 MB",
    "lora_onetrainer_stage_c_lite_rank4": "a LoRA for Stage C; rank 4, 321 weights; OneTrainer names; "
    "4.53 M parameters, fp32, 18.1 MB",
    "lora_kohya_stage_c_lite_rank4": "a LoRA for Stage C; rank 4, 519 weights; kohya names; "
    "8.2 M parameters, fp32, 32.8 MB",
    "lora_diffusers_peft_prior_lite_rank4": "a LoRA for Stage C; rank 4, 128 weights; diffusers names; "
    "1.57 M parameters, fp32, 6.29 MB",
    "lora_loha_stage_c_lite_rank4": "a LyCORIS LoHa for Stage C; rank 4, 128 weights; kohya names; "
    "3.15 M parameters, fp32, 12.6 MB",
    "lora_lokr_stage_c_lite_rank4": "a LyCORIS LoKr for Stage C; rank 4, 128 weights; kohya names; "
    "180 k parameters, fp32, 721 kB",
}


@pytest.mark.parametrize("name", names())
def test_released_file_gives_its_line(tmp_path, name):
    path = write_sparse(tmp_path / f"{name}.safetensors", tensors(name))
    assert report(path).line == f"`{name}.safetensors` is {LINES[name]}"


def test_json_of_a_released_file_says_every_size(tmp_path):
    path = write_sparse(tmp_path / "a.safetensors", tensors("stage_b_lite"), {"note": "mine"})
    found = json.loads(json.dumps(report(path).as_json()))
    assert found["part"] == "stage_b"
    assert found["parameters"] == 699_471_248
    assert found["precisions"] == {"F32": 4 * 699_471_248}
    assert found["metadata"] == {"note": "mine"}
    assert [level["width"] for level in found["parts"][0]["sizes"]["trunk"]["down"]] == [320, 576, 1152, 1152]


@pytest.mark.parametrize("prefix", ["module.", "_orig_mod.", "model.", "module._orig_mod.model."])
def test_prefix_is_told(tmp_path, prefix):
    held = {prefix + key: value for key, value in tensors("stage_c_lite").items()}
    found = report(write_sparse(tmp_path / "a.safetensors", held))
    assert found.prefix == prefix
    assert found.layout == "Stability"
    assert found.details == f"{CONFIG_C_LITE}; every name under {prefix}"


def test_diffusion_model_alone_has_comfyuis_names(tmp_path):
    held = {f"model.diffusion_model.{key}": value for key, value in tensors("stage_c_lite").items()}
    found = report(write_sparse(tmp_path / "a.safetensors", held))
    assert (found.part, found.layout, found.details) == (Part.STAGE_C, "ComfyUI", CONFIG_C_LITE)


@pytest.mark.parametrize(("dtype", "said"), [("F8_E4M3", "fp8 e4m3"), ("F8_E5M2", "fp8 e5m2")])
@pytest.mark.parametrize("scale", [None, "scale_weight", "weight_scale"])
def test_eight_bits_are_told_with_their_scales(tmp_path, dtype, said, scale):
    held = {
        key: (dtype if key.endswith("weight") else "BF16", shape)
        for key, (_, shape) in tensors("stage_b_lite").items()
    }
    if scale:
        held["up_blocks.0.0.channelwise.0." + scale] = ("F32", ())
    found = report(write_sparse(tmp_path / "a.safetensors", held))
    assert found.precision.startswith(f"{said} + bf16")
    assert found.precision.endswith("with scales") == found.scaled == bool(scale)


def test_part_that_lacks_weights_says_so(tmp_path):
    held = {key: value for key, value in tensors("stage_b").items() if "up_blocks.3.0." not in key}
    assert "up_blocks.3 lacks blocks" in report(write_sparse(tmp_path / "a.safetensors", held)).details
    del (held := tensors("stage_c_lite"))["clip_txt_pooled_mapper.weight"]
    found = report(write_sparse(tmp_path / "a.safetensors", held))
    assert found.details == "incomplete, as it lacks clip_txt_pooled_mapper.weight"


def test_hostile_metadata_stays_on_its_line(tmp_path):
    held = tensors("previewer")
    path = write_sparse(tmp_path / "a.safetensors", held, {"a\nb": "\x1b[2J\ud800" + "x" * 9999})
    found = report(path)
    assert found.text.count("\n") == len(
        report(write_sparse(tmp_path / "b.safetensors", held)).text.split("\n")
    )
    assert "\x1b" not in found.text
    found.text.encode()
    json.dumps(found.as_json()).encode()


def test_metadata_that_makes_no_sense_is_a_problem_of_its_part(tmp_path):
    held = tensors("stage_c_lite")
    found = report(write_sparse(tmp_path / "a.safetensors", held, {"cascade.head_dim": "many"}))
    assert "cascade.head_dim = 'many'" in found.details
    assert found.parts[0].config is None


LORAS = {
    ("diffusion_model.down_blocks.0.2.attention.attn.to_q.lora_A.weight", (4, 64)): (
        "a LoRA for Stage C", "ComfyUI"),
    ("prior.down_blocks.0.2.attention.to_q.lora_A.weight", (4, 64)): ("a LoRA for Stage C", "diffusers"),
    ("base_model.model.up_blocks.0.2.attention.to_q.lora_A.weight", (4, 64)): (
        "a LoRA for Stage C", "diffusers"),
    ("lora_prior_prior_down_blocks_0_2_attention_to_q.lora_down.weight", (4, 64)): (
        "a LoRA for Stage C", "OneTrainer"),
    ("lora_prior_te_text_model_encoder_layers_0_mlp_fc1.lora_down.weight", (4, 64)): (
        "a LoRA for a text encoder", "OneTrainer"),
    ("lora_unet_down_blocks_3_2_attention_attn_to_q.lora_down.weight", (4, 64)): (
        "a LoRA for Stage B", "kohya"),
    ("lora_unet_down_blocks_0_0_channelwise_0.oft_blocks", (4, 64, 64)): (
        "a LyCORIS OFT for Stage C", "kohya"),
    ("lora_unet_down_blocks_0_0_channelwise_0.dora_scale", (4, 1)): ("a DoRA for Stage C", "kohya"),
    ("lycoris_down_blocks_0_0_channelwise_0.lora_down.weight", (4, 4, 3, 3)): (
        "a LyCORIS LoCon for Stage C", "LyCORIS"),
    ("diffusion_model.down_blocks.0.0.channelwise.0.diff", (4, 4)): (
        "a full difference for Stage C", "ComfyUI"),
    ("lora_unet_down_blocks_0_attentions_0_transformer_blocks_0_attn2_to_k.lora_down.weight", (4, 768)): (
        "a LoRA of SD 1.5", "kohya"),
    ("lora_unet_input_blocks_4_1_transformer_blocks_0_attn2_to_k.lora_down.weight", (4, 2048)): (
        "a LoRA of SDXL", "kohya"),
    ("lora_unet_double_blocks_0_img_attn_proj.lora_down.weight", (4, 64)): ("a LoRA of Flux", "kohya"),
    ("transformer.blocks.0.attention.to_q.lora_A.weight", (4, 64)): ("a LoRA of Würstchen v2", "diffusers"),
}  # fmt: skip


@pytest.mark.parametrize(("entry", "expected"), LORAS.items())
def test_adapter_is_told_by_target_method_and_dialect(tmp_path, entry, expected):
    name, shape = entry
    found = report(write_sparse(tmp_path / "a.safetensors", {name: ("F32", shape)}))
    assert (found.what, found.layout) == expected
    assert found.adapter.count == 1


def test_controlnet_of_an_unknown_kind_is_told_by_its_channels(tmp_path):
    held = dict(tensors("controlnet_canny"))
    held["backbone.0.0.weight"] = ("F32", (24, 7, 3, 3))
    found = report(write_sparse(tmp_path / "a.safetensors", held))
    assert found.what == "a Stage C ControlNet (unknown, of 7 input channels)"


def test_controlnet_that_says_what_it_follows_is_called_so(tmp_path):
    held = tensors("controlnet_canny")
    found = report(write_sparse(tmp_path / "a.safetensors", held, {"cascade.kind": "qr codes"}))
    assert found.what == "a Stage C ControlNet (qr codes)"
    assert found.as_json()["parts"][0]["sizes"] == {"count": 8, "width": 2048}


WORDS = {Layout.STABILITY: "Stability", Layout.DIFFUSERS: "diffusers", Layout.COMFYUI: "ComfyUI"}
DTYPES = {torch.float32: "fp32", torch.float16: "fp16", torch.bfloat16: "bf16"}


def layout_in_words(part, layout, config):
    """What a reader can tell of a layout from a part's names."""
    if part in (Part.STAGE_B, Part.STAGE_C):
        return WORDS[layout]
    if part in (Part.TEXT_ENCODER, Part.IMAGE_ENCODER):
        return "transformers"
    renamed = part is Part.STAGE_A and config.codebook_size and layout is Layout.DIFFUSERS
    return "diffusers" if renamed else "Stability"


@settings(
    max_examples=30,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(parts(), st.sampled_from(list(Layout)), st.sampled_from(list(DTYPES)))
def test_what_is_written_is_what_is_read(tmp_path, written, layout, dtype):
    part, config, weights, metadata = written
    save(tmp_path / "a.safetensors", part, weights, layout=layout, dtype=dtype, metadata=metadata)
    found = report(tmp_path / "a.safetensors")
    assert found.part is part
    assert [one.config for one in found.parts] == [config]
    assert found.layout == layout_in_words(part, layout, config)
    assert found.precision == DTYPES[dtype]
    assert found.metadata == metadata | {"format": "pt"}
