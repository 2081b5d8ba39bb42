"""Noise levels, samplers, guidance, noise and presets, on the host's sockets."""

from types import SimpleNamespace

import gdf
import pytest
import tiny_cascade
import torch
from comfyui_cascade.latents.noise import StepNoise, picture_noise
from tiny_cascade import unit

SEED = 11
SIZES = {"stage_c": (16, 8, 8), "stage_b": (4, 32, 32)}
GUIDER = {
    "cfg": 4.0, "cfg_end": -1.0, "rescale": 0.0, "method": "cfg", "start": 1.0, "end": 0.0,
    "rescale_over": "batch", "cfg_image": -1.0, "negative_strength": 1.0,
}  # fmt: skip


@pytest.fixture
def custom(comfy_nodes):
    """SamplerCustomAdvanced of the host: ``custom(noise, guider, sampler, sigmas, samples)``."""
    from comfy_extras.nodes_custom_sampler import SamplerCustomAdvanced

    def run(*sockets, samples):
        return SamplerCustomAdvanced.execute(*sockets, {"samples": samples})[0]["samples"]

    return run


@pytest.fixture
def noise(comfy_nodes):
    from comfy_extras.nodes_custom_sampler import Noise_RandomNoise

    return Noise_RandomNoise(SEED)


@pytest.fixture(scope="module")
def networks():
    """The tiny networks outside the host."""
    return tiny_cascade.networks()


@pytest.fixture
def stages(tiny, prompts, networks):
    """For each stage its MODEL, its prompts, and its predictions by the plain network."""
    prior = unit(1, 16, 8, 8, seed=3)
    steered = [[text, {**old, "stable_cascade_prior": prior}] for text, old in prompts.positive]

    def predict_c(x, t):
        image = torch.zeros(len(x), 1, tiny_cascade.IMAGE)
        return [
            networks["stage_c"](x, t, networks["stage_c"].tokens(text, entries["pooled_output"], image))
            for text, entries in (prompts.positive[0], prompts.negative[0])
        ]

    def predict_b(x, t):
        b = networks["stage_b"]
        return [
            b(x, t, b.tokens(entries["pooled_output"]), b.semantic_map(given, 32, 32))
            for (_, entries), given in (
                (prompts.positive[0], prior),
                (prompts.negative[0], torch.zeros_like(prior)),
            )
        ]

    return {
        "stage_c": SimpleNamespace(model=tiny.stage_c, positive=prompts.positive, predict=predict_c),
        "stage_b": SimpleNamespace(model=tiny.stage_b, positive=steered, predict=predict_b),
    }


@pytest.fixture
def preset(pack, prompts, custom, stages):
    """Latents by a preset, in the scale of the network: ``preset(name, stage, noise)``."""

    def run(name, stage, noise, steps=6):
        sockets = pack["CascadeSamplingPreset"](
            model=stages[stage].model, positive=stages[stage].positive, negative=prompts.negative,
            preset=name, steps=steps, denoise=1.0,
        )  # fmt: skip
        latents = custom(noise, *sockets.args, samples=torch.zeros(1, *SIZES[stage]))
        return stages[stage].model.model.process_latent_in(latents)

    return run


def close(ours, theirs):
    """Within a thousandth of the spread of the latents."""
    assert (ours - theirs).abs().max() < 1e-3 * theirs.std()


@pytest.mark.parametrize(("stage", "cfg", "shift"), [("stage_c", 4.0, 2.0), ("stage_b", 1.1, 1.0)])
@pytest.mark.parametrize(("name", "rho"), [("Stability", 0.7), ("recommended", 0.0)])
def test_preset_gives_the_latents_of_stabilitys_loop(pack, preset, stages, stage, cfg, shift, name, rho):
    source = pack["CascadeNoise"](noise_seed=SEED)[0]
    x = picture_noise(torch.zeros(1, *SIZES[stage]), SEED)
    expected = gdf.run(
        stages[stage].predict, x, steps=6, shift=shift, cfg=cfg, rho=rho, fresh=StepNoise(x, SEED)
    )
    close(preset(name, stage, source), expected)


@pytest.mark.parametrize(("stage", "cfg"), [("stage_c", 4.0), ("stage_b", 1.0)])
def test_preset_gives_the_latents_of_diffusers_loop(pack, preset, stages, stage, cfg):
    from diffusers import DDPMWuerstchenScheduler

    scheduler = DDPMWuerstchenScheduler()
    scheduler.set_timesteps(6)
    x = picture_noise(torch.zeros(1, *SIZES[stage]), SEED)
    (generator,) = StepNoise(x, SEED).sources
    for r in scheduler.timesteps[:-1]:
        cond, uncond = stages[stage].predict(x, r.expand(1))
        x = scheduler.step(uncond + cfg * (cond - uncond), r.expand(1), x, generator=generator).prev_sample
    close(preset("diffusers", stage, pack["CascadeNoise"](noise_seed=SEED)[0]), x)


@pytest.mark.parametrize("stage", SIZES)
def test_preset_gives_the_latents_of_ksampler(preset, stages, prompts, ksample, noise, stage):
    given = stages[stage]
    expected = ksample(
        given.model, given.positive, prompts.negative, torch.zeros(1, *SIZES[stage]), seed=SEED, steps=6,
        cfg=4.0 if stage == "stage_c" else 1.1, sampler_name="euler_ancestral", scheduler="simple",
    )  # fmt: skip
    close(preset("ComfyUI", stage, noise), given.model.model.process_latent_in(expected))


# Guidance ------------------------------------------------------------------------------------------------


@pytest.fixture
def guided(pack, tiny, prompts, custom, noise):
    """Stage C's latents by a guider, and how many predictions each step took."""
    from comfyui_cascade.nodes.host import sampler_named

    def run(steps=4, images=False, positive=prompts.positive, **changes):
        counts = {}

        def count(apply, args):
            counts.setdefault(float(args["timestep"][0]), []).extend(args["cond_or_uncond"])
            return apply(args["input"], args["timestep"], **args["c"])

        model = tiny.stage_c.clone()
        model.set_model_unet_function_wrapper(count)
        sockets = {"negative": prompts.negative, **changes}
        guider = pack["CascadeGuider"](model=model, positive=positive, **{**GUIDER, **sockets})[0]
        sigmas = pack["CascadeScheduler"](
            model=model, spacing="cosine", steps=steps, denoise=1.0, shift=0.0, end=0.0, trained_cells=0.0
        )[0]
        latents = custom(noise, guider, sampler_named("DDIM"), sigmas, samples=torch.zeros(1, 16, 8, 8))
        return latents, [len(taken) for taken in counts.values()]

    return run


def test_plain_guidance_is_the_hosts_to_the_bit(guided, comfy_nodes, tiny, prompts, custom, noise):
    import comfy.samplers
    from comfyui_cascade.nodes.host import sampler_named
    from comfyui_cascade.samplers.spacing import cosine

    guider = comfy.samplers.CFGGuider(tiny.stage_c)
    guider.set_conds(prompts.positive, prompts.negative)
    guider.set_cfg(4.0)
    start = torch.zeros(1, 16, 8, 8)
    expected = custom(noise, guider, sampler_named("DDIM"), cosine(4, 2.0), samples=start)
    latents, taken = guided()
    assert torch.equal(latents, expected)
    assert taken == [2, 2, 2, 2]


def test_negative_prompt_is_left_out_where_the_scale_is_one(guided):
    assert guided(cfg=1.0)[1] == [1, 1, 1, 1]
    assert guided(cfg=1.0, negative=None)[1] == [1, 1, 1, 1]
    assert guided(start=0.8, end=0.4)[1] == [1, 2, 2, 1]
    assert guided(cfg=3.0, cfg_end=1.0, start=0.6)[1] == [1, 1, 2, 2]
    assert torch.equal(guided(cfg=1.0)[0], guided(cfg=7.0, start=0.0)[0])


def test_every_kind_of_guidance_steers_and_none_at_a_scale_of_one(guided):
    plain = guided()[0]
    for changes in (
        {"rescale": 0.7}, {"rescale": 0.7, "rescale_over": "picture"}, {"method": "projected (APG)"},
        {"method": "scaled (CFG-Zero)"}, {"cfg_end": 1.5},
    ):  # fmt: skip
        latents, _ = guided(**changes)
        assert latents.isfinite().all()
        assert not torch.allclose(latents, plain, rtol=1e-2) or changes.get("rescale_over")
        assert torch.equal(guided(**{**changes, "cfg": 1.0, "cfg_end": -1.0})[0], guided(cfg=1.0)[0])


def test_perpendicular_negative_without_strength_is_the_empty_prompt(guided, prompts):
    off, taken = guided(negative=prompts.positive, empty=prompts.negative, negative_strength=0.0)
    torch.testing.assert_close(off, guided()[0], rtol=1e-3, atol=1e-3)
    assert taken == [3, 3, 3, 3]


def test_negative_along_the_prompt_takes_nothing_from_it(guided, prompts):
    along, _ = guided(negative=prompts.positive, empty=prompts.negative, negative_strength=5.0)
    torch.testing.assert_close(along, guided()[0], rtol=1e-3, atol=1e-3)


def test_images_have_a_scale_of_their_own(guided, prompts):
    shown = {"clip_vision_output": SimpleNamespace(image_embeds=unit(1, 768)), "strength": 1.0}
    both = [[text, {**old, "unclip_conditioning": [shown]}] for text, old in prompts.positive]
    same, taken = guided(positive=both, cfg_image=4.0)
    assert taken == [3, 3, 3, 3]
    torch.testing.assert_close(same, guided(positive=both)[0], rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(guided(positive=both, cfg_image=0.0)[0], guided()[0], rtol=1e-3, atol=1e-3)
    assert not torch.allclose(guided(positive=both, cfg_image=8.0)[0], same, rtol=1e-2)


def test_guidance_without_a_negative_prompt_is_refused(guided):
    with pytest.raises(ValueError, match="wire an empty prompt as negative, or set cfg to 1"):
        guided(negative=None)


def test_guidance_of_other_nodes_works_in_ours(guided, prompts, pack, tiny, custom, noise):
    model, heard = tiny.stage_c.clone(), []
    model.set_model_sampler_post_cfg_function(lambda args: heard.append(1) or args["denoised"])
    guider = pack["CascadeGuider"](
        model=model, positive=prompts.positive, negative=prompts.negative, **{**GUIDER, "rescale": 0.5}
    )[0]
    sampler = pack["CascadeSamplerSelect"](sampler="UniPC", eta=0.0)[0]
    custom(noise, guider, sampler, torch.tensor([99.995, 2.0, 0.0]), samples=torch.zeros(1, 16, 8, 8))
    assert heard == [1, 1]


# Noise levels --------------------------------------------------------------------------------------------


@pytest.fixture
def scheduler(pack, tiny):
    def run(model=tiny.stage_c, **changes):
        settings = {
            "spacing": "cosine", "steps": 8, "denoise": 1.0, "shift": 0.0, "end": 0.0, "trained_cells": 0.0,
        }  # fmt: skip
        return pack["CascadeScheduler"](model=model, **{**settings, **changes})

    return run


def test_levels_follow_the_shift_of_the_model(scheduler, comfy_nodes, tiny):
    import comfy.samplers
    from comfy_extras.nodes_model_advanced import ModelSamplingStableCascade

    (other,) = ModelSamplingStableCascade().patch(tiny.stage_c, 1.5)
    for model in (tiny.stage_c, tiny.stage_b, other):
        schedule = model.get_model_object("model_sampling")
        expected = comfy.samplers.calculate_sigmas(schedule, "simple", 8)
        torch.testing.assert_close(scheduler(model)[0], expected, rtol=1e-4, atol=0)


def test_shift_grows_with_the_latents(scheduler):
    large = scheduler(latents={"samples": torch.zeros(1, 16, 48, 48)})[0]
    assert torch.equal(large, scheduler(shift=4.0)[0])
    small = scheduler(latents={"samples": torch.zeros(1, 16, 12, 12)}, trained_cells=12.0)[0]
    assert torch.equal(small, scheduler()[0])


def test_levels_are_drawn_on_the_node(scheduler):
    shown = scheduler().ui.as_dict()["images"]
    assert len(shown) == 1
    assert shown[0]["type"] == "temp"


def test_part_of_a_run_starts_and_ends_where_it_is_told(scheduler):
    from comfyui_cascade.samplers.schedule import logsnr_of_time, sigma_of_logsnr

    part = scheduler(denoise=0.75, end=0.25)[0]
    ends = sigma_of_logsnr(logsnr_of_time(torch.tensor([0.75, 0.25]), 2.0))
    torch.testing.assert_close(part[[0, -1]], ends)
    assert len(scheduler(denoise=0.0)[0]) == 0
    with pytest.raises(ValueError, match=r"starts at time 0\.2, by denoise, and ends at 0\.5"):
        scheduler(denoise=0.2, end=0.5)


def test_two_parts_of_a_run_are_the_whole(scheduler, pack, tiny, prompts, custom, noise):
    from comfy_extras.nodes_custom_sampler import Noise_EmptyNoise

    guider = pack["CascadeGuider"](
        model=tiny.stage_c, positive=prompts.positive, negative=prompts.negative, **GUIDER
    )[0]
    sampler = pack["CascadeSamplerSelect"](sampler="DDIM", eta=0.0)[0]
    start = torch.zeros(1, 16, 8, 8)
    whole = custom(noise, guider, sampler, scheduler()[0], samples=start)
    half = custom(noise, guider, sampler, scheduler(steps=4, end=0.5)[0], samples=start)
    rest = custom(Noise_EmptyNoise(), guider, sampler, scheduler(steps=4, denoise=0.5)[0], samples=half)
    torch.testing.assert_close(rest, whole, rtol=1e-3, atol=1e-3)


# Samplers and noise --------------------------------------------------------------------------------------


@pytest.fixture
def cascade(pack, tiny, prompts):
    """Both latents of the node that runs both stages."""

    def run(batch=1, **changes):
        settings = {f"{name}_{end}": value for end in "cb" for name, value in (
            ("steps", 3), ("cfg", 1.5), ("sampler", "DDPM"), ("scheduler", "cosine"), ("denoise", 1.0)
        )}  # fmt: skip
        return [latents["samples"] for latents in pack["CascadeSampler"](
            stage_c=tiny.stage_c, stage_b=tiny.stage_b, positive=prompts.positive,
            negative=prompts.negative, stage_c_latent={"samples": torch.zeros(batch, 16, 8, 8)},
            stage_b_latent={"samples": torch.zeros(batch, 4, 32, 32)}, **{**settings, **changes},
        ).args]  # fmt: skip

    return run


def test_picture_of_a_batch_is_the_picture_of_its_own_seed(cascade):
    together = cascade(batch=3, seed=5, noise="picture")
    for i in range(3):
        for batch, alone in zip(together, cascade(seed=5 + i, noise="picture"), strict=True):
            torch.testing.assert_close(batch[i], alone[0], rtol=1e-3, atol=1e-3)


def test_names_of_the_host_and_ours_mix(cascade):
    ours = cascade(seed=2, scheduler_c="simple", scheduler_b="simple", sampler_c="DDIM", sampler_b="DDIM")
    host = cascade(seed=2, scheduler_c="simple", scheduler_b="simple", sampler_c="euler", sampler_b="euler")
    for a, b in zip(ours, host, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-3, atol=1e-3)
    assert not torch.allclose(cascade(seed=2, rescale=0.7)[0], cascade(seed=2)[0], rtol=1e-2)


def test_every_sampler_keeps_what_a_mask_keeps(pack, tiny, prompts, noise):
    from comfy_extras.nodes_custom_sampler import SamplerCustomAdvanced
    from comfyui_cascade.samplers.solvers import SOLVERS

    guider = pack["CascadeGuider"](
        model=tiny.stage_c, positive=prompts.positive, negative=prompts.negative, **GUIDER
    )[0]
    mask = torch.zeros(1, 1, 8, 8)
    mask[..., 4:] = 1
    kept = unit(1, 16, 8, 8, seed=9)
    latents = {"samples": kept, "noise_mask": mask}
    for name in SOLVERS:
        sampler = pack["CascadeSamplerSelect"](sampler=name, eta=0.5)[0]
        levels = torch.tensor([99.995, 4.0, 1.5, 0.4, 0.0])
        drawn = SamplerCustomAdvanced.execute(noise, guider, sampler, levels, latents)[0]["samples"]
        assert drawn.isfinite().all()
        atol = 0.05 if name == "DDPM of diffusers" else 1e-4  # it ends at the least noise
        torch.testing.assert_close(drawn[..., :4], kept[..., :4], rtol=0, atol=atol)
        assert not torch.allclose(drawn[..., 4:], kept[..., 4:], atol=0.1)
