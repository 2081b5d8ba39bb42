import json

import pytest
import tiny_cascade
import torch
from comfyui_cascade.checkpoints.convert import convert
from comfyui_cascade.checkpoints.diffusers_config import diffusers_config
from comfyui_cascade.checkpoints.header import read_header
from comfyui_cascade.checkpoints.identify import Part, find_parts
from comfyui_cascade.checkpoints.layout import Layout, native_shapes, to_native
from comfyui_cascade.checkpoints.open import NETWORKS, load_part
from comfyui_cascade.checkpoints.save import save
from comfyui_cascade.weights import path as embedded
from manifests import manifest
from random_weights import randomise
from safetensors.torch import load_file, save_file

WITH_C = ("stage_c", "semantic_encoder", "previewer", "text_encoder")
WITH_B = ("stage_b", "stage_a", "text_encoder")


def same_file(one, other):
    """Whether two files hold the same names, bits and metadata."""
    left, right = load_file(one), load_file(other)
    assert read_header(one).metadata == read_header(other).metadata
    assert left.keys() == right.keys()
    return all(left[key].dtype == right[key].dtype and torch.equal(left[key], right[key]) for key in left)


def through(layout, sources, names, folder):
    """The parts in files of a layout: one for all in ComfyUI's, else one for each."""
    if layout is Layout.COMFYUI:
        return convert(sources, folder / "all.safetensors", layout=layout, dtype=None)
    return [
        path
        for name in names
        for path in convert(
            sources, folder / f"{name}.safetensors", layout=layout, dtype=None, wanted=Part(name)
        )
    ]


@pytest.mark.parametrize("names", [WITH_C, WITH_B])
@pytest.mark.parametrize(
    "layouts",
    [(Layout.COMFYUI,), (Layout.DIFFUSERS,), (Layout.COMFYUI, Layout.DIFFUSERS, Layout.COMFYUI)],
    ids=lambda layouts: "-".join(layout.value for layout in layouts),
)
def test_small_cascade_returns_with_its_metadata_through_any_layout(tmp_path, names, layouts):
    sources = [embedded(name) for name in names]
    for number, layout in enumerate((*layouts, Layout.STABILITY)):
        (tmp_path / str(number)).mkdir()
        sources = through(layout, sources, names, tmp_path / str(number))
    for path in sources:
        straight = tmp_path / "straight.safetensors"
        convert([embedded(path.stem)], straight, layout=Layout.STABILITY, dtype=None)
        assert same_file(path, straight)


def test_folder_of_a_pipeline_returns_bit_for_bit(tmp_path):
    written = convert(
        [embedded(name) for name in WITH_C], tmp_path / "pipeline", layout=Layout.DIFFUSERS, dtype=None
    )
    assert [str(path.relative_to(tmp_path / "pipeline")) for path in written] == [
        "prior/diffusion_pytorch_model.safetensors",
        "prior/config.json",
        "semantic_encoder.safetensors",
        "previewer.safetensors",
        "text_encoder/model.safetensors",
        "text_encoder/config.json",
    ]
    convert([tmp_path / "pipeline"], tmp_path / "end", layout=Layout.STABILITY, dtype=None)
    for name in WITH_C:
        back, straight = (
            load_file(tmp_path / "end" / f"{name}.safetensors"),
            tmp_path / "straight.safetensors",
        )
        convert([embedded(name)], straight, layout=Layout.STABILITY, dtype=None)
        assert all(torch.equal(back[key], value) for key, value in load_file(straight).items())


def test_parts_of_one_file_are_found_where_comfyui_looks(tmp_path):
    out = tmp_path / "a.safetensors"
    convert([embedded(name) for name in WITH_C], out, layout=Layout.COMFYUI, dtype=None)
    assert find_parts(read_header(out).shapes) == {
        Part.STAGE_C: "model.diffusion_model.",
        Part.SEMANTIC_ENCODER: "vae.encoder.",
        Part.PREVIEWER: "vae.previewer.",
        Part.TEXT_ENCODER: "text_encoder.clip_g.transformer.",
    }


def test_part_opens_from_one_file_with_its_own_metadata(tmp_path):
    out = tmp_path / "a.safetensors"
    convert([embedded(name) for name in WITH_C], out, layout=Layout.COMFYUI, dtype=None)
    assert load_part(out, Part.STAGE_C).config.trunk.head_width == 32
    assert load_part(out, Part.TEXT_ENCODER).config.num_attention_heads == 2
    assert (
        load_part(out, Part.SEMANTIC_ENCODER).config
        == load_part(embedded("semantic_encoder"), Part.SEMANTIC_ENCODER).config
    )


@pytest.mark.parametrize("part", [Part.STAGE_B, Part.STAGE_C])
def test_diffusers_opens_the_folder(tmp_path, part):
    from diffusers.models import StableCascadeUNet

    config = {Part.STAGE_B: tiny_cascade.B, Part.STAGE_C: tiny_cascade.C}[part]
    ours = randomise(NETWORKS[part][0](config)).state_dict()
    metadata = {"cascade.head_dim": str(tiny_cascade.HEAD)}
    save(tmp_path / "a.safetensors", part, ours, layout=Layout.COMFYUI, dtype=None, metadata=metadata)
    convert([tmp_path / "a.safetensors"], tmp_path / "unet", layout=Layout.DIFFUSERS, dtype=None)
    theirs = StableCascadeUNet.from_pretrained(tmp_path / "unet", low_cpu_mem_usage=False)
    back = to_native(theirs.state_dict())
    assert back.keys() == ours.keys()
    assert all(torch.equal(back[key], ours[key]) for key in ours)
    assert theirs.config.num_attention_heads[-1] == 2


def test_transformers_opens_the_folder(tmp_path):
    from transformers import CLIPTextModelWithProjection

    convert([embedded("text_encoder")], tmp_path, layout=Layout.DIFFUSERS, dtype=torch.float32)
    theirs = CLIPTextModelWithProjection.from_pretrained(tmp_path).state_dict()
    ours = load_file(embedded("text_encoder"))
    assert all(torch.equal(theirs[key], ours[key].float()) for key in ours if "position_ids" not in key)


def test_stage_a_that_diffusers_has_no_network_for_is_refused_as_a_folder(tmp_path):
    with pytest.raises(ValueError, match=r"diffusers' network has .* write a single file"):
        convert([embedded("stage_a")], tmp_path / "out", layout=Layout.DIFFUSERS, dtype=None)
    assert not (tmp_path / "out").exists()
    convert([embedded("stage_a")], tmp_path / "a.safetensors", layout=Layout.DIFFUSERS, dtype=None)


def test_one_part_is_taken_out_of_a_file_with_several(tmp_path):
    whole, out = tmp_path / "a.safetensors", tmp_path / "b.safetensors"
    convert([embedded(name) for name in WITH_B], whole, layout=Layout.COMFYUI, dtype=None)
    convert([whole], out, layout=Layout.STABILITY, dtype=None, wanted=Part.TEXT_ENCODER)
    assert same_file(out, embedded("text_encoder"))


def test_precision_is_cast(tmp_path):
    out = tmp_path / "a.safetensors"
    convert([embedded("stage_c")], out, layout=Layout.STABILITY, dtype=torch.float16)
    assert {dtype for dtype, _ in read_header(out).tensors.values()} == {"F16"}


def test_file_may_be_converted_onto_itself(tmp_path):
    path = tmp_path / "a.safetensors"
    convert([embedded("stage_c")], path, layout=Layout.STABILITY, dtype=None)
    convert([path], path, layout=Layout.DIFFUSERS, dtype=None)
    assert find_parts(read_header(path).shapes) == {Part.STAGE_C: ""}
    assert any(".attention.to_q." in key for key in read_header(path).tensors)


def refused(tmp_path, sources, out, layout=Layout.STABILITY, **options):
    with pytest.raises(ValueError, match=r"\S") as caught:
        convert(sources, tmp_path / out, layout=layout, dtype=None, **options)
    assert not (tmp_path / out).exists()
    return str(caught.value)


def test_what_makes_no_sense_is_refused(tmp_path):
    lora = tmp_path / "lora.safetensors"
    save_file({"weights.0.lora_up": torch.ones(1)}, lora)
    b, c = embedded("stage_b"), embedded("stage_c")
    assert "`lora.safetensors` is a LoRA, and convert takes" in refused(tmp_path, [lora], "a.safetensors")
    assert "there is one already" in refused(tmp_path, [c, c], "a.safetensors")
    assert "do not go into one file" in refused(tmp_path, [b, c], "a.safetensors", Layout.COMFYUI)
    assert "only ComfyUI's layout has several parts" in refused(tmp_path, [b, c], "a.safetensors")
    assert "give a .safetensors file instead" in refused(tmp_path, [b, c], "a", Layout.COMFYUI)
    assert "no place to write to" in refused(tmp_path, [c], "a.ckpt")
    assert "do not hold a Stage A" in refused(tmp_path, [c], "a.safetensors", wanted=Part.STAGE_A)


def test_configuration_of_a_released_stage_is_the_published_one():
    config = NETWORKS[Part.STAGE_B][1].from_shapes(native_shapes(manifest("stage_b_lite")))
    found = json.loads(json.dumps(diffusers_config(Part.STAGE_B, config)))
    assert found == {
        "_class_name": "StableCascadeUNet", "in_channels": 4, "out_channels": 4,
        "timestep_ratio_embedding_dim": 64, "patch_size": 2, "conditioning_dim": 1280,
        "block_out_channels": [320, 576, 1152, 1152], "down_num_layers_per_block": [2, 4, 14, 4],
        "up_num_layers_per_block": [4, 14, 4, 2], "down_blocks_repeat_mappers": [1, 1, 1, 1],
        "up_blocks_repeat_mappers": [2, 2, 2, 2], "num_attention_heads": [0, 0, 18, 18],
        "block_types_per_layer": [["SDCascadeResBlock", "SDCascadeTimestepBlock"]] * 2
        + [["SDCascadeResBlock", "SDCascadeTimestepBlock", "SDCascadeAttnBlock"]] * 2,
        "clip_text_in_channels": None, "clip_text_pooled_in_channels": 1280,
        "clip_image_in_channels": None, "clip_seq": 4, "effnet_in_channels": 16,
        "pixel_mapper_in_channels": 3, "kernel_size": 3, "dropout": [0.0] * 4, "self_attn": True,
        "timestep_conditioning_type": ["sca"], "switch_level": None,
    }  # fmt: skip
