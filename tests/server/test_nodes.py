"""Our nodes among the host's own, on a real server."""

import shutil
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image

NODES = {
    "CascadeLoadStageA": (["file"], ["VAE"]),
    "CascadeLoadStageB": (["file", "weight_dtype", "compile"], ["MODEL"]),
    "CascadeLoadStageC": (["file", "weight_dtype", "compile"], ["MODEL"]),
    "CascadeLoadTextEncoder": (["file", "weight_dtype"], ["CLIP"]),
    "CascadeLoadImageEncoder": (["file"], ["CLIP_VISION"]),
    "CascadeLoadSemanticEncoder": (["file", "previewer"], ["VAE"]),
    "CascadeLoadCheckpoint": (["file", "weight_dtype"], ["MODEL", "CLIP", "VAE", "CLIP_VISION"]),
    "CascadeLoadPipeline": (
        ["stage_c", "stage_b", "stage_a", "text_encoder", "semantic_encoder", "previewer", "weight_dtype"],
        ["MODEL", "MODEL", "VAE", "CLIP", "VAE"],
    ),
    "CascadeSaveStage": (["part", "filename_prefix", "layout", "weight_dtype"], []),
    "CascadeEmptyLatents": (
        ["width", "height", "batch_size", "compression", "stage_c"],
        ["LATENT", "LATENT"],
    ),
    "CascadePickResolution": (
        ["aspect", "size", "megapixels", "long_side", "batch_size", "multiple", "stage_c"],
        ["INT", "INT", "INT", "STRING"],
    ),
    "CascadeIdentify": (["file"], ["STRING"]),
    "CascadeExamplePicture": (["picture"], ["IMAGE"]),
    "CascadeEncodeImage": (["image", "semantic_encoder", "compression", "stage_a"], ["LATENT", "LATENT"]),
    "CascadePreviewLatent": (["stage_c", "semantic_encoder"], ["IMAGE"]),
    "CascadeFitImage": (
        ["image", "way", "width", "height", "place", "multiple", "fill", "mask"],
        ["IMAGE", "MASK", "INT", "INT", "STRING"],
    ),
    "CascadeMaskLatents": (["stage_c", "stage_b", "mask", "feather"], ["LATENT", "LATENT", "MASK"]),
    "CascadeImagePrompt": (
        [
            "clip_vision", "images", "weights", "together", "noise", "crop", "conditioning", "negative",
            "clip",
        ],
        ["CONDITIONING", "CONDITIONING"],
    ),
    "CascadeLoadImageAdapter": (["file"], ["CASCADE_IMAGE_ADAPTER"]),
    "CascadeApplyImageAdapter": (
        [
            "model", "image_adapter", "clip_vision", "image", "scale", "start_percent", "end_percent", "crop",
            "region",
        ],
        ["MODEL"],
    ),
    "CascadeLoadLora": (
        ["model", "file", "strength_model", "strength_clip", "clip", "words"],
        ["MODEL", "CLIP", "STRING"],
    ),
    "CascadeCreateHookLora": (
        ["model", "file", "strength_model", "strength_clip", "clip", "prev_hooks"],
        ["HOOKS"],
    ),
    "CascadeLoadControlNet": (["file", "blocks"], ["CONTROL_NET"]),
    "CascadeApplyControlNet": (
        [
            "positive", "negative", "control_net", "hint", "strength", "start_percent", "end_percent",
            "apply_to", "mask",
        ],
        ["CONDITIONING", "CONDITIONING"],
    ),
    "CascadeHintCanny": (["image", "low_threshold", "high_threshold", "side"], ["IMAGE"]),
    "CascadeHintInpaint": (
        ["image", "threshold", "left", "top", "right", "bottom", "mask"],
        ["IMAGE", "IMAGE", "IMAGE", "MASK"],
    ),
    "CascadeHintSuperResolution": (
        ["image", "semantic_encoder", "scale", "compression"],
        ["IMAGE", "IMAGE", "LATENT", "LATENT"],
    ),
    "CascadeDetectFaces": (["image", "models", "count", "threshold"], ["CASCADE_FACES", "IMAGE"]),
    "CascadeHintIdentity": (["faces", "width", "height"], ["IMAGE", "IMAGE"]),
    "CascadeDecoderConditioning": (["conditioning", "stage_c"], ["CONDITIONING"]),
    "CascadeSampler": (
        [
            "stage_c", "stage_b", "positive", "negative", "stage_c_latent", "stage_b_latent", "seed",
            "steps_c", "cfg_c", "sampler_c", "scheduler_c", "denoise_c",
            "steps_b", "cfg_b", "sampler_b", "scheduler_b", "denoise_b", "rescale", "noise",
        ],
        ["LATENT", "LATENT"],
    ),
    "CascadeScheduler": (
        ["model", "spacing", "steps", "denoise", "shift", "end", "trained_cells", "latents"],
        ["SIGMAS"],
    ),
    "CascadeSamplerSelect": (["sampler", "eta"], ["SAMPLER"]),
    "CascadeGuider": (
        [
            "model", "positive", "cfg", "cfg_end", "rescale", "method", "start", "end", "rescale_over",
            "cfg_image", "negative_strength", "negative", "empty",
        ],
        ["GUIDER"],
    ),
    "CascadeNoise": (["noise_seed"], ["NOISE"]),
    "CascadeTileDecoder": (["stage_b", "tile", "overlap"], ["MODEL"]),
    "CascadeGuideLargeForms": (["stage_c", "guide", "strength", "end_percent"], ["MODEL"]),
    "CascadeReuseBlocks": (["stage_c", "every", "start_percent", "end_percent"], ["MODEL"]),
    "CascadeDownsampleKeys": (["model", "max_cells"], ["MODEL"]),
    "CascadeSamplingPreset": (
        ["model", "positive", "negative", "preset", "steps", "denoise"],
        ["GUIDER", "SAMPLER", "SIGMAS"],
    ),
}  # fmt: skip
"""The public contract: ids, inputs in order, outputs."""

WIDGETS = {
    "seed": 4, "steps_c": 2, "cfg_c": 2.0, "sampler_c": "ddpm", "scheduler_c": "simple", "denoise_c": 1.0,
    "steps_b": 2, "cfg_b": 2.0, "sampler_b": "ddpm", "scheduler_b": "simple", "denoise_b": 1.0,
}  # fmt: skip


def sampler(graph, cascade, **changes):
    """The sampler node."""
    sockets = {
        "stage_c": cascade.stage_c, "stage_b": cascade.stage_b, "positive": cascade.positive,
        "negative": cascade.negative, "stage_c_latent": cascade.empty_c, "stage_b_latent": cascade.empty_b,
    }  # fmt: skip
    return graph.add("CascadeSampler", **{**sockets, **WIDGETS, **changes})


def picture(server, name="colours.png", width=160, height=128):
    """An uploaded picture; its name for LoadImage."""
    values = np.random.default_rng(0).integers(0, 255, (height // 16, width // 16, 3), dtype=np.uint8)
    return server.upload(name, Image.fromarray(values).resize((width, height)))


def test_every_node_is_there_with_its_sockets(server):
    info = server.object_info()
    for name, (inputs, outputs) in NODES.items():
        assert [*info[name]["input"]["required"], *info[name]["input"].get("optional", {})] == inputs
        assert info[name]["output"] == outputs
    assert {name for name in info if name.startswith("Cascade")} == set(NODES)


def test_every_node_explains_itself(server):
    info = server.object_info()
    for name in NODES:
        node = info[name]
        assert node["display_name"].endswith("(Cascade)")
        assert node["category"].split("/")[0] == "cascade"
        assert node["category"].split("/")[1] in {"load", "latent", "condition", "sample", "adapt", "save"}
        assert node["description"]
        for _, *options in (*node["input"]["required"].values(), *node["input"].get("optional", {}).values()):
            assert options[0]["tooltip"]
        assert all(node["output_tooltips"])


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


def test_page_sees_progress_and_a_preview_of_each_step(graph, cascade, listener):
    both = sampler(graph, cascade, seed=77, steps_c=3, steps_b=2)
    graph.add("SaveLatent", samples=both[0], filename_prefix="latents/seen")
    events = listener.events(graph.prompt(), preview_method="latent2rgb")
    assert events[-1][0] == "execution_success"
    steps = [
        (data["value"], data["max"])
        for kind, data in events
        if kind == "progress" and data["node"] == both.id
    ]
    assert steps == [(1, 3), (2, 3), (3, 3), (1, 2), (2, 2)]
    assert sum(kind == "preview" for kind, _ in events) >= 2


def test_page_is_told_of_unknown_words_once(tiny_server, graph, cascade, listener):
    prompt = graph.add("CLIPTextEncode", clip=cascade.clip, text="a red zeppelin")
    both = sampler(graph, cascade, positive=prompt[0])
    graph.add("SaveLatent", samples=both[0], filename_prefix="latents/told")
    events = listener.events(graph.prompt())
    told = [data for kind, data in events if kind == "text"]
    assert told == ["This text encoder does not know, and left out: zeppelin"]
    assert tiny_server.log().count("left out: zeppelin") == 1


def test_interrupt_ends_between_steps_and_the_next_prompt_runs(tiny_server, graph, cascade, listener, run):
    both = sampler(graph, cascade, seed=5, steps_c=5000)
    graph.add("SaveLatent", samples=both[0], filename_prefix="latents/never")
    steps = []

    def stop(kind, data):
        if kind == "progress":
            steps.append(data["value"])
            if len(steps) == 1:
                listener.post("/interrupt", {})

    assert listener.events(graph.prompt(), on_event=stop)[-1][0] == "execution_interrupted"
    assert steps[-1] < 5000
    graph.nodes[both.id]["inputs"]["steps_c"] = 1
    assert run(both[0])[0].isfinite().all()


@pytest.fixture
def wrong_file(tiny_server):
    """Puts a file into a folder of the server; its name."""
    import shutil

    def put(folder, name, content):
        path = tiny_server.models_dir / folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if isinstance(content, bytes):
            path.write_bytes(content)
        else:
            shutil.copyfile(tiny_server.models_dir / content, path)
        return name

    return put


def refused(server, graph, cascade, link, node):
    """What the server says of a graph that must fail, in one sentence; and the next prompt runs."""
    add = {"LATENT": "SaveLatent", "IMAGE": "SaveImage"}[node]
    end = graph.add(add, **{"samples" if node == "LATENT" else "images": link}, filename_prefix="wrong")
    text = server.error(graph.prompt())
    del graph.nodes[end.id]
    graph.add("SaveLatent", samples=cascade.empty_c, filename_prefix="latents/next")
    assert server.queue(graph.prompt())["status"]["status_str"] == "success"
    first, *_ = text.splitlines()
    return first


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("tiny_stage_b.safetensors", None, "use Load Stage B (Cascade)"),
        (
            "text.safetensors",
            "text_encoders/tiny_text_encoder.safetensors",
            "use Load Text Encoder (Cascade)",
        ),
        (
            "pickle.safetensors",
            b"\x80\x04\x95" + bytes(99),
            "is a PyTorch pickle that was renamed to .safetensors",
        ),
        ("empty.safetensors", b"", "`empty.safetensors` is empty"),
    ],
)
def test_wrong_files_end_in_a_sentence(
    tiny_server, graph, cascade, ksampler, wrong_file, name, content, message
):
    if content is not None:
        wrong_file("diffusion_models", name, content)
    model = graph.add("CascadeLoadStageC", file=name)[0]
    latents = ksampler(model, cascade.positive, cascade.negative, cascade.empty_c)
    text = refused(tiny_server, graph, cascade, latents, "LATENT")
    assert "CascadeLoadStageC" in text
    assert message in text


def test_cut_and_foreign_files_end_in_a_sentence(tiny_server, graph, cascade, ksampler, wrong_file):
    import safetensors.torch

    whole = (tiny_server.models_dir / "diffusion_models/tiny_stage_c.safetensors").read_bytes()
    sdxl = {
        "conditioner.embedders.0.x": torch.zeros(1),
        "model.diffusion_model.input_blocks.0.0.weight": torch.zeros(1),
    }
    for name, content, message in (
        ("cut.safetensors", whole[:-100], "is cut short"),
        ("sdxl.safetensors", safetensors.torch.save(sdxl), "is an SDXL checkpoint"),
    ):
        wrong_file("diffusion_models", name, content)
        model = graph.add("CascadeLoadStageC", file=name)[0]
        latents = ksampler(model, cascade.positive, cascade.negative, cascade.empty_c)
        assert message in refused(tiny_server, graph, cascade, latents, "LATENT")


def test_wrong_wiring_ends_in_a_sentence(tiny_server, graph, cascade, ksampler):
    other = graph.add(
        "CascadeEmptyLatents", width=96, height=160, batch_size=3, compression=0.0, stage_c=cascade.stage_c
    )
    drawn = ksampler(cascade.stage_c, cascade.positive, cascade.negative, cascade.empty_c)
    positive = graph.add("CascadeDecoderConditioning", conditioning=cascade.positive, stage_c=drawn)[0]
    b = cascade.stage_b
    cases = [
        (ksampler(b, cascade.positive, cascade.negative, cascade.empty_b), "without its conditioning"),
        (ksampler(b, positive, cascade.negative, drawn), "Stage B was given latents of 16 channels"),
        (ksampler(b, positive, cascade.negative, cascade.empty_c), "at least 16 along each side"),
        (ksampler(b, positive, cascade.negative, other[1]), "3 latents of Stage B for 2 of Stage C"),
        (sampler(graph, cascade, stage_b_latent=other[1])[0], "3 latents of Stage B for 2 of Stage C"),
        (sampler(graph, cascade, stage_c=b)[0], "the model on stage_c works on latents of 4 channels"),
        (
            sampler(graph, cascade, stage_b_latent=cascade.empty_c)[0],
            "Stage B was given latents of 16 channels",
        ),
    ]
    for link, message in cases:
        assert message in refused(tiny_server, graph, cascade, link, "LATENT")
    image = graph.add("VAEDecode", samples=drawn, vae=cascade.stage_a)[0]
    text = refused(tiny_server, graph, cascade, image, "IMAGE")
    assert "Stage A was given latents of 16 channels, as those of Stage C have" in text


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
