"""The distances of styles: nothing between pictures of one style, a lot between two, whatever is drawn."""

import numpy as np
import pytest
import tiny_cascade
import torch
from comfyui_cascade.benchmarks.style import gram_distance, measure, palette_distance
from comfyui_cascade.training.picturebook import draw, fresh_scenes
from comfyui_cascade.training.picturebook.styles import STYLES
from comfyui_cascade.training.workspace import to_images
from safetensors.torch import save_file

SHAPE = (6, 3, 8, 8)


@pytest.fixture(scope="module")
def true():
    """Plain pictures and cyanotypes of other scenes each."""
    pictures = [draw(scene, (96, 96)).picture for scene in fresh_scenes(16)]
    blue = [STYLES["cyanotype"](picture) for picture in pictures]
    plain, cyanotypes = (to_images(np.stack(made)) for made in (pictures, blue))
    return {
        "plain": plain[:8],
        "cyanotype": cyanotypes[:8],
        "other plain": plain[8:],
        "other cyanotype": cyanotypes[8:],
    }


def test_palettes_are_apart_by_how_far_colours_move():
    grey = torch.full(SHAPE, 0.5)
    assert palette_distance(grey, grey) == 0
    assert palette_distance(torch.zeros(SHAPE), torch.ones(SHAPE)) == pytest.approx(1)
    assert palette_distance(grey, grey + 0.1) == pytest.approx(0.1, abs=1e-5)


def test_palette_does_not_know_what_is_where():
    image = torch.rand(SHAPE, generator=torch.Generator().manual_seed(0))
    assert palette_distance(image, image.flip(-1)) == 0


@pytest.mark.parametrize("kind", ["palette", "gram"])
def test_cyanotypes_are_nearer_to_cyanotypes_of_other_scenes_than_pictures_are(true, kind):
    encoder = tiny_cascade.networks()["semantic_encoder"]
    measured = {
        "palette": palette_distance,
        "gram": lambda *images: gram_distance(encoder, *images),
    }[kind]
    before = measured(true["plain"], true["other cyanotype"])
    after = measured(true["cyanotype"], true["other cyanotype"])
    assert after < 0.6 * before
    assert measured(true["plain"], true["other plain"]) < measured(true["cyanotype"], true["other plain"])


def test_strengths_of_a_lora_are_measured_from_the_same_noise(tmp_path):
    tiny_cascade.write(tmp_path)
    up, down = torch.zeros(32, 4), torch.zeros(4, 32)
    name = "lora_unet_down_blocks_0_2_attention_attn_to_q"
    lora = tmp_path / "nothing.safetensors"
    save_file({f"{name}.lora_up.weight": up, f"{name}.lora_down.weight": down}, lora)
    rows, pictures = measure(tmp_path, lora, "cyanotype", [0.0, 1.0], 1, 1.0, lambda line: None)
    assert torch.equal(pictures[0], pictures[1])
    assert rows[0] == rows[1] | {"strength": 0.0}
