"""Our networks against those of diffusers, with random weights everywhere."""

import pytest
import torch
from comfyui_cascade.stage_a import StageA, StageAConfig
from comfyui_cascade.stage_b import StageB, StageBConfig
from comfyui_cascade.stage_c import StageC, StageCConfig
from diffusers.pipelines.deprecated.wuerstchen.modeling_paella_vq_model import PaellaVQModel
from diffusers_networks import decoder, prior
from native import native
from random_weights import difference, randomise, spread
from trunk_sizes import STAGE_B, STAGE_C, stage_b_inputs, stage_c_inputs

TOLERANCE = 3e-5  # fp32, relative to the largest value; measured: at most 2.7e-6

pytestmark = pytest.mark.usefixtures("no_gradients")


@pytest.fixture
def no_gradients():
    with torch.inference_mode():
        yield


def run_prior(reference, x, t, text, pooled, image):
    return reference(x, t, clip_text_pooled=pooled, clip_text=text, clip_img=image).sample


def run_c(ours, x, t, text, pooled, image):
    return ours(x, t, ours.tokens(text, pooled, image))


def run_decoder(reference, x, t, pooled, semantic):
    return reference(x, t, clip_text_pooled=pooled, effnet=semantic).sample


def run_b(ours, x, t, pooled, semantic):
    return ours(x, t, ours.tokens(pooled), ours.semantic_map(semantic, *x.shape[-2:]))


@pytest.mark.parametrize("size", STAGE_C.values(), ids=STAGE_C)
@pytest.mark.parametrize(("batch", "images"), [(2, 1), (3, 2)])
def test_stage_c_equals_the_prior(size, batch, images):
    reference = randomise(prior(size))
    ours = native(StageC, StageCConfig, reference, head_dim=size["head_dim"])
    inputs = stage_c_inputs(size, batch, images=images)
    error = difference(run_c(ours, *inputs), run_prior(reference, *inputs))
    assert error < TOLERANCE


@pytest.mark.parametrize("size", STAGE_B.values(), ids=STAGE_B)
@pytest.mark.parametrize(("height", "width"), [(26, 38), (32, 48)])
def test_stage_b_equals_the_decoder(size, height, width):
    reference = randomise(decoder(size))
    ours = native(StageB, StageBConfig, reference, head_dim=size["head_dim"])
    inputs = stage_b_inputs(size, 3, height, width)
    error = difference(run_b(ours, *inputs), run_decoder(reference, *inputs))
    assert error < TOLERANCE


def in_bf16(network, *inputs):
    x, t, *others = (tensor.bfloat16() for tensor in inputs)
    return network.bfloat16(), (x, t, *others)


@pytest.mark.parametrize(("side", "sizes"), [("c", STAGE_C), ("b", STAGE_B)])
def test_bf16_is_no_further_from_the_truth_than_the_reference(side, sizes):
    size = sizes["released form"]
    make, run_theirs, run_ours, classes, inputs = {
        "c": (prior, run_prior, run_c, (StageC, StageCConfig), stage_c_inputs(size)),
        "b": (decoder, run_decoder, run_b, (StageB, StageBConfig), stage_b_inputs(size)),
    }[side]
    rounded, inputs = in_bf16(randomise(make(size)), *inputs)
    ours = native(*classes, rounded, head_dim=size["head_dim"])
    x, t, *others = inputs
    theirs = run_theirs(rounded, *inputs)
    result = run_ours(ours, x, t.float(), *others)
    truth = run_theirs(rounded.float(), *(tensor.float() for tensor in inputs))
    assert result.dtype == torch.bfloat16
    assert spread(result, truth) < 1.5 * spread(theirs, truth) + 1e-3


@pytest.mark.parametrize(
    "arguments",
    [
        {"levels": 2, "bottleneck_blocks": 3, "embed_dim": 32},
        {"levels": 1, "bottleneck_blocks": 1, "embed_dim": 24},
        {"levels": 3, "bottleneck_blocks": 2, "embed_dim": 32, "latent_channels": 6},
    ],
)
def test_stage_a_equals_the_vqgan(arguments):
    reference = randomise(PaellaVQModel(num_vq_embeddings=16, **arguments))
    ours = native(StageA, StageAConfig, reference)
    images = torch.rand(2, 3, 40, 56)
    latents = ours.encode(images)
    error = difference(latents, reference.encode(images).latents)
    error = max(error, difference(ours.decode(latents), reference.decode(latents).sample))
    assert error < TOLERANCE
