"""A training of no minutes, exported: files hold the trained weights and say what shapes cannot."""

import json

import pytest
import torch
from comfyui_cascade.checkpoints.header import read_header
from comfyui_cascade.checkpoints.identify import Part
from comfyui_cascade.checkpoints.open import load_part
from comfyui_cascade.checkpoints.recorded import Recorded
from comfyui_cascade.training import sizes
from comfyui_cascade.training.export import export
from comfyui_cascade.training.loop import averaged
from comfyui_cascade.training.show import draw_prompts
from comfyui_cascade.training.small import PARTS, Recipe
from comfyui_cascade.training.words import TOKEN_IDS
from comfyui_cascade.weights import PARTS as SHIPPED
from safetensors import safe_open

EXPORTED = {"stage_a", "stage_b", "stage_c", "semantic_encoder", "previewer", "text_encoder"}
LARGEST = 48 * 2**20
"""Bytes of all files together."""


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A recipe whose parts were all initialised and saved, on eight pictures."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("training")
    recipe = Recipe(folder, dict.fromkeys(PARTS, 0.0), lambda line: None, pictures=8)
    for train in PARTS.values():
        train(recipe)
    yield recipe
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def exported(trained):
    """The folder of exported files."""
    folder = trained.folder / "exported"
    written = export(trained, folder)
    assert set(written) == EXPORTED
    assert sum(written.values()) < LARGEST
    return folder


@pytest.mark.parametrize("part", sorted(EXPORTED))
def test_a_file_is_one_of_those_that_ship_and_opens_as_its_part(exported, part):
    assert part in SHIPPED
    network = load_part(exported / f"{part}.safetensors", Part(part))
    assert all(value.isfinite().all() for value in network.state_dict().values())


@pytest.mark.parametrize("part", ["stage_b", "stage_c"])
def test_a_file_holds_the_averaged_weights_in_half_precision(trained, exported, part):
    from comfyui_cascade.stage_b import StageB
    from comfyui_cascade.stage_c import StageC

    network = StageB(sizes.STAGE_B) if part == "stage_b" else StageC(sizes.STAGE_C)
    expected = averaged(trained.run(part, 0), network).state_dict()
    with safe_open(exported / f"{part}.safetensors", framework="pt") as file:
        assert set(file.keys()) == set(expected)
        for name, value in expected.items():
            assert torch.equal(file.get_tensor(name), value.bfloat16())


@pytest.mark.parametrize("part", sorted(EXPORTED))
def test_metadata_says_what_shapes_cannot(exported, part):
    metadata = read_header(exported / f"{part}.safetensors").metadata
    recorded = Recorded.from_metadata(metadata)
    assert recorded.part == part
    assert metadata["cascade.version"] == "1"
    assert set(json.loads(metadata["cascade.training"])) >= {"steps", "minutes"}
    if part in ("stage_b", "stage_c"):
        assert recorded.prediction == "velocity"
        assert recorded.head_dim == sizes.HEAD_WIDTH
        assert recorded.latent_rgb is not None
        assert len(recorded.latent_rgb.factors) == {"stage_b": 4, "stage_c": 16}[part]
    if part in ("stage_b", "stage_c", "semantic_encoder"):
        assert recorded.compression == pytest.approx(256 / 12, abs=1e-3)
    if part == "text_encoder":
        assert recorded.token_ids == TOKEN_IDS


def test_what_is_read_back_is_the_network_that_was_trained(exported):
    for part, config in (("stage_b", sizes.STAGE_B), ("stage_c", sizes.STAGE_C), ("stage_a", sizes.STAGE_A)):
        loaded = load_part(exported / f"{part}.safetensors", Part(part)).config
        assert (loaded.trunk if hasattr(loaded, "trunk") else loaded) == (
            config.trunk if hasattr(config, "trunk") else config
        )


def test_exported_files_draw_pictures(exported):
    pictures = draw_prompts(exported, ["two red cats on the snow"], seed=1, cfg=3.0)
    assert pictures.shape == (1, 256, 256, 3)
    assert pictures.isfinite().all()


def test_the_same_seed_draws_the_same_picture(exported):
    first, second = (draw_prompts(exported, ["a blue boat on the sea"], seed=4, cfg=1.0) for _ in range(2))
    assert torch.equal(first, second)
