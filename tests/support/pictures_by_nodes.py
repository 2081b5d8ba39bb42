"""Pictures that nodes draw of tiny cascades, for those that the pipeline draws."""

import torch
from comfyui_cascade.pipeline import Sampling, Settings

SIZE = (128, 96)
SETTINGS = Settings(seed=11, stage_c=Sampling(3, 3.0), stage_b=Sampling(2, 1.0))


def by_nodes(
    pack, comfy_nodes, tiny, prompt, settings, negative="", count=1, latents=None, models=None, images=(),
    controls=(),
):  # fmt: skip
    """Pictures ``b 3 h w``.

    Args:
        pack, comfy_nodes, tiny: fixtures.
        prompt, settings, negative, count, images: as ``Cascade.generate`` takes them.
        latents: of both stages, to start from.
        models: in place of ``tiny``.
        controls: for each ControlNet itself, a hint ``b h w c`` and a strength.
    """
    models = models or tiny
    encode = comfy_nodes.CLIPTextEncode().encode
    texts = {"positive": encode(models.clip, prompt)[0], "negative": encode(models.clip, negative)[0]}
    if images:
        shown = pack["CascadeImagePrompt"](
            clip_vision=tiny.clip_vision, weights=", ".join(str(weight) for _, weight in images),
            images={str(i): image.movedim(1, -1) for i, (image, _) in enumerate(images)},
            together="concatenate", noise=0.0, crop="center",
            conditioning=texts["positive"], negative=texts["negative"],
        )  # fmt: skip
        texts = dict(zip(texts, shown.result, strict=True))
    for control_net, hint, strength in controls:
        steered = pack["CascadeApplyControlNet"](
            **texts, control_net=control_net, hint=hint, strength=strength, start_percent=0.0,
            end_percent=1.0, apply_to="both",
        )  # fmt: skip
        texts = dict(zip(texts, steered.result, strict=True))
    if latents is None:
        size = {"width": SIZE[0], "height": SIZE[1], "batch_size": count, "compression": 0.0}
        latents = pack["CascadeEmptyLatents"](**size, stage_c=models.stage_c).result
    drawn = pack["CascadeSampler"](
        stage_c=models.stage_c, stage_b=models.stage_b, **texts, stage_c_latent=latents[0],
        stage_b_latent=latents[1], seed=settings.seed, rescale=settings.rescale, noise=settings.noise,
        **widgets("c", settings.stage_c), **widgets("b", settings.stage_b),
    )  # fmt: skip
    return models.stage_a.decode(drawn[0]["samples"]).movedim(-1, 1)


def widgets(end, sampling):
    names = ("steps", "cfg", "sampler", "scheduler", "denoise")
    return {f"{name}_{end}": getattr(sampling, name) for name in names}


def picture(seed=0, width=140, height=130):
    return torch.rand(1, height, width, 3, generator=torch.Generator().manual_seed(seed)).movedim(-1, 1)
