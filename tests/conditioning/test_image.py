import numpy
import pytest
import torch
from comfyui_cascade.checkpoints.layout import shapes
from comfyui_cascade.checkpoints.open import build
from comfyui_cascade.conditioning.image import ImageEncoderConfig, encode, image_encoder, preprocess
from random_weights import difference, randomise

SIZES = {
    "num_hidden_layers": 3, "hidden_size": 48, "num_attention_heads": 3, "intermediate_size": 100,
    "projection_dim": 20, "image_size": 28, "patch_size": 7, "hidden_act": "quick_gelu", "num_channels": 3,
    "model_type": "clip_vision_model",
}  # fmt: skip


@pytest.fixture(scope="module")
def host(comfy_nodes):
    from comfy.clip_vision import ClipVisionModel

    clip = ClipVisionModel(SIZES)
    randomise(clip.model.float())
    return clip


@pytest.fixture(scope="module")
def ours(host):
    weights = host.model.state_dict()
    config = ImageEncoderConfig.from_shapes(shapes(weights), {"cascade.head_dim": "16"})
    assert config == ImageEncoderConfig(48, 3, 100, 3, 7, 28, 20)
    return build(image_encoder, config, weights)


def pictures(height, width):
    # Whole steps of 1/255, because the host rounds to them.
    return torch.randint(0, 256, (2, 3, height, width), generator=torch.Generator().manual_seed(0)) / 255


def test_embedding_equals_the_hosts(host, ours):
    images = pictures(28, 28)
    with torch.inference_mode():
        theirs = host.encode_image(images.movedim(1, -1))["image_embeds"]
    assert difference(encode(ours, images), theirs) < 1e-4


@pytest.mark.parametrize(("height", "width"), [(40, 61), (28, 90), (10, 13)])
def test_preprocessing_equals_the_hosts_up_to_its_rounding(comfy_nodes, height, width):
    from comfy.clip_model import clip_preprocess

    images = pictures(height, width)
    theirs = clip_preprocess(images.movedim(1, -1), size=28)
    assert (preprocess(images, 28) - theirs).abs().max() < 0.51 / 255 / 0.26


def test_preprocessing_equals_transformers_up_to_rounding():
    from transformers import CLIPImageProcessorPil

    images = pictures(60, 91)
    processor = CLIPImageProcessorPil(size={"shortest_edge": 28}, crop_size={"height": 28, "width": 28})
    arrays = [(image.movedim(0, -1).numpy() * 255).round().astype(numpy.uint8) for image in images]
    theirs = processor(arrays, return_tensors="pt")["pixel_values"]
    assert (preprocess(images, 28) - theirs).abs().mean() < 1 / 255 / 0.26


def test_file_may_say_how_pictures_are_standardised(ours):
    entries = {
        "cascade.head_dim": "16",
        "cascade.image_mean": "[0.5, 0.25, 0]",
        "cascade.image_std": "[1, 2, 4]",
    }
    config = ImageEncoderConfig.from_shapes(shapes(ours.state_dict()), entries)
    assert (config.mean, config.std) == ((0.5, 0.25, 0.0), (1.0, 2.0, 4.0))
    network, images = image_encoder(config), pictures(28, 28)
    assert (network.mean, network.std) == (config.mean, config.std)
    changed = (images - torch.tensor(config.mean).view(3, 1, 1)) / torch.tensor(config.std).view(3, 1, 1)
    assert torch.allclose(preprocess(images, 28, config.mean, config.std), changed, atol=1e-6)


def test_standardisation_that_makes_no_sense_is_told(ours):
    with pytest.raises(ValueError, match="image_std = 'none', and a list of three numbers was expected"):
        ImageEncoderConfig.from_shapes(
            shapes(ours.state_dict()), {"cascade.head_dim": "16", "cascade.image_std": "none"}
        )
