import sys

import pytest
import torch
from comfyui_cascade.checkpoints.identify import LOADERS, NAMES, Part, describe, expect, find_parts, identify
from comfyui_cascade.checkpoints.layout import shapes
from manifests import manifest, names
from safetensors.torch import save_file

PARTS = {
    "stage_a": Part.STAGE_A,
    "stage_b": Part.STAGE_B,
    "stage_b_lite": Part.STAGE_B,
    "stage_c": Part.STAGE_C,
    "stage_c_lite": Part.STAGE_C,
    "effnet_encoder": Part.SEMANTIC_ENCODER,
    "previewer": Part.PREVIEWER,
    "text_encoder_clip_g": Part.TEXT_ENCODER,
    "image_encoder_clip_l_vision": Part.IMAGE_ENCODER,
    "diffusers_prior": Part.STAGE_C,
    "diffusers_prior_lite": Part.STAGE_C,
    "diffusers_decoder": Part.STAGE_B,
    "diffusers_decoder_lite": Part.STAGE_B,
    "diffusers_vqgan": Part.STAGE_A,
    "comfyui_stable_cascade_stage_b": Part.ALL_IN_ONE_B,
    "comfyui_stable_cascade_stage_c": Part.ALL_IN_ONE_C,
}

OTHERS = {
    Part.SD15: ("model.diffusion_model.input_blocks.0.0.weight", "cond_stage_model.transformer.text_model.x"),
    Part.SD2: ("model.diffusion_model.input_blocks.0.0.weight", "cond_stage_model.model.ln_final.weight"),
    Part.SDXL: (
        "model.diffusion_model.input_blocks.0.0.weight",
        "conditioner.embedders.0.x",
        "first_stage_model.x",
    ),
    Part.SD3: ("model.diffusion_model.joint_blocks.0.x_block.attn.qkv.weight", "first_stage_model.x"),
    Part.FLUX: ("double_blocks.0.img_attn.qkv.weight", "img_in.weight"),
    Part.OTHER_CONTROLNET: (
        "control_model.input_blocks.0.0.weight",
        "control_model.input_hint_block.0.weight",
    ),
    Part.OTHER_VAE: ("decoder.conv_in.weight", "encoder.conv_in.weight"),
    Part.T5: ("encoder.block.0.layer.0.SelfAttention.q.weight", "shared.weight"),
    Part.OPENCLIP: ("transformer.resblocks.0.ln_1.weight", "token_embedding.weight"),
    Part.ULTRAPIXEL: ("module.64.0.conv.weight", "module.65.1.conv.weight"),
    Part.HUNYUAN: ("txt_in.individual_token_refiner.blocks.0.norm1.weight", "double_blocks.0.img_attn.x"),
    Part.WAN: ("model.diffusion_model.head.modulation", "model.diffusion_model.blocks.0.self_attn.q.weight"),
    Part.PIXART: ("t_block.1.weight", "blocks.0.attn.qkv.weight"),
    Part.EMBEDDING: ("clip_g",),
    Part.OTHER_LORA: ("lora_unet_double_blocks_0_img_attn_proj.lora_up.weight",),
    Part.UNKNOWN: ("a", "b"),
}

OTHERS_OF_DIFFUSERS = {
    Part.FLUX: (
        "FluxTransformer2DModel",
        {"num_layers": 1, "num_single_layers": 1, "num_attention_heads": 1},
    ),
    Part.SD3: ("SD3Transformer2DModel", {"num_layers": 2}),
    Part.PIXART: ("PixArtTransformer2DModel", {"num_layers": 1}),
    Part.WAN: ("WanTransformer3DModel", {"num_layers": 1}),
    Part.HUNYUAN: (
        "HunyuanVideoTransformer3DModel",
        {"num_layers": 1, "num_single_layers": 1, "num_refiner_layers": 1},
    ),
    Part.SD15: ("UNet2DConditionModel", {"layers_per_block": 1}),
    Part.OTHER_CONTROLNET: ("ControlNetModel", {"layers_per_block": 1}),
    Part.OTHER_VAE: ("AutoencoderKL", {}),
    Part.WUERSTCHEN_C: ("WuerstchenPrior", {"c": 64, "c_cond": 64, "nhead": 4, "depth": 2}),
    Part.WUERSTCHEN_B: (
        "WuerstchenDiffNeXt",
        {
            "c_hidden": [16] * 4,
            "nhead": [-1, 1, 1, 1],
            "blocks": [1] * 4,
            "inject_effnet": [False] + [True] * 3,
        },
    ),
    Part.UNKNOWN: ("AuraFlowTransformer2DModel", {"num_mmdit_layers": 1, "num_single_dit_layers": 1}),
}


def kind_of(name):
    return Part(name.partition("_")[0]) if name.startswith(("lora", "controlnet")) else PARTS[name]


def message(path, part):
    with pytest.raises(ValueError, match=r"\A`") as caught:
        expect(path, part)
    return str(caught.value)


def save_keys(path, keys):
    save_file({key: torch.zeros(1) for key in keys}, path)
    return path


@pytest.mark.parametrize("name", names())
def test_released_file_is_recognised(name):
    assert identify(manifest(name)) is kind_of(name)


@pytest.mark.parametrize("name", [name for name in names() if not name.startswith("lora")])
@pytest.mark.parametrize("prefix", ["module.", "_orig_mod.", "model.diffusion_model."])
def test_wrapped_file_is_recognised(name, prefix):
    assert identify({prefix + key: shape for key, shape in manifest(name).items()}) is kind_of(name)


@pytest.mark.parametrize(("part", "keys"), OTHERS.items())
def test_other_model_is_recognised(part, keys):
    assert identify(dict.fromkeys(keys, (1,))) is part


@pytest.mark.parametrize(("part", "network"), OTHERS_OF_DIFFUSERS.items())
def test_network_of_diffusers_is_recognised(part, network):
    import diffusers

    name, sizes = network
    home = {"WuerstchenPrior": "WuerstchenPriorPipeline", "WuerstchenDiffNeXt": "WuerstchenDecoderPipeline"}
    module = sys.modules[getattr(diffusers, home[name]).__module__] if name in home else diffusers
    with torch.device("meta"):
        theirs = getattr(module, name)(**sizes)
    assert identify(shapes(theirs.state_dict())) is part


def test_all_in_one_files_hold_every_part_at_its_place():
    assert find_parts(manifest("comfyui_stable_cascade_stage_c")) == {
        Part.STAGE_C: "model.diffusion_model.",
        Part.SEMANTIC_ENCODER: "vae.encoder.",
        Part.PREVIEWER: "vae.previewer.",
        Part.TEXT_ENCODER: "text_encoder.clip_g.transformer.",
        Part.IMAGE_ENCODER: "clip_l_vision.",
    }


def test_every_part_has_a_name():
    assert set(NAMES) == set(Part)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("stage_b_lite", "a Stage B of 699 M parameters"),
        ("stage_c", "a Stage C of 3.59 B parameters"),
        ("stage_a", "a Stage A of 18.4 M parameters"),
    ],
)
def test_part_is_described_by_its_size(name, text):
    shapes = manifest(name)
    assert describe(identify(shapes), shapes) == text


def test_expect_returns_the_header_of_the_right_part(tmp_path):
    path = save_keys(
        tmp_path / "a.safetensors", ["in_block.1.weight", "out_block.0.weight", "up_blocks.0.0.weight"]
    )
    assert "in_block.1.weight" in expect(path, Part.STAGE_A).shapes


def test_wrong_stage_is_told_its_own_node(tmp_path):
    keys = ["effnet_mapper.0.weight", "pixels_mapper.0.weight", "clf.1.weight"]
    path = save_keys(tmp_path / "stage_b_lite_bf16.safetensors", keys)
    text = message(path, Part.STAGE_C)
    assert text == (
        "`stage_b_lite_bf16.safetensors` is a Stage B of 3 parameters, and a Stage C was expected; "
        "use Load Stage B (Cascade), or choose a Stage C here"
    )


def test_model_of_another_family_is_named(tmp_path):
    path = save_keys(tmp_path / "x.safetensors", OTHERS[Part.SDXL])
    assert message(path, Part.STAGE_C) == (
        "`x.safetensors` is an SDXL checkpoint, not part of Stable Cascade; "
        "choose a Stage C, such as stage_c_bf16.safetensors"
    )


def test_unknown_file_is_described_by_its_first_names(tmp_path):
    assert "(its first names: a, b)" in message(
        save_keys(tmp_path / "x.safetensors", ["a", "b"]), Part.STAGE_A
    )


def test_file_without_tensors_is_refused(tmp_path):
    save_file({}, tmp_path / "x.safetensors")
    assert "first names: none" in message(tmp_path / "x.safetensors", Part.STAGE_A)


@pytest.mark.parametrize("wanted", [part for part in LOADERS if part in PARTS.values()])
@pytest.mark.parametrize(
    "found", [("in_block.1.weight", "out_block.0.weight", "up_blocks.0.0.weight"), *OTHERS.values()]
)
def test_every_wrong_file_gives_one_sentence(tmp_path, wanted, found):
    path = save_keys(tmp_path / "x.safetensors", found)
    if wanted is Part.STAGE_A and "in_block.1.weight" in found:
        return
    text = message(path, wanted)
    assert text.startswith("`x.safetensors` is ")
    assert "choose" in text
    assert "\n" not in text
