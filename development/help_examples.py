"""An example of every node, by its id."""

from __future__ import annotations

from .help_graphs import (
    BALLOONS,
    BOAT,
    CHECKPOINT,
    CUSTOM,
    ENCODED,
    END,
    HOUSE,
    LATENTS,
    MUSHROOM,
    PICTURE,
    PREVIEW,
    PROMPTS,
    SCENE,
    STEPWISE,
    TEXT,
    WHOLE,
    Example,
    Graph,
    Panel,
    between,
    changed,
    hole,
    node,
    panels,
    sampler,
)

DRAWN = Panel()
SHOWN = Panel(PICTURE)


def _large(side: int, steps: int) -> Graph:
    size = {"latents.width": side, "latents.height": side, "sample_b.steps": steps}
    return changed(STEPWISE, size)


LORA = node(
    "CascadeLoadLora",
    model=["load", 0],
    clip=["load", 3],
    file="small cascade: cyanotype",
    strength_model=1.0,
)
WITH_LORA = between(
    WHOLE, "lora", LORA, sample__stage_c=["lora", 0], prompt__clip=["lora", 1], negative__clip=["lora", 1]
)
WITH_HOOK = {
    **changed(STEPWISE, {"sample_c.positive": ["tied", 0], "sample_c.negative": ["tied", 1]}),
    "hook": node("CascadeCreateHookLora", model=["stage_c", 0], file="small cascade: cyanotype"),
    "early": node("CreateHookKeyframe", strength_mult=1.0, start_percent=0.0),
    "late": node("CreateHookKeyframe", strength_mult=1.0, start_percent=0.5, prev_hook_kf=["early", 0]),
    "timed": node("SetHookKeyframes", hooks=["hook", 0], hook_kf=["late", 0]),
    "tied": node(
        "PairConditioningSetProperties",
        positive_NEW=["prompt", 0],
        negative_NEW=["negative", 0],
        strength=1.0,
        set_cond_area="default",
        hooks=["timed", 0],
    ),
}
CONTROLLED = {
    **changed(
        STEPWISE,
        {
            "prompt.text": "a yellow boat on the sea by day",
            "sample_c.positive": ["control", 0],
            "sample_c.negative": ["control", 1],
        },
    ),
    "picture": node("CascadeExamplePicture", picture="boat"),
    "file": node("CascadeLoadControlNet", file="small cascade: canny"),
    "edges": node("CascadeHintCanny", image=["picture", 0]),
    "control": node(
        "CascadeApplyControlNet",
        positive=["prompt", 0],
        negative=["negative", 0],
        control_net=["file", 0],
        hint=["edges", 0],
    ),
}
FACES = {
    **changed(CONTROLLED, {"control.hint": ["identity", 0]}),
    "faces": node("CascadeDetectFaces", image=["picture", 0], models="buffalo_l"),
    "identity": node("CascadeHintIdentity", faces=["faces", 0], width=256, height=256),
    "look": node("PreviewImage", images=["faces", 1]),
}
SHOWN_TO_C = {
    **PROMPTS,
    "picture": node("CascadeExamplePicture", picture="boat"),
    **changed({**LATENTS, **END}, {"sample.positive": ["seen", 0], "sample.negative": ["seen", 1]}),
    "encoder": node("CascadeLoadImageEncoder"),
    "seen": node(
        "CascadeImagePrompt",
        clip_vision=["encoder", 0],
        clip=["load", 3],
        **{"images.image0": ["picture", 0]},
    ),
}
ADAPTED = {
    **changed(WHOLE, {"prompt.text": "a yellow balloon", "sample.stage_c": ["adapted", 0]}),
    "picture": node("CascadeExamplePicture", picture="cat"),
    "adapter": node("CascadeLoadImageAdapter", file="small cascade"),
    "encoder": node("CascadeLoadImageEncoder"),
    "adapted": node(
        "CascadeApplyImageAdapter",
        model=["load", 0],
        image_adapter=["adapter", 0],
        clip_vision=["encoder", 0],
        image=["picture", 0],
    ),
}
CHECKPOINT_ALONE = {
    "checkpoint": node("CascadeLoadCheckpoint", file=CHECKPOINT),
    "prompt": node("CLIPTextEncode", text=BOAT, clip=["checkpoint", 1]),
    "negative": node("CLIPTextEncode", text="", clip=["checkpoint", 1]),
    "latents": node("CascadeEmptyLatents", width=256, height=256, stage_c=["checkpoint", 0]),
    "sample": sampler(["checkpoint", 0], ["latents", 0]),
    "preview": node("CascadePreviewLatent", stage_c=["sample", 0], semantic_encoder=["checkpoint", 2]),
}
FROM_PICTURE = changed(
    {**PROMPTS, **SCENE, **ENCODED, **END}, {"prompt.text": HOUSE, "sample.denoise_c": 0.7}
)
RECONSTRUCTED = {
    "picture": SCENE["picture"],
    "coder": node("CascadeLoadSemanticEncoder"),
    "latents": node("CascadeEncodeImage", image=["picture", 0], semantic_encoder=["coder", 0]),
    "preview": node("CascadePreviewLatent", stage_c=["latents", 0], semantic_encoder=["coder", 0]),
}
FITTED = {
    **changed(
        FROM_PICTURE,
        {
            "latents.image": ["fit", 0],
            "sample.stage_c_latent": ["masked", 0],
            "sample.stage_b_latent": ["masked", 1],
        },
    ),
    "fit": node("CascadeFitImage", image=["picture", 0], way="pad", width=320, height=192),
    "masked": node("CascadeMaskLatents", stage_c=["latents", 0], stage_b=["latents", 1], mask=["fit", 1]),
}
MASKED = {
    **hole(
        changed(
            FROM_PICTURE,
            {
                "prompt.text": "a green tree on the grass by day on the right",
                "sample.stage_c_latent": ["masked", 0],
                "sample.stage_b_latent": ["masked", 1],
                "sample.denoise_c": 1.0,
            },
        )
    ),
    "masked": node(
        "CascadeMaskLatents", stage_c=["latents", 0], stage_b=["latents", 1], mask=["mask", 0], feather=8
    ),
}
GUIDED = {
    **_large(512, 4),
    "small": node("CascadeEmptyLatents", width=256, height=256, stage_c=["stage_c", 0]),
    "small_run": sampler(["stage_c", 0], ["small", 0]),
    "guided": node("CascadeGuideLargeForms", stage_c=["stage_c", 0], guide=["small_run", 0]),
}
GUIDED = changed(GUIDED, {"sample_c.model": ["guided", 0]})
PRESET = {
    **{name: entry for name, entry in CUSTOM.items() if name not in ("guider", "sampler", "scheduler")},
    "preset": node(
        "CascadeSamplingPreset", model=["load", 0], positive=["prompt", 0], negative=["negative", 0]
    ),
}
PRESET = changed(
    PRESET,
    {"sample_c.guider": ["preset", 0], "sample_c.sampler": ["preset", 1], "sample_c.sigmas": ["preset", 2]},
)
SECOND = {
    **CUSTOM,
    "second": node("ImageFromBatch", image=["preview", 0], batch_index=1, length=1),
}
CURVE = ("scheduler", "images")

EXAMPLES: dict[str, Example] = {
    "CascadeLoadPipeline": Example(WHOLE, panels("prompt.text", BOAT, BALLOONS)),
    "CascadeLoadStageA": Example(
        {
            **SCENE,
            "stage_a": node("CascadeLoadStageA"),
            "encode": node("VAEEncode", pixels=["picture", 0], vae=["stage_a", 0]),
            "decode": node("VAEDecode", samples=["encode", 0], vae=["stage_a", 0]),
        },
        (SHOWN, DRAWN),
    ),
    "CascadeLoadStageB": Example(STEPWISE, (Panel(PREVIEW), DRAWN)),
    "CascadeLoadStageC": Example(STEPWISE, panels("prompt.text", BOAT, BALLOONS, source=PREVIEW)),
    "CascadeLoadTextEncoder": Example(STEPWISE, panels("prompt.text", BOAT, BALLOONS, MUSHROOM)),
    "CascadeLoadImageEncoder": Example(SHOWN_TO_C, (SHOWN, *panels("sample.seed", 1, 2))),
    "CascadeLoadSemanticEncoder": Example(RECONSTRUCTED, (SHOWN, Panel(PREVIEW))),
    "CascadeLoadImageAdapter": Example(
        ADAPTED, (SHOWN, *panels("adapted.scale", 0.0, 1.0)), needs=("image_adapter",)
    ),
    "CascadeLoadCheckpoint": Example(CHECKPOINT_ALONE, (Panel(PREVIEW),)),
    "CascadeLoadControlNet": Example(
        CONTROLLED, (SHOWN, Panel(("edges", 0)), DRAWN), needs=("controlnet_canny",)
    ),
    "CascadeLoadLora": Example(
        WITH_LORA, panels("lora.strength_model", 0.0, 0.5, 1.0), needs=("lora_cyanotype",)
    ),
    "CascadeCreateHookLora": Example(
        WITH_HOOK,
        (
            Panel(changes={"hook.strength_model": 0.0}, label="strength_model 0"),
            Panel(label="start_percent 0"),
            Panel(changes={"early.strength_mult": 0.0}, label="start_percent 0.5"),
        ),
        needs=("lora_cyanotype",),
    ),
    "CascadeSaveStage": Example(
        {
            "stage_c": node("CascadeLoadStageC"),
            "save": node("CascadeSaveStage", part=["stage_c", 0], filename_prefix="cascade/stage_c"),
        },
        (Panel(("save", TEXT)),),
    ),
    "CascadeIdentify": Example(
        {
            "identify": node("CascadeIdentify", file="small cascade/stage_c"),
            "read": node("PreviewAny", source=["identify", 0]),
        },
        (Panel(("identify", TEXT)),),
    ),
    "CascadeExamplePicture": Example(
        FROM_PICTURE, panels("picture.picture", "boat", "cat", "house", source=PICTURE)
    ),
    "CascadePickResolution": Example(
        {
            **changed(
                WHOLE,
                {
                    "latents.width": ["size", 0],
                    "latents.height": ["size", 1],
                    "latents.batch_size": ["size", 2],
                },
            ),
            "size": node("CascadePickResolution", stage_c=["load", 0]),
        },
        panels("size.aspect", "1:1 square", "3:5 portrait", "5:3 landscape"),
    ),
    "CascadeEmptyLatents": Example(
        WHOLE,
        tuple(
            Panel(changes={"latents.width": width, "latents.height": height}, label=f"{width} x {height}")
            for width, height in ((256, 256), (192, 320), (320, 192))
        ),
    ),
    "CascadeEncodeImage": Example(FROM_PICTURE, (SHOWN, *panels("sample.denoise_c", 0.4, 0.7, 0.9))),
    "CascadePreviewLatent": Example(
        STEPWISE, (Panel(PREVIEW, {"prompt.text": MUSHROOM}), Panel(changes={"prompt.text": MUSHROOM}))
    ),
    "CascadeFitImage": Example(
        FITTED, (SHOWN, *panels("fit.way", "crop", "pad", "stretch", source=("fit", 0)))
    ),
    "CascadeMaskLatents": Example(MASKED, (SHOWN, Panel(("shown", 0)), DRAWN)),
    "CascadeImagePrompt": Example(SHOWN_TO_C, (SHOWN, *panels("sample.seed", 1, 2, 3))),
    "CascadeApplyImageAdapter": Example(
        ADAPTED, (SHOWN, *panels("adapted.scale", 0.0, 0.5, 1.0)), needs=("image_adapter",)
    ),
    "CascadeDecoderConditioning": Example(
        STEPWISE, (Panel(PREVIEW, {"prompt.text": BALLOONS}), Panel(changes={"prompt.text": BALLOONS}))
    ),
    "CascadeApplyControlNet": Example(
        CONTROLLED,
        (Panel(("edges", 0)), *panels("control.strength", 0.0, 0.5, 1.0)),
        needs=("controlnet_canny",),
    ),
    "CascadeHintCanny": Example(
        CONTROLLED,
        (SHOWN, *panels("edges.side", 224, 96, source=("edges", 0))),
    ),
    "CascadeHintInpaint": Example(
        {
            **hole(
                changed(
                    {**CONTROLLED, **SCENE},
                    {"control.hint": ["holed", 0], "file.file": "small cascade: inpaint"},
                )
            ),
            "holed": node("CascadeHintInpaint", image=["picture", 0], mask=["mask", 0]),
        },
        (
            SHOWN,
            Panel(("holed", 1), label="mask"),
            Panel(("holed", 1), {"holed.mask": None, "holed.right": 128}, "right 128"),
        ),
    ),
    "CascadeHintSuperResolution": Example(
        {
            **changed(
                CONTROLLED,
                {
                    "prompt.text": "a red boat on the sea",
                    "control.hint": ["small", 0],
                    "file.file": "small cascade: super_resolution",
                    "sample_c.latent_image": ["small", 2],
                    "sample_b.latent_image": ["small", 3],
                },
            ),
            "shrunk": node(
                "ImageScale",
                image=["picture", 0],
                upscale_method="area",
                width=128,
                height=128,
                crop="disabled",
            ),
            "small": node("CascadeHintSuperResolution", image=["shrunk", 0], semantic_encoder=["coder", 0]),
        },
        (Panel(("shrunk", 0)), Panel(("small", 1)), DRAWN),
    ),
    "CascadeDetectFaces": Example(FACES),
    "CascadeHintIdentity": Example(FACES),
    "CascadeTileDecoder": Example(
        between(
            _large(640, 4),
            "tiled",
            node("CascadeTileDecoder", stage_b=["stage_b", 0], tile=512),
            sample_b__model=["tiled", 0],
        ),
        (Panel(changes={"sample_b.model": ["stage_b", 0]}), Panel(label="tile 512")),
    ),
    "CascadeGuideLargeForms": Example(GUIDED, panels("guided.strength", 0.0, 1.0)),
    "CascadeReuseBlocks": Example(
        between(
            STEPWISE,
            "reuse",
            node("CascadeReuseBlocks", stage_c=["stage_c", 0]),
            sample_c__model=["reuse", 0],
        ),
        panels("reuse.every", 1, 2, 4),
    ),
    "CascadeDownsampleKeys": Example(
        between(
            _large(512, 4),
            "fewer",
            node("CascadeDownsampleKeys", model=["stage_c", 0], max_cells=256),
            sample_c__model=["fewer", 0],
        ),
        panels("fewer.max_cells", 1024, 256, 64),
    ),
    "CascadeSampler": Example(WHOLE, panels("sample.cfg_c", 1.0, 4.0, 8.0)),
    "CascadeScheduler": Example(
        CUSTOM, panels("scheduler.spacing", "cosine", "beta", "aligned", source=CURVE)
    ),
    "CascadeSamplerSelect": Example(
        changed(CUSTOM, {"scheduler.steps": 10}), panels("sampler.sampler", "DDPM", "DDIM", "UniPC")
    ),
    "CascadeGuider": Example(
        changed(CUSTOM, {"guider.cfg": 8.0}),
        (
            *panels("guider.cfg", 8.0),
            *panels("guider.rescale", 0.7),
            *panels("guider.method", "projected (APG)"),
        ),
    ),
    "CascadeNoise": Example(
        SECOND, (Panel(("second", 0), {"latents.batch_size": 2}), Panel(PREVIEW, {"noise.noise_seed": 2}))
    ),
    "CascadeSamplingPreset": Example(PRESET, panels("preset.preset", "recommended", "fast", "Stability")),
}
