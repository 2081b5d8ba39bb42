"""Our networks against ComfyUI's own, with random weights everywhere."""

import dataclasses

import pytest
import torch
from comfyui_cascade.checkpoints.identify import Part
from comfyui_cascade.checkpoints.layout import shapes
from comfyui_cascade.checkpoints.open import NETWORKS, build, pick
from comfyui_cascade.stage_a import StageA, StageAConfig
from comfyui_cascade.stage_b import StageB, StageBConfig
from comfyui_cascade.stage_c import StageC, StageCConfig
from native import native
from random_weights import difference, randomise, spread
from trunk_sizes import (
    IMAGE,
    POOLED,
    STAGE_B,
    STAGE_C,
    TEXT,
    heads,
    residual_blocks,
    stage_b_inputs,
    stage_c_inputs,
)

TOLERANCE = 3e-5  # fp32, relative to the largest value; measured: at most 2.7e-6

pytestmark = pytest.mark.usefixtures("comfy_nodes", "no_gradients")


@pytest.fixture
def no_gradients():
    with torch.inference_mode():
        yield


def trunk_arguments(size, dtype):
    import comfy.ops

    return {
        "c_cond": size["c_cond"],
        "c_hidden": list(size["c_hidden"]),
        "nhead": heads(size, none=-1),
        "blocks": [list(side) for side in size["blocks"]],
        "block_repeat": [list(side) for side in size["repeats"]],
        "level_config": list(size["units"]),
        "t_conds": list(size["t_conds"]),
        "c_r": size.get("c_r", 64),
        "c_clip_seq": size.get("clip_seq", 4),
        "kernel_size": size.get("kernel_size", 3),
        "dropout": [0.0] * len(size["c_hidden"]),
        "dtype": dtype,
        "operations": comfy.ops.disable_weight_init,
    }


def host_stage_c(size, switch_level=None, dtype=torch.float32):
    from comfy.ldm.cascade.stage_c import StageC as HostStageC

    channels = size.get("channels", 16)
    switch_level = switch_level or [False] * (len(size["c_hidden"]) - 1)
    return randomise(
        HostStageC(
            c_in=channels, c_out=channels, c_clip_text=TEXT, c_clip_text_pooled=POOLED, c_clip_img=IMAGE,
            switch_level=switch_level, **trunk_arguments(size, dtype),
        )
    )  # fmt: skip


def host_stage_b(size, dtype=torch.float32):
    from comfy.ldm.cascade.stage_b import StageB as HostStageB

    return randomise(
        HostStageB(c_clip=POOLED, c_effnet=size.get("effnet", 16), **trunk_arguments(size, dtype))
    )


def run_c(ours, x, t, text, pooled, image, control=()):
    return ours(x, t, ours.tokens(text, pooled, image), control)


def run_host_b(theirs, x, t, pooled, semantic):
    return theirs(x, t, semantic, pooled)


def run_b(ours, x, t, pooled, semantic):
    return ours(x, t, ours.tokens(pooled), ours.semantic_map(semantic, *x.shape[-2:]))


@pytest.mark.parametrize("size", STAGE_C.values(), ids=STAGE_C)
@pytest.mark.parametrize(("batch", "images"), [(2, 1), (3, 2)])
def test_stage_c_equals_the_hosts(size, batch, images):
    theirs = host_stage_c(size)
    ours = native(StageC, StageCConfig, theirs, head_dim=size["head_dim"])
    inputs = stage_c_inputs(size, batch, images=images)
    error = difference(run_c(ours, *inputs), theirs(*inputs))
    assert error < TOLERANCE


@pytest.mark.parametrize("size", STAGE_C.values(), ids=STAGE_C)
def test_controlled_stage_c_equals_the_hosts(size):
    theirs = host_stage_c(size)
    ours = native(StageC, StageCConfig, theirs, head_dim=size["head_dim"])
    inputs = stage_c_inputs(size)
    generator = torch.Generator().manual_seed(3)
    widths = [
        size["c_hidden"][level]
        for level, depth, repeats in running_levels(size)
        for _ in range(depth * repeats * size["units"][level].count("C"))
    ]
    assert len(widths) == residual_blocks(size)
    control = [
        torch.randn(2, width, 5 + i, 9, generator=generator) if i % 3 else None
        for i, width in enumerate(widths)
    ]
    # The host pops from the end, so it takes them in reverse; it also empties the list.
    expected = theirs(*inputs, control={"input": control[::-1]})
    error = difference(run_c(ours, *inputs, control), expected)
    assert error < TOLERANCE
    assert difference(run_c(ours, *inputs), expected) > 1e-2


def running_levels(size):
    """Level, depth and repeats in the order in which levels run."""
    count = len(size["c_hidden"])
    order = [*range(count), *reversed(range(count))]
    return zip(
        order,
        [*size["blocks"][0], *size["blocks"][1]],
        [*size["repeats"][0], *size["repeats"][1]],
        strict=True,
    )


@pytest.mark.parametrize(
    ("name", "switch_level"),
    [("released form", (True,)), ("three levels", (True, False)), ("three levels", (False, True))],
)
def test_stage_c_that_switches_resolution_equals_the_hosts(name, switch_level):
    size = STAGE_C[name]
    theirs = host_stage_c(size, list(switch_level))
    ours = native(StageC, StageCConfig, theirs, head_dim=size["head_dim"])
    trunk = dataclasses.replace(ours.config.trunk, switch_level=switch_level)
    switching = build(StageC, dataclasses.replace(ours.config, trunk=trunk), ours.state_dict())
    inputs = stage_c_inputs(size)
    error = difference(run_c(switching, *inputs), theirs(*inputs))
    assert error < TOLERANCE


@pytest.mark.parametrize("size", STAGE_B.values(), ids=STAGE_B)
@pytest.mark.parametrize(("height", "width"), [(26, 38), (32, 48)])
def test_stage_b_equals_the_hosts(size, height, width):
    theirs = host_stage_b(size)
    ours = native(StageB, StageBConfig, theirs, head_dim=size["head_dim"])
    inputs = stage_b_inputs(size, 3, height, width)
    error = difference(run_b(ours, *inputs), run_host_b(theirs, *inputs))
    assert error < TOLERANCE


@pytest.mark.parametrize("name", ["released form", "three levels"])
@pytest.mark.parametrize("side", ["c", "b"])
def test_bf16_is_no_further_from_the_truth_than_the_host(side, name):
    size = {"c": STAGE_C, "b": STAGE_B}[side][name]
    make, run_theirs, run_ours, classes, inputs = {
        "c": (host_stage_c, lambda n, *i: n(*i), run_c, (StageC, StageCConfig), stage_c_inputs(size)),
        "b": (host_stage_b, run_host_b, run_b, (StageB, StageBConfig), stage_b_inputs(size)),
    }[side]
    theirs = make(size, dtype=torch.bfloat16)
    ours = native(*classes, theirs, head_dim=size["head_dim"])
    x, t, *others = inputs
    x, others = x.bfloat16(), [tensor.bfloat16() for tensor in others]
    expected, result = run_theirs(theirs, x, t, *others), run_ours(ours, x, t, *others)
    exact = make(size)
    exact.load_state_dict(theirs.state_dict())
    truth = run_theirs(exact, x.float(), t, *(tensor.float() for tensor in others))
    assert spread(result, truth) < 1.5 * spread(expected, truth) + 1e-3


@pytest.mark.parametrize(
    "arguments",
    [
        {"levels": 2, "bottleneck_blocks": 3, "c_hidden": 32},
        {"levels": 1, "bottleneck_blocks": 1, "c_hidden": 24},
        {"levels": 3, "bottleneck_blocks": 2, "c_hidden": 32, "c_latent": 6},
    ],
)
def test_stage_a_equals_the_hosts(arguments):
    from comfy.ldm.cascade.stage_a import StageA as HostStageA

    theirs = randomise(HostStageA(codebook_size=16, **arguments))
    ours = native(StageA, StageAConfig, theirs)
    images = torch.rand(2, 3, 40, 56)
    latents = ours.encode(images)
    error = max(
        difference(latents, theirs.encode(images)), difference(ours.decode(latents), theirs.decode(latents))
    )
    assert error < TOLERANCE


@pytest.fixture(scope="module")
def coder(comfy_nodes):
    from comfy.ldm.cascade.stage_c_coder import StageC_coder

    theirs = StageC_coder()
    mean_and_std = theirs.encoder.mean.clone(), theirs.encoder.std.clone()
    randomise(theirs)
    with torch.no_grad():
        theirs.encoder.mean.copy_(mean_and_std[0])
        theirs.encoder.std.copy_(mean_and_std[1])
    return theirs


def part_of(coder, part):
    weights = pick(coder.state_dict(), part)
    network_class, config_class = NETWORKS[part]
    return build(network_class, config_class.from_shapes(shapes(weights)), weights)


def test_semantic_encoder_equals_the_hosts(coder):
    images = torch.rand(2, 3, 97, 130)
    result = part_of(coder, Part.SEMANTIC_ENCODER)(images)
    error = difference(result, coder.encode(images * 2 - 1))
    assert result.shape == (2, 16, 4, 5)
    assert error < TOLERANCE


def test_previewer_equals_the_hosts(coder):
    latents = torch.randn(2, 16, 5, 7)
    result = part_of(coder, Part.PREVIEWER)(latents)
    error = difference(result * 2 - 1, coder.decode(latents))
    assert result.shape == (2, 3, 40, 56)
    assert error < TOLERANCE
