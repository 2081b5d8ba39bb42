"""Loaders: what they offer, and what they say about files they cannot load."""

import os
import pickle
import shutil
from pathlib import Path

import pytest
import tiny_cascade
import torch
from safetensors.torch import save_file

LOADERS = {
    "stage_a": "CascadeLoadStageA",
    "stage_b": "CascadeLoadStageB",
    "stage_c": "CascadeLoadStageC",
    "text_encoder": "CascadeLoadTextEncoder",
    "image_encoder": "CascadeLoadImageEncoder",
    "semantic_encoder": "CascadeLoadSemanticEncoder",
}


def extra(part, previewer="none"):
    return {"previewer": previewer} if part == "semantic_encoder" else {}


@pytest.mark.parametrize("part", LOADERS)
def test_loader_loads_a_file_of_its_folder(pack, folders, tiny_files, part):
    folders(part, tiny_files[part], f"{part}_here.safetensors")
    assert pack[LOADERS[part]](file=f"{part}_here.safetensors", **extra(part))[0] is not None


@pytest.mark.parametrize("part", LOADERS)
def test_small_cascade_is_offered_first_where_it_ships(comfy_nodes, folders, tiny_files, part, monkeypatch):
    from comfyui_cascade.nodes import NODE_CLASS_MAPPINGS
    from comfyui_cascade.nodes.host import files

    folders(part, tiny_files[part], "another.safetensors")
    node = NODE_CLASS_MAPPINGS[LOADERS[part]]
    for there, expected in ((True, "small cascade"), (False, "another.safetensors")):
        path = tiny_files[part] if there else Path("nowhere")
        monkeypatch.setattr(files.embedded, "path", lambda _, path=path: path)
        options = node.define_schema().inputs[0].options
        assert options[0] == expected
        assert "another.safetensors" in options


@pytest.mark.parametrize("part", LOADERS)
def test_loader_loads_the_small_cascade(pack, tiny_files, part, monkeypatch):
    from comfyui_cascade.nodes.host import files

    monkeypatch.setattr(files.embedded, "path", lambda name: tiny_files[name])
    assert pack[LOADERS[part]](file="small cascade", **extra(part, "small cascade"))[0] is not None


def test_replaced_file_is_loaded_again(comfy_nodes, folders, tiny_files):
    from comfyui_cascade.nodes.load import CascadeLoadSemanticEncoder, CascadeLoadStageC

    path = folders("stage_c", tiny_files["stage_c"], "changing.safetensors")
    before = CascadeLoadStageC.fingerprint_inputs(file="changing.safetensors")
    assert before == CascadeLoadStageC.fingerprint_inputs(file="changing.safetensors")
    os.utime(path, ns=(1, 1))
    assert before != CascadeLoadStageC.fingerprint_inputs(file="changing.safetensors")
    folders("previewer", tiny_files["previewer"], "drawer.safetensors")
    folders("semantic_encoder", tiny_files["semantic_encoder"], "coder.safetensors")
    assert len(CascadeLoadSemanticEncoder.fingerprint_inputs("coder.safetensors", "drawer.safetensors")) == 2


def wrong_files(folder, tiny_files):
    """Files that no Stage C loader can take, each with a part of what it says."""
    stage_c = Path(tiny_files["stage_c"]).read_bytes()
    sdxl = {
        "model.diffusion_model.label_emb.0.0.weight": torch.zeros(1),
        "conditioner.embedders.0.x": torch.zeros(1),
    }
    broken = {k: v.contiguous() for k, v in tiny_cascade.networks()["stage_c"].state_dict().items()}
    short = {k: v for k, v in broken.items() if k != "clf.1.bias"}
    bare = {k: v for k, v in broken.items() if k != "up_blocks.1.2.kv_mapper.1.weight"}
    torn = {k: v for k, v in broken.items() if k != "down_blocks.0.0.depthwise.bias"}
    bent = broken | {"clip_txt_mapper.bias": torch.zeros(7)}
    cases = {
        "stage_b": (tiny_files["stage_b"], "use Load Stage B"),
        "text_encoder": (tiny_files["text_encoder"], "use Load Text Encoder"),
        "sdxl": (sdxl, "SDXL"),
        "sd15": ({"model.diffusion_model.input_blocks.0.0.weight": torch.zeros(1)}, "SD 1.5"),
        "pickle": (pickle.dumps({"a": 1}), "pickle"),
        "zipped pickle": (b"PK\x03\x04" + bytes(600), "pickle"),
        "empty": (b"", "is empty"),
        "cut": (stage_c[: len(stage_c) // 2], "is cut short"),
        "cut in the header": (stage_c[:100], "is cut short"),
        "lacking a weight": (short, "lacks clf.1.bias"),
        "lacking part of a block": (bare, "up_blocks.1.2 is no block"),
        "lacking a size": (torn, "lacks down_blocks.0.0.depthwise.bias"),
        "of a wrong shape": (bent, "has clip_txt_mapper.bias of shape"),
        "web page": (b"<!DOCTYPE html><html>", "web page"),
    }
    for name, (content, message) in cases.items():
        path = folder / f"{name}.safetensors"
        if isinstance(content, dict):
            save_file(content, path, {"cascade.head_dim": "16"})
        elif isinstance(content, bytes):
            path.write_bytes(content)
        else:
            shutil.copyfile(content, path)
        yield name, path, message


NAMES = [
    "stage_b", "text_encoder", "sdxl", "sd15", "pickle", "zipped pickle", "empty", "cut", "cut in the header",
    "lacking a weight", "lacking part of a block", "lacking a size", "of a wrong shape", "web page",
]  # fmt: skip


@pytest.mark.parametrize("name", NAMES)
def test_file_the_loader_cannot_take_ends_in_one_sentence(pack, folders, tiny_files, tmp_path, name):
    (path, message) = next((p, m) for n, p, m in wrong_files(tmp_path, tiny_files) if n == name)
    folders("stage_c", path, path.name)
    with pytest.raises(ValueError, match=message) as raised:
        pack["CascadeLoadStageC"](file=path.name)
    text = str(raised.value)
    assert path.name in text
    assert "\n" not in text


def test_previewer_of_the_small_cascade_goes_with_its_encoder_alone(pack):
    with pytest.raises(ValueError, match="does not understand the latents of `effnet_encoder"):
        pack["CascadeLoadSemanticEncoder"](file="effnet_encoder.safetensors", previewer="small cascade")


def test_parts_are_found_in_a_file_that_holds_several(pack, folders, tiny_files, tmp_path):
    from safetensors.torch import load_file

    prefixes = {
        "stage_c": "model.diffusion_model.",
        "text_encoder": "text_encoder.clip_g.transformer.",
        "semantic_encoder": "vae.encoder.",
        "previewer": "vae.previewer.",
        "image_encoder": "clip_l_vision.",
    }
    together = {
        prefix + key: value
        for part, prefix in prefixes.items()
        for key, value in load_file(tiny_files[part]).items()
    }
    path = tmp_path / "together.safetensors"
    save_file(
        together, path, tiny_cascade.metadata("semantic_encoder") | tiny_cascade.metadata("text_encoder")
    )
    for part, node in LOADERS.items():
        if part in prefixes:
            folders(part, path, "together.safetensors")
            assert (
                pack[node](file="together.safetensors", **extra(part, "together.safetensors"))[0] is not None
            )
