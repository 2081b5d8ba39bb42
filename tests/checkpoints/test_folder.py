import json
import shutil

import pytest
import torch
from comfyui_cascade.checkpoints.folder import networks_in, read_checkpoint
from comfyui_cascade.checkpoints.identify import Part, expect
from comfyui_cascade.checkpoints.layout import to_native
from comfyui_cascade.checkpoints.open import load_part, read_weights
from comfyui_cascade.checkpoints.report import report
from comfyui_cascade.weights import path as embedded
from safetensors.torch import load_file, save_file

NAME = "diffusion_pytorch_model"


@pytest.fixture
def sharded(tmp_path):
    """The small Stage C in three files with an index, as diffusers cuts large ones."""
    weights = load_file(embedded("stage_c"))
    folder = tmp_path / "prior"
    folder.mkdir()
    places = {key: f"{NAME}-{i % 3 + 1:05d}-of-00003.safetensors" for i, key in enumerate(weights)}
    for place in set(places.values()):
        save_file({key: weights[key] for key in weights if places[key] == place}, folder / place)
    index = {"metadata": {"total_size": 0}, "weight_map": places}
    (folder / f"{NAME}.safetensors.index.json").write_text(json.dumps(index))
    config = {"block_out_channels": [128, 128], "num_attention_heads": [4, 4]}
    (folder / "config.json").write_text(json.dumps(config))
    return folder


def message(path):
    with pytest.raises(ValueError, match=r"\A`") as caught:
        read_checkpoint(path)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def change_index(folder, change):
    index = folder / f"{NAME}.safetensors.index.json"
    table = json.loads(index.read_text())
    change(table)
    index.write_text(json.dumps(table))


def test_sharded_folder_holds_what_one_file_holds(sharded):
    weights = to_native(load_file(embedded("stage_c")))
    found = read_weights(Part.STAGE_C, expect(sharded, Part.STAGE_C))
    assert found.keys() == weights.keys()
    assert all(torch.equal(found[key], weights[key]) for key in weights)


def test_sharded_folder_is_told_as_a_whole(sharded):
    found = report(sharded)
    assert (found.file, found.part, found.files) == ("prior", Part.STAGE_C, 3)
    assert "in 3 files" in found.line


def test_width_of_heads_comes_from_the_configuration(sharded):
    assert load_part(sharded, Part.STAGE_C).config.trunk.head_width == 32


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        ({"block_out_channels": [320, 576, 1152, 1152], "num_attention_heads": [0, 9, 18, 18]}, {}),
        (
            {
                "block_out_channels": [64, 64],
                "num_attention_heads": [64, 2],
                "block_types_per_layer": [["SDCascadeResBlock"], ["SDCascadeAttnBlock"]],
            },
            {"cascade.head_dim": "32"},
        ),
        ({"hidden_size": 128, "num_attention_heads": 4}, {"cascade.head_dim": "32"}),
        ({"hidden_size": "wide", "num_attention_heads": 4}, {}),
        ({"block_out_channels": [64, 128], "num_attention_heads": [1, 4]}, {"cascade.head_dim": "32"}),
        ({"block_out_channels": [64, 128], "num_attention_heads": [4, 4]}, {}),
        ({"block_out_channels": 7, "num_attention_heads": []}, {}),
    ],
)
def test_configuration_tells_heads_where_they_are_unusual_and_equal(tmp_path, config, expected):
    save_file({"a": torch.zeros(1)}, tmp_path / "model.safetensors")
    (tmp_path / "config.json").write_text(json.dumps(config))
    assert read_checkpoint(tmp_path).metadata == expected


def test_plain_file_goes_before_its_variant(tmp_path):
    for name in ("model.bf16.safetensors", "model.safetensors"):
        save_file({name: torch.zeros(1)}, tmp_path / name)
    assert list(read_checkpoint(tmp_path).tensors) == ["model.safetensors"]
    (tmp_path / "model.safetensors").unlink()
    assert list(read_checkpoint(tmp_path).tensors) == ["model.bf16.safetensors"]


def test_folder_of_several_models_asks_for_one(tmp_path):
    for name in ("one", "two"):
        save_file({"a": torch.zeros(1)}, tmp_path / f"{name}.safetensors")
    assert "is a folder of 2 models (one, two); choose one" in message(tmp_path)
    assert networks_in(tmp_path) == [tmp_path / "one.safetensors", tmp_path / "two.safetensors"]


def test_folder_without_safetensors_says_what_it_holds(tmp_path):
    assert "(it holds nothing)" in message(tmp_path)
    (tmp_path / "model.bin").touch()
    assert "(it holds model.bin)" in message(tmp_path)


def test_pipeline_is_its_networks(tmp_path, sharded):
    shutil.copytree(sharded, tmp_path / "pipeline" / "prior")
    (tmp_path / "pipeline" / "scheduler").mkdir()
    (tmp_path / "pipeline" / "scheduler" / "config.json").write_text("{}")
    assert networks_in(tmp_path / "pipeline") == [tmp_path / "pipeline" / "prior"]
    assert networks_in(sharded) == [sharded]


def test_missing_shard_is_named(sharded):
    (sharded / f"{NAME}-00002-of-00003.safetensors").unlink()
    assert f"`prior` lacks {NAME}-00002-of-00003.safetensors, one of 3 files" in message(sharded)


@pytest.mark.parametrize("place", ["../a.safetensors", "/etc/passwd", "a\\b", "", "..", "a\0b"])
def test_index_leads_nowhere_else(sharded, place):
    change_index(sharded, lambda table: table["weight_map"].update(x=place))
    text = message(sharded)
    assert "outside the folder" in text or "lacks" in text


@pytest.mark.parametrize(
    "text", ["", "[", "[]", "7", '{"weight_map": 3}', '{"weight_map": {"a": 3}}', "[" * 10**5]
)
def test_index_that_cannot_be_read_is_said_to_be_so(sharded, text):
    (sharded / f"{NAME}.safetensors.index.json").write_text(text)
    assert "index" in message(sharded)


def test_weight_in_two_files_is_refused(sharded):
    files = sorted(sharded.glob("*.safetensors"))
    shutil.copyfile(files[0], files[1])
    assert "in two of its files" in message(sharded)
