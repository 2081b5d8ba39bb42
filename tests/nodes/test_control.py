"""ControlNets on our Stage C and on the host's, by our nodes and by the host's own."""

import pytest
import tiny_controlnet
import torch
from comfyui_cascade.adapters.steering import run_in
from random_weights import difference, randomise
from safetensors.torch import save_file
from tiny_cascade import unit

TOLERANCE = 1e-5
CELLS = (6, 8)
LATENTS = torch.zeros(1, 16, *CELLS)


@pytest.fixture(scope="module")
def controls(comfy_nodes, tmp_path_factory):
    """A CONTROL_NET of each tiny kind, from a file."""
    from comfyui_cascade.nodes import host

    folder = tmp_path_factory.mktemp("controlnets")
    return {
        kind: host.open_controlnet(tiny_controlnet.write(folder, kind)) for kind in tiny_controlnet.CONFIGS
    }


@pytest.fixture
def hint():
    return torch.rand(1, 48, 64, 3, generator=torch.Generator().manual_seed(3))


def applied(pack, prompts, control, hint, **changes):
    """Both prompts, steered by our node."""
    inputs = {"strength": 1.0, "start_percent": 0.0, "end_percent": 1.0, "apply_to": "both"} | changes
    both = {"positive": prompts.positive, "negative": prompts.negative} | {
        key: inputs.pop(key) for key in ("positive", "negative") if key in inputs
    }
    return pack["CascadeApplyControlNet"](control_net=control, hint=hint, **both, **inputs).result


def residuals_of(control, model, hint, strength=1.0, mask=None):
    """What a CONTROL_NET adds inside a model, in running order."""
    from comfyui_cascade.nodes.host import with_mask

    made = with_mask(control, mask) if mask is not None else control.copy()
    made.set_cond_hint(hint.movedim(-1, 1), strength)
    made.pre_run(model.model, lambda percent: {0.0: 999.0, 1.0: 0.0}[percent])
    return made.get_control(LATENTS, torch.tensor([1.0]), {}, 1, {})["input"][::-1]


@pytest.fixture(scope="module")
def host_control(comfy_nodes, tmp_path_factory):
    """The host's class of a canny ControlNet with random weights, and ours from the file of them."""
    from comfy.controlnet import T2IAdapter
    from comfy.ldm.cascade.controlnet import ControlNet
    from comfyui_cascade.nodes import host

    blocks = [0, 3]
    network = randomise(ControlNet(c_in=1, c_proj=32, proj_blocks=blocks, operations=torch.nn).eval(), 5)
    path = tmp_path_factory.mktemp("released") / "canny.safetensors"
    save_file({k: v.contiguous() for k, v in network.state_dict().items()}, path)
    return T2IAdapter(network, 1, 32, "bilinear"), host.open_controlnet(path, blocks)


@pytest.mark.parametrize(("strength", "start", "end"), [(1.0, 0.0, 1.0), (0.6, 0.0, 0.5), (1.3, 0.3, 0.8)])
def test_steered_sampling_equals_the_hosts_own_classes(
    host_control, tiny, native, prompts, ksample, hint, comfy_nodes, strength, start, end
):
    theirs, ours = host_control
    apply = comfy_nodes.ControlNetApplyAdvanced().apply_controlnet
    expected, found = (
        ksample(
            model, *apply(prompts.positive, prompts.negative, control, hint, strength, start, end), LATENTS
        )
        for model, control in ((native.stage_c, theirs), (tiny.stage_c, ours))
    )
    without = ksample(tiny.stage_c, prompts.positive, prompts.negative, LATENTS)
    assert difference(found, expected) < TOLERANCE
    assert difference(found, without) > 1e-3


def test_our_controlnet_steers_the_hosts_own_stage_c(
    host_control, controls, tiny, native, prompts, ksample, hint, pack
):
    both = applied(pack, prompts, controls["canny"], hint)
    both = applied(pack, prompts, host_control[0], hint, positive=both[0], negative=both[1], strength=0.5)
    ours, theirs = (ksample(model, *both, LATENTS) for model in (tiny.stage_c, native.stage_c))
    assert difference(ours, theirs) < TOLERANCE


def test_control_beside_a_lora_and_an_image_prompt_equals_the_hosts(
    host_control, tiny, native, prompts, ksample, hint, comfy_nodes
):
    import comfy.sd

    name = "lora_prior_unet_down_blocks_0_2_attention_attn_to_q"
    lora = {f"{name}.lora_up.weight": unit(32, 4), f"{name}.lora_down.weight": unit(4, 32, seed=1)}
    seen = comfy_nodes.CLIPVisionEncode().encode(tiny.clip_vision, unit(1, 40, 30, 3).sigmoid(), "center")[0]
    positive = comfy_nodes.unCLIPConditioning().apply_adm(prompts.positive, seen, 0.7, 0.0)[0]
    apply = comfy_nodes.ControlNetApplyAdvanced().apply_controlnet
    ours, theirs = (
        ksample(
            comfy.sd.load_lora_for_models(model, None, lora, 1.0, 0.0)[0],
            *apply(positive, prompts.negative, control, hint, 0.8, 0.0, 1.0),
            LATENTS,
        )
        for model, control in ((tiny.stage_c, host_control[1]), (native.stage_c, host_control[0]))
    )
    assert difference(ours, theirs) < TOLERANCE


def test_residuals_are_those_of_the_network_on_the_scaled_hint(controls, tiny, hint):
    network = tiny_controlnet.network("canny")
    grey = hint.movedim(-1, 1).mean(dim=1, keepdim=True)
    scaled = torch.nn.functional.interpolate(grey, (CELLS[0] * 16, CELLS[1] * 16), mode="bilinear")
    found = residuals_of(controls["canny"], tiny.stage_c, hint)
    for ours, expected in zip(found, network(scaled), strict=True):
        assert (ours is None) == (expected is None)
        assert ours is None or difference(ours, expected) < TOLERANCE


def test_strength_multiplies_what_is_added(controls, tiny, hint):
    once, twice = (residuals_of(controls["canny"], tiny.stage_c, hint, strength) for strength in (1.0, -2.0))
    for a, b in zip(once, twice, strict=True):
        assert (a is None) == (b is None)
        assert a is None or torch.equal(-2 * a, b)


def test_zero_strength_leaves_the_prompts_as_they_are(controls, prompts, pack, hint):
    positive, negative = applied(pack, prompts, controls["canny"], hint, strength=0.0)
    assert positive is prompts.positive
    assert negative is prompts.negative


def test_outside_its_mask_a_controlnet_adds_nothing(controls, tiny, hint):
    mask = torch.zeros(1, 48, 64)
    mask[:, :, :32] = 1
    whole = residuals_of(controls["canny"], tiny.stage_c, hint)
    inside = residuals_of(controls["canny"], tiny.stage_c, hint, mask=mask)
    for a, b in zip(whole, inside, strict=True):
        if a is not None:
            assert torch.equal(b[..., :4], a[..., :4])
            assert not b[..., 4:].any()


def test_masks_and_latents_of_a_batch_belong_together(controls, tiny, prompts, pack, hint, ksample):
    masks = torch.stack([torch.zeros(48, 64), torch.ones(48, 64)])
    both = applied(pack, prompts, controls["canny"], hint, mask=masks)
    drawn = ksample(tiny.stage_c, *both, LATENTS.repeat(2, 1, 1, 1))
    without = ksample(tiny.stage_c, prompts.positive, prompts.negative, LATENTS.repeat(2, 1, 1, 1))
    assert difference(drawn[:1], without[:1]) < TOLERANCE
    assert difference(drawn[1:], without[1:]) > 1e-3


def test_several_controlnets_add_up_in_any_order(controls, tiny, prompts, pack, ksample, hint):
    latents = unit(1, *CELLS, 16)
    orders = []
    for order in (("canny", "super-resolution"), ("super-resolution", "canny")):
        both = (prompts.positive, prompts.negative)
        for kind in order:
            given = latents if kind == "super-resolution" else hint
            both = applied(pack, prompts, controls[kind], given, positive=both[0], negative=both[1])
        orders.append(ksample(tiny.stage_c, *both, LATENTS))
    alone = ksample(tiny.stage_c, *applied(pack, prompts, controls["canny"], hint), LATENTS)
    assert difference(*orders) < TOLERANCE
    assert difference(orders[0], alone) > 1e-3


@pytest.mark.parametrize(("apply_to", "steered"), [("positive", (True, False)), ("negative", (False, True))])
def test_one_of_the_prompts_alone_can_be_steered(
    controls, prompts, pack, hint, apply_to, steered, tiny, ksample
):
    both = applied(pack, prompts, controls["canny"], hint, apply_to=apply_to)
    assert tuple("control" in entries for side in both for _, entries in side) == steered
    assert not any("control" in entries for _, entries in prompts.positive + prompts.negative)
    assert ksample(tiny.stage_c, *both, LATENTS, steps=1).isfinite().all()


def test_prompts_that_share_a_controlnet_run_in_one_batch(controls, prompts, pack, hint):
    positive, negative = applied(pack, prompts, controls["canny"], hint)
    assert positive[0][1]["control"] is negative[0][1]["control"]


def test_the_host_manages_the_networks_memory(controls, prompts, pack, hint):
    both = applied(pack, prompts, controls["canny"], hint)
    both = applied(pack, prompts, controls["colours"], hint, positive=both[0], negative=both[1])
    control = both[0][0][1]["control"]
    assert control.get_models() == [controls["canny"].patcher, controls["colours"].patcher]
    assert control.inference_memory_requirements(torch.float32) > 0


def test_network_follows_the_models_precision_and_stays_as_it_is(controls, tiny, tiny_files, hint):
    from comfyui_cascade.nodes import host

    half = host.load_model(tiny_files["stage_c"], host.Part.STAGE_C, "bf16")
    before = {key: value.clone() for key, value in controls["canny"].network.state_dict().items()}
    for model, dtype in ((half, half.model.get_dtype_inference()), (tiny.stage_c, torch.float32)):
        control = controls["canny"].copy()
        control.set_cond_hint(hint.movedim(-1, 1))
        control.pre_run(model.model, lambda percent: 0.0)
        assert control.dtype == dtype
    for key, value in controls["canny"].network.state_dict().items():
        assert torch.equal(value, before[key])
    # The reduced precision itself: near to the exact result, and not it.
    network = controls["canny"].network
    exact, narrow = (run_in(network, hint[..., :1].movedim(-1, 1).to(d))[0] for d in (
        torch.float32, torch.bfloat16))  # fmt: skip
    assert narrow.dtype == torch.bfloat16
    assert 0 < difference(narrow, exact) < 0.1


def test_controlnet_on_another_model_is_refused(controls, tiny, prompts, pack, ksample, hint):
    positive, negative = applied(pack, prompts, controls["canny"], hint)
    prior = unit(1, 16, 6, 6)
    positive = [[text, {**entries, "stable_cascade_prior": prior}] for text, entries in positive]
    with pytest.raises(
        ValueError, match=r"`canny.safetensors` is a ControlNet of Stage C, and the model .*CascadeB"
    ):
        ksample(tiny.stage_b, positive, negative, torch.zeros(1, 4, 32, 32))


def test_sampler_of_both_stages_steers_stage_c_and_leaves_stage_b_alone(controls, tiny, prompts, pack, hint):
    latents = pack["CascadeEmptyLatents"](
        width=128, height=96, batch_size=1, compression=0.0, stage_c=tiny.stage_c
    )
    settings = {
        f"{name}_{stage}": value
        for stage in "bc"
        for name, value in {
            "steps": 2, "cfg": 2.0, "sampler": "ddpm", "scheduler": "simple", "denoise": 1.0,
        }.items()
    }  # fmt: skip
    models = {"stage_c": tiny.stage_c, "stage_b": tiny.stage_b, "seed": 3}
    starts = {"stage_c_latent": latents[0], "stage_b_latent": latents[1]}

    def drawn(positive, negative):
        return pack["CascadeSampler"](positive=positive, negative=negative, **models, **starts, **settings)

    free, steered = (
        drawn(prompts.positive, prompts.negative),
        drawn(*applied(pack, prompts, controls["canny"], hint)),
    )
    assert difference(steered[1]["samples"], free[1]["samples"]) > 1e-3
    assert steered[0]["samples"].isfinite().all()
    wired = pack["CascadeDecoderConditioning"](
        conditioning=applied(pack, prompts, controls["canny"], hint)[0], stage_c=free[1]
    )[0]
    assert not any("control" in entries for _, entries in wired)


def test_controlnet_of_another_size_is_refused(comfy_nodes, tiny, hint, tmp_path):
    from comfyui_cascade.nodes import host
    from safetensors.torch import load_file

    path = tiny_controlnet.write(tmp_path, "canny")
    beyond = host.open_controlnet(path, (0, 2, 40))
    with pytest.raises(ValueError, match="feeds residual block 40, and this Stage C has 4"):
        residuals_of(beyond, tiny.stage_c, hint)
    weights = {k: v[:16].clone() if k.startswith("projections.") and k.endswith(".2.weight") else v
               for k, v in load_file(path).items()}  # fmt: skip
    save_file(weights, tmp_path / "narrow.safetensors", tiny_controlnet.metadata("canny"))
    narrow = host.open_controlnet(tmp_path / "narrow.safetensors")
    with pytest.raises(
        ValueError, match="made for a Stage C of width 16, and residual block 0 of this one has 32"
    ):
        residuals_of(narrow, tiny.stage_c, hint)


@pytest.mark.parametrize(
    ("kind", "given", "wanted"),
    [
        ("inpainting", 3, "Hint Inpaint"),
        ("super-resolution", 3, "Hint Super-Resolution"),
        ("canny", 16, "a picture"),
    ],
)
def test_hint_of_other_channels_is_refused(controls, tiny, kind, given, wanted):
    with pytest.raises(ValueError, match=f"and one of {given} was given: wire {wanted}"):
        residuals_of(controls[kind], tiny.stage_c, torch.rand(1, 32, 32, given))


def test_mask_on_a_controlnet_of_the_hosts_loader_is_refused(host_control, prompts, pack, hint):
    with pytest.raises(ValueError, match="of another loader"):
        applied(pack, prompts, host_control[0], hint, mask=torch.ones(1, 48, 64))


def test_loader_offers_the_hosts_folder_and_takes_blocks(pack, tmp_path, folders):
    from comfyui_cascade.nodes.host import adapter_choices

    path = tiny_controlnet.write(tmp_path, "canny", blocks=None)
    folders("controlnet", path, "edges/mine.safetensors", kind="controlnet")
    assert "edges/mine.safetensors" in [choice.replace("\\", "/") for choice in adapter_choices("controlnet")]
    with pytest.raises(ValueError, match=r"`mine.safetensors`: the ControlNet has 3 projections"):
        pack["CascadeLoadControlNet"](file="edges/mine.safetensors")
    control = pack["CascadeLoadControlNet"](file="edges/mine.safetensors", blocks="1-3")[0]
    assert control.network.config.blocks == (1, 2, 3)


def test_inpaint_hint_paints_holes_and_borders_white(pack):
    image, mask = torch.rand(1, 32, 48, 3), torch.zeros(1, 16, 24)
    mask[:, 4:8, 4:8] = 1
    hint, preview, larger, hole = pack["CascadeHintInpaint"](
        image=image, threshold=0.5, left=16, top=0, right=0, bottom=8, mask=mask
    ).result
    assert hint.shape == (1, 40, 64, 4)
    assert torch.equal(hint[..., 3], hole)
    assert hole[:, :, :16].all()
    assert hole[:, 32:].all()
    assert (preview[hole > 0] == 1).all()
    assert torch.equal(larger[:, :32, 16:], image)
    kept = hole[:, :32, 16:] == 0
    assert torch.equal(preview[:, :32, 16:][kept], image[kept])
    assert kept.float().mean() > 0.8


def test_inpaint_hint_without_a_hole_is_refused(pack):
    with pytest.raises(ValueError, match="nothing to paint"):
        pack["CascadeHintInpaint"](
            image=torch.rand(1, 32, 32, 3), threshold=0.5, left=0, top=0, right=0, bottom=0
        )


def test_super_resolution_hint_is_the_small_pictures_latents_twice_as_wide(pack, tiny):
    image = torch.rand(1, 128, 256, 3)
    hint, preview, stage_c, stage_b = pack["CascadeHintSuperResolution"](
        image=image, semantic_encoder=tiny.coder, scale=2, compression=0.0
    ).result
    assert hint.shape == (1, 12, 24, 16)  # 128x256 pixels at 21.33 are 6x12 cells
    assert torch.equal(hint[:, ::2, ::2], hint[:, 1::2, 1::2])
    latents = pack["CascadeEncodeImage"](image=image, semantic_encoder=tiny.coder, compression=0.0)[0]
    assert torch.equal(hint[:, ::2, ::2].movedim(-1, 1), latents["samples"])
    assert stage_c["samples"].shape == (1, 16, 12, 24)
    assert stage_b["samples"].shape == (1, 4, 64, 128)
    assert preview.shape[-1] == 3


def test_canny_hint_is_an_image_of_soft_lines(pack):
    image = torch.zeros(2, 96, 160, 3)
    image[:, 20:70, 40:120] = 1
    hint = pack["CascadeHintCanny"](image=image, low_threshold=100.0, high_threshold=200.0, side=224)[0]
    assert hint.shape == image.shape
    assert hint[:, 40, 38:42].max() > 0.3
    assert not hint[:, 30:60, 60:100].any()


def test_identity_hint_shows_each_face_in_its_place(pack):
    from comfyui_cascade.adapters.hints import Face

    faces = [Face((0.0, 0.0, 0.5, 0.5), unit(512)), Face((0.5, 0.5, 1.0, 1.0), unit(512, seed=1))]
    hint, preview = pack["CascadeHintIdentity"](faces=faces, width=256, height=128).result
    assert hint.shape == (1, 4, 8, 512)
    assert preview.shape == (1, 128, 256, 3)
    assert hint[:, :2, :4].norm(dim=-1).allclose(torch.ones(1, 2, 4))
    assert not hint[:, :2, 4:].any()


def test_missing_face_library_is_said_with_what_to_install(pack, monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, "insightface.app", None)
    with pytest.raises(ValueError, match="pip install insightface onnxruntime"):
        pack["CascadeDetectFaces"](image=torch.rand(1, 64, 64, 3), models="buffalo_l", count=4, threshold=0.5)


def test_identify_names_the_kind_of_a_controlnet(pack, tmp_path, folders):
    folders("controlnet", tiny_controlnet.write(tmp_path, "canny"), "what.safetensors", kind="controlnet")
    text = pack["CascadeIdentify"](file="controlnet/what.safetensors")[0]
    assert "a Stage C ControlNet (canny)" in text
