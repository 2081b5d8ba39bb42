"""Our nodes among the host's own, on a real server."""

import shutil
from types import SimpleNamespace

import numpy as np
import torch
from comfy_graph import sampler
from PIL import Image


def picture(server, name="colours.png", width=160, height=128):
    """An uploaded picture; its name for LoadImage."""
    values = np.random.default_rng(0).integers(0, 255, (height // 16, width // 16, 3), dtype=np.uint8)
    return server.upload(name, Image.fromarray(values).resize((width, height)))


def test_sampler_node_is_the_wired_graph_to_the_bit(graph, cascade, ksampler, run):
    both = sampler(graph, cascade)
    c = ksampler(cascade.stage_c, cascade.positive, cascade.negative, cascade.empty_c)
    positive = graph.add("CascadeDecoderConditioning", conditioning=cascade.positive, stage_c=c)[0]
    b = ksampler(cascade.stage_b, positive, cascade.negative, cascade.empty_b)
    node_b, node_c, wired_b, wired_c = run(both[0], both[1], b, c)
    assert node_c.shape == (2, 16, 5, 6)
    assert node_b.shape == (2, 4, 24, 32)
    assert torch.equal(node_c, wired_c)
    assert torch.equal(node_b, wired_b)


def test_custom_sampling_gives_what_ksampler_gives(graph, cascade, ksampler, run):
    def custom(model, positive, latents):
        guider = graph.add("CFGGuider", model=model, positive=positive, negative=cascade.negative, cfg=2.0)
        sigmas = graph.add("BasicScheduler", model=model, scheduler="simple", steps=2, denoise=1.0)
        method = graph.add("KSamplerSelect", sampler_name="ddpm")
        noise = graph.add("RandomNoise", noise_seed=4)
        return graph.add(
            "SamplerCustomAdvanced", noise=noise[0], guider=guider[0], sampler=method[0], sigmas=sigmas[0],
            latent_image=latents,
        )[0]  # fmt: skip

    c = custom(cascade.stage_c, cascade.positive, cascade.empty_c)
    positive = graph.add("CascadeDecoderConditioning", conditioning=cascade.positive, stage_c=c)[0]
    b = custom(cascade.stage_b, positive, cascade.empty_b)
    both = sampler(graph, cascade)
    custom_b, custom_c, node_b, node_c = run(b, c, both[0], both[1])
    assert torch.equal(custom_c, node_c)
    assert torch.equal(custom_b, node_b)


def test_hosts_own_cascade_nodes_fit_ours(graph, cascade, ksampler, run):
    empty = graph.add("StableCascade_EmptyLatentImage", width=256, height=256, compression=21, batch_size=1)
    ours = graph.add(
        "CascadeEmptyLatents", width=256, height=256, batch_size=1, compression=0.0, stage_c=cascade.stage_c
    )
    same_shift = graph.add("ModelSamplingStableCascade", model=cascade.stage_c, shift=2.0)[0]
    other_shift = graph.add("ModelSamplingStableCascade", model=cascade.stage_c, shift=4.0)[0]
    found = {}
    for name, model, latents in (
        ("ours", cascade.stage_c, ours), ("empty", cascade.stage_c, empty), ("shift", same_shift, ours),
        ("other shift", other_shift, ours),
    ):  # fmt: skip
        c = ksampler(model, cascade.positive, cascade.negative, latents[0])
        node = "StableCascade_StageB_Conditioning" if name == "empty" else "CascadeDecoderConditioning"
        positive = graph.add(node, conditioning=cascade.positive, stage_c=c)[0]
        found[name] = ksampler(cascade.stage_b, positive, cascade.negative, latents[1])
    results = dict(zip(found, run(*found.values()), strict=True))
    assert torch.equal(results["ours"], results["empty"])
    torch.testing.assert_close(results["ours"], results["shift"], rtol=1e-3, atol=1e-2)
    assert (results["ours"] - results["other shift"]).abs().max() > 0.1


def test_pictures_are_encoded_decoded_and_previewed(tiny_server, graph, cascade, run):
    image = graph.add("LoadImage", image=picture(tiny_server))[0]
    ours = graph.add(
        "CascadeEncodeImage",
        image=image,
        semantic_encoder=cascade.coder,
        compression=0.0,
        stage_a=cascade.stage_a,
    )
    theirs = graph.add("StableCascade_StageC_VAEEncode", image=image, vae=cascade.coder, compression=16)
    close = graph.add("CascadeEncodeImage", image=image, semantic_encoder=cascade.coder, compression=16.0)
    by_vae = graph.add("VAEEncode", pixels=image, vae=cascade.stage_a)
    for vae, latents in ((cascade.stage_a, ours[1]), (cascade.coder, ours[0])):
        decoded = graph.add("VAEDecode", samples=latents, vae=vae)[0]
        graph.add("SaveImage", images=decoded, filename_prefix="decoded")
    tiled = graph.add(
        "VAEDecodeTiled", samples=ours[1], vae=cascade.stage_a, tile_size=64, overlap=32, temporal_size=64,
        temporal_overlap=8,
    )[0]  # fmt: skip
    graph.add("SaveImage", images=tiled, filename_prefix="tiled")
    preview = graph.add("CascadePreviewLatent", stage_c=ours[0], semantic_encoder=cascade.coder)[0]
    graph.add("SaveImage", images=preview, filename_prefix="preview")
    c, b, native_c, close_c, vae_b = run(ours[0], ours[1], theirs[0], close[0], by_vae[0])
    assert c.shape == (1, 16, 6, 8)
    assert b.shape == (1, 4, 32, 40)
    assert torch.equal(b, vae_b)
    torch.testing.assert_close(native_c, close_c)
    sizes = [image.size for image in tiny_server.images(tiny_server.queue(graph.prompt()))]
    assert sorted(sizes) == [(64, 48), (64, 48), (160, 128), (160, 128)]


def test_masked_latents_keep_what_is_masked(tiny_server, graph, cascade, ksampler, run):
    image = graph.add("LoadImage", image=picture(tiny_server))[0]
    encoded = graph.add(
        "CascadeEncodeImage",
        image=image,
        semantic_encoder=cascade.coder,
        compression=0.0,
        stage_a=cascade.stage_a,
    )
    drawn = graph.add("SolidMask", value=1.0, width=80, height=128)[0]
    kept = graph.add("SolidMask", value=0.0, width=160, height=128)[0]
    half = graph.add("MaskComposite", destination=kept, source=drawn, x=0, y=0, operation="add")[0]
    c_masked = graph.add("SetLatentNoiseMask", samples=encoded[0], mask=half)[0]
    b_masked = graph.add("SetLatentNoiseMask", samples=encoded[1], mask=half)[0]
    both = sampler(graph, cascade, stage_c_latent=c_masked, stage_b_latent=b_masked)
    c, b, new_c, new_b = run(encoded[0], encoded[1], both[1], both[0])
    for before, after in ((c, new_c), (b, new_b)):
        middle = before.shape[-1] // 2
        torch.testing.assert_close(before[..., middle + 1 :], after[..., middle + 1 :], rtol=1e-3, atol=1e-3)
        assert (before[..., : middle - 1] - after[..., : middle - 1]).abs().max() > 0.01


def test_batched_latents_are_drawn_together(graph, cascade, run):
    def batched(latents):
        return graph.add("LatentBatch", samples1=latents, samples2=latents)[0]

    start = {"stage_c_latent": batched(cascade.empty_c), "stage_b_latent": batched(cascade.empty_b)}
    both = sampler(graph, cascade, **start, sampler_c="euler", sampler_b="euler")
    for latents in run(both[0], both[1]):
        assert latents.shape[0] == 4
        torch.testing.assert_close(latents[:2], latents[2:], rtol=1e-3, atol=1e-3)  # batch_index says so
        assert (latents[0] - latents[1]).abs().max() > 0.01


def test_image_prompt_changes_the_picture(tiny_server, graph, cascade, run):
    image = graph.add("LoadImage", image=picture(tiny_server))[0]
    seen = graph.add("CLIPVisionEncode", clip_vision=cascade.clip_vision, image=image, crop="center")[0]
    positive = graph.add(
        "unCLIPConditioning", conditioning=cascade.positive, clip_vision_output=seen, strength=1.0,
        noise_augmentation=0.0,
    )[0]  # fmt: skip
    plain, prompted = run(sampler(graph, cascade)[1], sampler(graph, cascade, positive=positive)[1])
    assert (plain - prompted).abs().max() > 0.01


def test_pipeline_draws_what_the_single_loaders_draw(tiny_server, graph, cascade, run):
    names = ("stage_c", "stage_b", "stage_a", "text_encoder", "semantic_encoder", "previewer")
    whole = graph.add("CascadeLoadPipeline", **{name: f"tiny_{name}.safetensors" for name in names})
    positive, negative = (
        graph.add("CLIPTextEncode", clip=whole[3], text=text)[0] for text in ("a red cat", "")
    )
    together = SimpleNamespace(
        stage_c=whole[0], stage_b=whole[1], positive=positive, negative=negative,
        empty_c=cascade.empty_c, empty_b=cascade.empty_b,
    )  # fmt: skip
    ours, theirs = run(sampler(graph, together)[0], sampler(graph, cascade)[0])
    assert torch.equal(ours, theirs)


def test_saved_stage_is_loaded_and_draws_the_same(tiny_server, graph, cascade, ksampler, run):
    graph.add(
        "CascadeSaveStage", part=cascade.stage_c, filename_prefix="cascade/kept", layout="stability",
        weight_dtype="as it is",
    )  # fmt: skip
    (before,) = run(ksampler(cascade.stage_c, cascade.positive, cascade.negative, cascade.empty_c))
    saved = tiny_server.base / "output" / "cascade" / "kept_00001_.safetensors"
    shutil.copyfile(saved, tiny_server.models_dir / "diffusion_models" / "kept.safetensors")
    again = graph.add("CascadeLoadStageC", file="kept.safetensors", weight_dtype="fp32")[0]
    (after,) = run(ksampler(again, cascade.positive, cascade.negative, cascade.empty_c))
    assert torch.equal(before, after)


def test_missing_part_of_a_checkpoint_is_named_in_the_graph(tiny_server, graph):
    folder = tiny_server.models_dir / "checkpoints"
    folder.mkdir(exist_ok=True)
    shutil.copyfile(tiny_server.models_dir / "vae" / "tiny_stage_a.safetensors", folder / "a.safetensors")
    loaded = graph.add("CascadeLoadCheckpoint", file="a.safetensors")
    text = graph.add("CLIPTextEncode", clip=loaded[1], text="a cat")
    graph.add("PreviewAny", source=text[0])
    said = tiny_server.error(graph.prompt())
    assert "`a.safetensors` holds no CLIP text encoder: load one with Load Text Encoder (Cascade)" in said
