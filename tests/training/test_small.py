"""The small cascade's runs, one after the other, and the files that ship."""

import pytest
import tiny_controlnet
import tiny_runs
import torch
from comfyui_cascade.adapters.controlnet import load_controlnet
from comfyui_cascade.checkpoints.header import read_header
from comfyui_cascade.checkpoints.open import load_part
from comfyui_cascade.training import small
from comfyui_cascade.training.small import export, train_small


@pytest.fixture
def tiny_recipes(tmp_path, monkeypatch):
    """Tiny recipes in place of the shipped ones, whose companions are in the folders of their runs."""
    folder = tmp_path / "recipes"
    folder.mkdir()
    for part in tiny_runs.NETWORKS:
        companions = {
            name: f"{'semantic_encoder' if name == 'previewer' else name}/{name}.safetensors"
            for name in tiny_runs.recipe(part)["companions"]
        }
        network = tiny_runs.NETWORKS[part]
        if part == "stage_c":
            network = network | {"c_image": tiny_runs.NETWORKS["image_encoder"]["channels"]}
        table = tiny_runs.recipe(part, schedule={"steps": 2}, companions=companions, network=network)
        (folder / f"{part}.toml").write_text(tiny_runs.toml(table))
    monkeypatch.setattr(small, "RECIPES", folder)


def test_the_small_cascade_trains_from_nothing_to_the_files_that_ship(tiny_recipes, tmp_path):
    said = []
    train_small(small.ORDER, tmp_path / "runs", None, "cpu", said.append)
    sizes = export(tmp_path / "runs", tmp_path / "shipped")
    assert set(sizes) == set(small.SHIPPED)
    for part, size in sizes.items():
        path = tmp_path / "shipped" / f"{part.value}.safetensors"
        assert path.stat().st_size == size
        network = load_part(path, part)
        assert {v.dtype for v in network.state_dict().values() if v.is_floating_point()} == {torch.bfloat16}
        assert read_header(path).metadata["cascade.part"] == part.value


def test_a_limit_of_minutes_stops_the_small_cascade_and_says_so(tiny_recipes, tmp_path):
    said = []
    train_small(small.ORDER, tmp_path, 0.0, "cpu", said.append)
    assert said[-1] == "stage_a: stopped at step 1 of 2; the same command goes on"
    assert not (tmp_path / "semantic_encoder").exists()
    train_small(small.ORDER[:1], tmp_path, None, "cpu", said.append)
    assert "stage_a: going on from step 1" in said


def test_controlnets_ship_in_bf16_beside_the_parts(tmp_path):
    source = tmp_path / "runs" / "controlnet_canny" / "controlnet_canny.safetensors"
    source.parent.mkdir(parents=True)
    tiny_controlnet.write(tmp_path, "canny").rename(source)
    assert export(tmp_path / "runs", tmp_path / "shipped") == {}
    network = load_controlnet(tmp_path / "shipped" / source.name)
    assert network.config == tiny_controlnet.CONFIGS["canny"]
    kinds = {value.dtype for value in network.state_dict().values()}
    assert kinds == {torch.bfloat16, torch.int64}
