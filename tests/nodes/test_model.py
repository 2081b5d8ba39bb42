"""Stage B and Stage C as MODEL: the host's samplers, schedules and adapters on them."""

from collections import Counter

import pytest
import tiny_cascade
import torch
from comfyui_cascade.layers.blocks import AttnBlock
from comfyui_cascade.samplers.sample import sample
from comfyui_cascade.samplers.schedule import sigma_of_logsnr, spaced_logsnr
from comfyui_cascade.samplers.solvers import SOLVERS
from comfyui_cascade.samplers.target import from_velocity
from random_weights import difference
from tiny_cascade import unit

SAMPLING_TOLERANCE = 1e-5
"""fp32, four steps; measured at 1e-6."""

TIME_TOLERANCE = 1e-3
"""Where two programs compute the time from the noise level: the embedding multiplies its last digit by "
"10,000."""


def with_prior(conditioning, latents):
    return [[text, {**entries, "stable_cascade_prior": latents}] for text, entries in conditioning]


def zeros(*shape):
    return torch.zeros(shape)


@pytest.mark.parametrize("sampler_name", ["ddpm", "euler", "dpmpp_2m"])
def test_stage_c_samples_as_the_hosts_own_class_does(tiny, native, prompts, ksample, sampler_name):
    ours, theirs = (
        ksample(model, prompts.positive, prompts.negative, zeros(2, 16, 9, 13), sampler_name=sampler_name)
        for model in (tiny.stage_c, native.stage_c)
    )
    assert difference(ours, theirs) < SAMPLING_TOLERANCE


@pytest.mark.parametrize("prior_batch", [1, 2])
def test_stage_b_samples_as_the_hosts_own_class_does(tiny, native, prompts, ksample, prior_batch):
    positive = with_prior(prompts.positive, unit(prior_batch, 16, 9, 13))
    ours, theirs = (
        ksample(model, positive, prompts.negative, zeros(2, 4, 36, 52))
        for model in (tiny.stage_b, native.stage_b)
    )
    assert difference(ours, theirs) < SAMPLING_TOLERANCE


def test_denoising_a_picture_in_part_equals_the_hosts(tiny, native, prompts, ksample):
    start = unit(1, 16, 12, 12)
    ours, theirs = (
        ksample(model, prompts.positive, prompts.negative, start, denoise=0.5)
        for model in (tiny.stage_c, native.stage_c)
    )
    assert difference(ours, theirs) < SAMPLING_TOLERANCE


def test_image_prompts_equal_the_hosts(comfy_nodes, tiny, native, prompts, ksample):
    picture = unit(2, 40, 30, 3).sigmoid()
    seen = comfy_nodes.CLIPVisionEncode().encode(tiny.clip_vision, picture, "center")[0]
    positive = comfy_nodes.unCLIPConditioning().apply_adm(prompts.positive, seen, 0.7, 0.0)[0]
    ours, theirs = (
        ksample(model, positive, prompts.negative, zeros(1, 16, 8, 8))
        for model in (tiny.stage_c, native.stage_c)
    )
    without = ksample(tiny.stage_c, prompts.positive, prompts.negative, zeros(1, 16, 8, 8))
    assert difference(ours, theirs) < SAMPLING_TOLERANCE
    assert difference(ours, without) > 0.01


def test_changed_shift_equals_the_hosts(tiny, native, prompts, ksample):
    from comfy_extras.nodes_model_advanced import ModelSamplingStableCascade

    ours, theirs = (
        ksample(
            ModelSamplingStableCascade().patch(model, 4.0)[0],
            prompts.positive,
            prompts.negative,
            zeros(1, 16, 8, 8),
        )
        for model in (tiny.stage_c, native.stage_c)
    )
    assert difference(ours, theirs) < SAMPLING_TOLERANCE


def test_table_of_noise_levels_is_the_hosts(tiny, native):
    for part in ("stage_c", "stage_b"):
        ours, theirs = (getattr(m, part).get_model_object("model_sampling") for m in (tiny, native))
        assert ours.shift == theirs.shift
        torch.testing.assert_close(ours.sigmas, theirs.sigmas, rtol=1e-5, atol=0)


@pytest.mark.parametrize("part", ["stage_c", "stage_b"])
def test_velocity_file_samples_as_the_pure_loop_does(part, prompts, tmp_path, comfy_nodes):
    import comfy.sample
    import comfy.samplers
    from comfyui_cascade.nodes import host

    path = tiny_cascade.write(tmp_path, [part], prediction="velocity")[part]
    model = host.load_model(path, host.Part(part))
    network = tiny_cascade.networks()[part]
    shape, shift, scale = ((2, 16, 9, 13), 2.0, 1) if part == "stage_c" else ((2, 4, 36, 52), 1.0, 0.43)
    text, pooled = prompts.positive[0][0], prompts.positive[0][1]["pooled_output"]
    prior = unit(1, 16, 9, 13)
    if part == "stage_c":
        conditions = (network.tokens(text, pooled, zeros(1, 1, tiny_cascade.IMAGE)).expand(2, -1, -1),)
    else:
        conditions = (network.tokens(pooled).expand(2, -1, -1), network.semantic_map(prior, 36, 52))
    noise = comfy.sample.prepare_noise(zeros(*shape), 5)
    pure = sample(
        lambda x, t: network(x, t, *conditions),
        noise,
        generator=torch.Generator(),
        steps=5,
        shift=shift,
        target=from_velocity,
        solver=SOLVERS["DDIM"],
    )
    sigmas = torch.cat([sigma_of_logsnr(spaced_logsnr(5, shift))[:-1], torch.zeros(1)])
    positive = with_prior(prompts.positive, prior)
    euler = comfy.samplers.sampler_object("euler")
    ours = comfy.sample.sample_custom(
        model, noise, 1.0, euler, sigmas, positive, prompts.negative, zeros(*shape), seed=5
    )
    assert difference(ours, pure * scale) < TIME_TOLERANCE


def test_conditions_are_computed_once_for_a_sampling_run(tiny, prompts, ksample, monkeypatch):
    network = tiny.stage_b.model.diffusion_model
    calls = []
    for name in ("tokens", "semantic_map"):
        compute = getattr(network, name)
        monkeypatch.setattr(network, name, lambda *a, n=name, f=compute: calls.append(n) or f(*a))
    attended = AttnBlock.keys_values
    monkeypatch.setattr(AttnBlock, "keys_values", lambda *a: calls.append("keys_values") or attended(*a))
    positive = with_prior(prompts.positive, unit(1, 16, 8, 8))
    ksample(tiny.stage_b, positive, prompts.negative, zeros(1, 4, 32, 32), steps=6)
    # The positive and the negative, and each in four blocks that attend to them.
    assert Counter(calls) == {"semantic_map": 2, "tokens": 2, "keys_values": 2 * 4}


def test_prompts_of_one_and_of_several_pictures_go_together(comfy_nodes):
    from comfyui_cascade.nodes.host.model import KeysCond

    shared, each = unit(1, 5, 6), unit(3, 5, 6)
    one, several = (KeysCond(rows).process_cond(batch_size=3) for rows in (shared, each))
    assert torch.equal(one.concat([one]), shared.expand(2, -1, -1))  # a row for three pictures
    assert one.can_concat(several)
    assert torch.equal(one.concat([several]), torch.cat([shared.expand(3, -1, -1), each]))
    assert not one.can_concat(KeysCond(unit(1, 4, 6)))


def test_prompts_of_different_lengths_do_not_change_each_other(tiny, prompts, ksample, comfy_nodes):
    long = comfy_nodes.CLIPTextEncode().encode(tiny.clip, "a red cat, " * 9)[0]
    assert long[0][0].shape[1] > prompts.positive[0][0].shape[1]
    guided = ksample(tiny.stage_c, prompts.positive, long, zeros(1, 16, 8, 8), cfg=1.000001)
    alone = ksample(tiny.stage_c, prompts.positive, prompts.negative, zeros(1, 16, 8, 8), cfg=1.0)
    assert difference(guided, alone) < 1e-3


def test_area_of_a_prompt_sees_its_part_of_the_map(comfy_nodes):
    from comfyui_cascade.nodes.host.model import MapCond

    cells = unit(1, 16, 24, 5)
    part = MapCond(cells).process_cond(batch_size=3, area=[8, 12, 4, 20]).cond
    assert torch.equal(part, cells[:, 2:6, 10:16].repeat(3, 1, 1, 1))
    with pytest.raises(ValueError, match="pairs"):
        MapCond(cells).process_cond(batch_size=1, area=[7, 12, 4, 20])


def test_prompt_for_an_area_runs_in_both_stages(comfy_nodes, tiny, prompts, ksample):
    areas = comfy_nodes.ConditioningSetAreaPercentage().append(prompts.positive, 0.5, 0.5, 0.25, 0.25, 1.0)[0]
    both = comfy_nodes.ConditioningCombine().combine(prompts.positive, areas)[0]
    c = ksample(tiny.stage_c, both, prompts.negative, zeros(1, 16, 8, 8))
    b = ksample(tiny.stage_b, with_prior(both, c), prompts.negative, zeros(1, 4, 32, 32))
    assert b.isfinite().all()


def test_core_lora_names_reach_our_weights(tiny):
    import comfy.lora

    keys = comfy.lora.model_lora_keys_unet(tiny.stage_c.model, {})
    for name in ("lora_prior_unet_", "lora_unet_"):
        assert keys[f"{name}down_blocks_0_2_attention_attn_to_q"].endswith("attention.attn.to_q.weight")


def test_weights_are_named_as_the_hosts_own_class_names_them(tiny, native):
    for part in ("stage_c", "stage_b"):
        ours, theirs = (set(getattr(m, part).model.state_dict()) for m in (tiny, native))
        assert ours - theirs == set()
        assert theirs - ours == set()


def test_controlnet_residuals_equal_the_hosts(tiny, native):
    x, text, pooled = unit(1, 16, 6, 6), unit(1, 5, 32, seed=1), unit(1, 32, seed=2)
    image = torch.zeros(1, 1, tiny_cascade.IMAGE)
    residuals = [unit(1, 32, 3, 3, seed=3), None, unit(1, 32, 6, 6, seed=4), None]
    t = torch.tensor([0.7])
    ours, theirs = tiny.stage_c.model.diffusion_model, native.stage_c.model.diffusion_model
    tokens = ours.tokens(text, pooled, image)
    a = ours(x, t, control={"input": residuals[::-1]}, tokens=tokens)
    b = theirs(x, t, text, pooled, image, control={"input": residuals[::-1]})
    assert difference(a, b) < 1e-5


def test_wrappers_and_attention_patches_of_other_packs_apply(tiny, prompts, ksample):
    from comfy.patcher_extension import WrappersMP

    seen = set()

    def wrapper(executor, *args, **kwargs):
        seen.add("wrapper")
        return executor(*args, **kwargs)

    def override(attention, *args, **kwargs):
        seen.add("attention")
        return attention(*args, **kwargs)

    model = tiny.stage_c.clone()
    model.add_wrapper_with_key(WrappersMP.DIFFUSION_MODEL, "test", wrapper)
    model.model_options["transformer_options"]["optimized_attention_override"] = override
    ksample(model, prompts.positive, prompts.negative, zeros(1, 16, 4, 4), steps=1)
    assert seen == {"wrapper", "attention"}


def test_memory_grows_with_cells_and_batch(tiny):
    for model, shape in ((tiny.stage_c, [1, 16, 24, 24]), (tiny.stage_b, [1, 4, 256, 256])):
        once = model.memory_required(shape)
        assert once > 0
        assert model.memory_required([2, *shape[1:]]) == pytest.approx(2 * once)


def test_preview_colours_come_from_the_file(tmp_path, comfy_nodes):
    import json

    from comfyui_cascade.nodes import host

    factors = [[i / 16, 0.5, -0.5] for i in range(16)]
    colours = json.dumps({"factors": factors, "bias": [0.1, 0.2, 0.3]})
    path = tiny_cascade.write(tmp_path, ["stage_c"], latent_rgb=colours)["stage_c"]
    latents = host.load_model(path, host.Part.STAGE_C).get_model_object("latent_format")
    assert latents.latent_rgb_factors == factors
    assert latents.latent_rgb_factors_bias == [0.1, 0.2, 0.3]
    assert latents.spacial_downscale_ratio == pytest.approx(256 / 12)


def test_model_loads_again_for_nodes_that_change_weights_in_place(tiny):
    load, arguments = tiny.stage_c.cached_patcher_init[:2]
    again = load(*arguments, disable_dynamic=True)
    for key, value in tiny.stage_c.model.state_dict().items():
        assert torch.equal(again.model.state_dict()[key], value)


def test_core_lora_loader_changes_what_is_drawn(tiny, prompts, ksample):
    import comfy.sd

    name = "lora_prior_unet_down_blocks_0_2_attention_attn_to_q"
    weights = {f"{name}.lora_up.weight": unit(32, 4), f"{name}.lora_down.weight": unit(4, 32, seed=1)}
    patched, _ = comfy.sd.load_lora_for_models(tiny.stage_c, None, weights, 1.0, 0.0)
    before, with_lora, after = (
        ksample(model, prompts.positive, prompts.negative, zeros(1, 16, 8, 8))
        for model in (tiny.stage_c, patched, tiny.stage_c)
    )
    assert difference(with_lora, before) > 0.01
    assert torch.equal(before, after)


def test_weights_arrive_in_layers_that_are_born_without(tiny, tiny_files, monkeypatch):
    import comfy.memory_management
    from comfyui_cascade.nodes.host import Part
    from comfyui_cascade.nodes.host.files import read_part
    from comfyui_cascade.nodes.host.model import KINDS, host_config
    from comfyui_cascade.nodes.host.precision import DEFAULT, precision

    contents = read_part(tiny_files["stage_c"], Part.STAGE_C)
    chosen = precision(DEFAULT, contents.weights, torch.device("cpu"))
    # What the host's dynamic VRAM sets on NVIDIA devices.
    monkeypatch.setattr(comfy.memory_management, "aimdo_enabled", True)
    model = KINDS[Part.STAGE_C].model(contents, host_config(contents, chosen))
    assert model.diffusion_model.clip_txt_mapper.weight is None
    model.load_model_weights(dict(contents.weights), "", assign=True)
    x, t, tokens = unit(1, 16, 5, 5), torch.tensor([0.4]), unit(1, 13, 32)
    ours, plain = model.diffusion_model, tiny.stage_c.model.diffusion_model
    assert torch.equal(ours(x, t, tokens=tokens), plain(x, t, tokens=tokens))


def test_models_sample_the_same_where_memory_is_short(tiny, prompts, ksample, monkeypatch):
    from comfyui_cascade.nodes.host import networks

    prior = with_prior(prompts.positive, unit(1, 16, 9, 13))
    runs = {"stage_c": (prompts.positive, zeros(1, 16, 9, 13)), "stage_b": (prior, zeros(1, 4, 36, 52))}
    whole = {name: ksample(getattr(tiny, name), p, prompts.negative, x) for name, (p, x) in runs.items()}
    monkeypatch.setattr(networks, "ALWAYS_FITS", 0)
    monkeypatch.setattr(networks, "get_free_memory", lambda device: 2**16)
    for name, (positive, latents) in runs.items():
        found = ksample(getattr(tiny, name), positive, prompts.negative, latents)
        assert 0 < difference(found, whole[name]) < SAMPLING_TOLERANCE
