"""The whole cascade in one node, and conditioning for Stage B."""

import pytest
import torch
from random_weights import difference
from tiny_cascade import unit

WIDGETS = {
    "seed": 11,
    "steps_c": 3, "cfg_c": 3.0, "sampler_c": "ddpm", "scheduler_c": "simple", "denoise_c": 1.0,
    "steps_b": 3, "cfg_b": 1.1, "sampler_b": "euler_ancestral", "scheduler_b": "normal", "denoise_b": 0.8,
}  # fmt: skip


@pytest.fixture
def latents(pack, tiny):
    size = {"width": 256, "height": 192, "batch_size": 2, "compression": 0.0, "stage_c": tiny.stage_c}
    stage_c, stage_b = pack["CascadeEmptyLatents"](**size).result
    return {"stage_c_latent": stage_c, "stage_b_latent": stage_b}


@pytest.fixture
def cascade(pack, prompts):
    """The sampler on given models and latents."""

    def run(models, **inputs):
        sockets = {"stage_c": models.stage_c, "stage_b": models.stage_b}
        conditioning = {"positive": prompts.positive, "negative": prompts.negative}
        return pack["CascadeSampler"](**{**sockets, **conditioning, **WIDGETS, **inputs})

    return run


def wired(comfy_nodes, pack, models, prompts, stage_c_latent, stage_b_latent):
    """The same by three nodes."""
    w = WIDGETS
    ksample = comfy_nodes.KSampler().sample
    c = ksample(
        models.stage_c, w["seed"], w["steps_c"], w["cfg_c"], w["sampler_c"], w["scheduler_c"],
        prompts.positive, prompts.negative, stage_c_latent, w["denoise_c"],
    )[0]  # fmt: skip
    positive = pack["CascadeDecoderConditioning"](conditioning=prompts.positive, stage_c=c)[0]
    b = ksample(
        models.stage_b, w["seed"], w["steps_b"], w["cfg_b"], w["sampler_b"], w["scheduler_b"],
        positive, prompts.negative, stage_b_latent, w["denoise_b"],
    )[0]  # fmt: skip
    return b["samples"], c["samples"]


@pytest.mark.parametrize("start", ["empty", "a picture, masked"])
def test_one_node_is_the_wired_graph_to_the_bit(comfy_nodes, pack, tiny, prompts, latents, cascade, start):
    if start != "empty":
        mask = {"noise_mask": (torch.rand(1, 1, 48, 64) > 0.5).float(), "batch_index": [3, 1]}
        latents["stage_c_latent"] = {"samples": unit(2, 16, 9, 12), **mask}
        latents["stage_b_latent"] = {"samples": unit(2, 4, 48, 64), **mask}
    ours = cascade(tiny, **latents)
    stage_b, stage_c = wired(comfy_nodes, pack, tiny, prompts, **latents)
    assert torch.equal(ours[0]["samples"], stage_b)
    assert torch.equal(ours[1]["samples"], stage_c)


def test_models_of_the_hosts_own_classes_sample_the_same(tiny, native, latents, cascade):
    for ours, theirs in zip(cascade(tiny, **latents).result, cascade(native, **latents).result, strict=True):
        assert difference(ours["samples"], theirs["samples"]) < 1e-5


def test_seed_decides_the_picture(tiny, latents, cascade):
    once, again, other = (cascade(tiny, **latents, seed=seed)[0]["samples"] for seed in (1, 1, 2))
    assert torch.equal(once, again)
    assert difference(once, other) > 0.1


def test_what_comes_through_sockets_is_left_as_it_was(tiny, prompts, latents, cascade):
    before = {name: value["samples"].clone() for name, value in latents.items()}
    entries = [dict(item) for _, item in prompts.positive]
    cascade(tiny, **latents)
    for name, value in latents.items():
        assert torch.equal(value["samples"], before[name])
    assert [item.keys() for _, item in prompts.positive] == [item.keys() for item in entries]


def test_decoder_conditioning_is_the_hosts(pack, prompts):
    from comfy_extras.nodes_stable_cascade import StableCascade_StageB_Conditioning

    stage_c = {"samples": unit(1, 16, 8, 8)}
    ours = pack["CascadeDecoderConditioning"](conditioning=prompts.positive, stage_c=stage_c)[0]
    theirs = StableCascade_StageB_Conditioning.execute(prompts.positive, stage_c)[0]
    assert [entries.keys() for _, entries in ours] == [entries.keys() for _, entries in theirs]
    assert ours[0][1]["stable_cascade_prior"] is stage_c["samples"]
    assert "stable_cascade_prior" not in prompts.positive[0][1]


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        (
            {"stage_c_latent": (2, 4, 48, 64)},
            "Stage C was given latents of 4 channels, as those of Stage A and B",
        ),
        ({"stage_b_latent": (2, 16, 9, 12)}, "Stage B was given latents of 16 channels, as those of Stage C"),
        ({"stage_b_latent": (3, 4, 48, 64)}, "3 latents of Stage B for 2 of Stage C"),
        ({"stage_b_latent": (2, 4, 64, 48)}, "are not of one picture"),
        ({"stage_b_latent": (2, 4, 8, 12)}, "no finer than Stage C's"),
    ],
)
def test_latents_that_do_not_fit_are_refused_before_the_first_step(tiny, latents, cascade, inputs, message):
    wrong = {socket: {"samples": torch.zeros(shape)} for socket, shape in inputs.items()}
    with pytest.raises(ValueError, match=message):
        cascade(tiny, **{**latents, **wrong})


def test_swapped_models_are_refused(tiny, latents, cascade):
    for changes, socket in (({"stage_c": tiny.stage_b}, "stage_c"), ({"stage_b": tiny.stage_c}, "stage_b")):
        with pytest.raises(ValueError, match=f"the model on {socket} works on"):
            cascade(tiny, **latents, **changes)


@pytest.mark.parametrize(
    ("prior", "samples", "message"),
    [
        (None, (1, 4, 32, 32), "Stage B was sampled without its conditioning"),
        ((1, 4, 8, 8), (1, 4, 32, 32), "holds latents of 4 channels, as those of Stage A and B have"),
        ((2, 16, 8, 8), (3, 4, 32, 32), "3 latents of Stage B for 2 of Stage C"),
        ((1, 16, 8, 8), (1, 4, 32, 48), "are not of one picture"),
        ((1, 16, 8, 8), (1, 4, 33, 32), "multiples of 2"),
        ((1, 16, 24, 24), (1, 4, 24, 24), "no finer than Stage C's 24x24"),
        ((1, 16, 12, 12), (1, 16, 12, 12), "needs multiples of 2 and at least 16"),
    ],
)
def test_stage_b_says_what_is_wrong_with_its_wiring(tiny, prompts, ksample, prior, samples, message):
    entries = {} if prior is None else {"stable_cascade_prior": unit(*prior)}
    positive = [[text, {**old, **entries}] for text, old in prompts.positive]
    with pytest.raises(ValueError, match=message):
        ksample(tiny.stage_b, positive, prompts.negative, torch.zeros(samples))


def test_each_stage_refuses_drawn_latents_of_the_other(tiny, prompts, ksample):
    with pytest.raises(ValueError, match="Stage C was given latents of 4 channels"):
        ksample(tiny.stage_c, prompts.positive, prompts.negative, unit(1, 4, 32, 32))
    with pytest.raises(ValueError, match="Stage B was given latents of 16 channels"):
        ksample(tiny.stage_b, prompts.positive, prompts.negative, unit(1, 16, 32, 32))


def test_prompt_of_another_encoder_is_refused(tiny, prompts, ksample):
    for entries, message in (
        ({}, "without pooled text"),
        ({"pooled_output": unit(1, 1280)}, "a prompt of 1280 features, but it was trained on 32"),
    ):
        wrong = [[prompts.positive[0][0], entries]]
        with pytest.raises(ValueError, match=message):
            ksample(tiny.stage_c, wrong, prompts.negative, torch.zeros(1, 16, 8, 8))


def test_compression_far_from_the_trained_one_is_told_when_stage_b_samples(tiny, prompts, ksample, said):
    positive = [[text, {**old, "stable_cascade_prior": unit(1, 16, 4, 4)}] for text, old in prompts.positive]
    ksample(tiny.stage_b, positive * 2, prompts.negative, torch.zeros(1, 4, 32, 32), steps=3)
    assert len(said) == 1
    assert "32 pixels to a cell, and this model was trained at 21.33" in said[0]
