"""The public contract of our nodes as a real server tells it: ids, inputs, outputs, explanations."""

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
