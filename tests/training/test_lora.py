"""Training a LoRA: only it changes, loaders take its file, and runs go on where they were stopped."""

import numpy as np
import pytest
import tiny_cascade
import tiny_runs
import torch
from comfyui_cascade.adapters.lora import fit, read_lora
from comfyui_cascade.checkpoints.header import read_header
from comfyui_cascade.checkpoints.layout import shapes
from comfyui_cascade.training.lora import low_rank_of
from comfyui_cascade.training.picturebook import draw, training_scene
from comfyui_cascade.training.picturebook.styles import STYLES
from comfyui_cascade.training.small import export
from safetensors.torch import load_file


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    """The tiny cascade, whose text encoder knows all words of the picture-book world, and its Stage C."""
    folder = tmp_path_factory.mktemp("base")
    tiny_cascade.write(folder)
    return folder


def changes(**more):
    return {
        "network": None,
        "start": "stage_c.safetensors",
        "companions": {
            "semantic_encoder": "semantic_encoder.safetensors",
            "text_encoder": "text_encoder.safetensors",
        },
        "data": {"style": "cyanotype"},
        "lora": {"rank": 4, "alpha": 2.0, "targets": [".attn."]},
        **more,
    }


def test_only_the_products_learn(base):
    task = tiny_runs.task("lora", base, **changes())
    learning = {name for name, parameter in task.network.named_parameters() if parameter.requires_grad}
    assert learning
    assert all(".lora_up." in name or ".lora_down." in name for name in learning)
    assert len(low_rank_of(task.network.stage_c)) == 16


def test_a_lora_that_has_learnt_nothing_changes_nothing(base):
    task = tiny_runs.task("lora", base, **changes())
    plain = load_file(base / "stage_c.safetensors")
    path = "down_blocks.0.2.attention.attn.to_q"
    assert torch.equal(task.network.stage_c.get_submodule(path).weight, plain[f"{path}.weight"])


def test_file_fits_the_stage_c_that_it_was_trained_on(base, tmp_path):
    done = tiny_runs.run("lora", base, tmp_path, **changes())
    path = done.files["lora_cyanotype"]
    file = read_lora(path)
    found = fit(file, shapes(load_file(base / "stage_c.safetensors")), None, "Stage C")
    assert (file.adapter.dialect, file.adapter.rank) == ("kohya", 4)
    assert len(found.changed) == 16
    assert found.unmatched == ()
    metadata = read_header(path).metadata
    assert metadata["cascade.style"] == "cyanotype"
    assert metadata["ss_network_dim"] == "4"
    changed = load_file(path)
    assert all(changed[name].abs().max() > 0 for name in changed if "lora_up" in name)


def test_stopped_run_ends_with_the_weights_of_one_that_ran_through(base, tmp_path):
    whole = tiny_runs.run("lora", base, tmp_path / "whole", **changes())
    assert not tiny_runs.run("lora", base, tmp_path / "parts", minutes=0.0, **changes()).finished
    parts = tiny_runs.run("lora", base, tmp_path / "parts", **changes())
    one, other = (load_file(done.files["lora_cyanotype"]) for done in (whole, parts))
    assert all(torch.equal(one[name], other[name]) for name in one)


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"start": "", "network": tiny_runs.NETWORKS["stage_c"]}, "name its file in start"),
        ({"lora": {"targets": ["attic"]}}, "no linear layer is called so"),
        ({"objective": {"reading": 0.1}}, "objective.reading to 0"),
    ],
)
def test_settings_that_cannot_be_are_refused(base, more, said):
    with pytest.raises(ValueError, match=said):
        tiny_runs.task("lora", base, **changes(**more))


@pytest.mark.parametrize("style", STYLES)
def test_style_keeps_the_size_repeats_and_changes_the_picture(style):
    picture = draw(training_scene(3), (128, 64)).picture
    before = picture.copy()
    styled = STYLES[style](picture)
    assert styled.shape == picture.shape
    assert styled.dtype == np.uint8
    assert np.array_equal(styled, STYLES[style](picture))
    assert np.array_equal(picture, before)
    assert np.abs(styled.astype(int) - picture).mean() > 10


def test_a_cyanotype_has_blues_and_white_alone():
    styled = STYLES["cyanotype"](draw(training_scene(3), (128, 128)).picture)
    red, green, blue = styled.astype(int).reshape(-1, 3).T
    assert (blue >= green).all()
    assert (green >= red).all()


def test_what_ships_is_the_same_in_bf16(base, tmp_path):
    tiny_runs.run("lora", base, tmp_path / "lora_cyanotype", **changes())
    export(tmp_path, tmp_path / "shipped")
    trained = load_file(tmp_path / "lora_cyanotype" / "lora_cyanotype.safetensors")
    shipped = load_file(tmp_path / "shipped" / "lora_cyanotype.safetensors")
    assert shipped.keys() == trained.keys()
    assert all(torch.equal(shipped[name], trained[name].bfloat16()) for name in trained)
    assert (
        read_header(tmp_path / "shipped" / "lora_cyanotype.safetensors").metadata["cascade.style"]
        == "cyanotype"
    )
