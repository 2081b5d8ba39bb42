"""The ``config.json`` that diffusers and transformers want beside a network's weights.

Source: diffusers ``models/unets/unet_stable_cascade.py`` and
``pipelines/deprecated/wuerstchen/modeling_paella_vq_model.py``.
"""

from __future__ import annotations

from typing import Any

import torch

from ..conditioning.image import image_encoder
from ..conditioning.text import text_encoder
from ..layers.trunk import Level, TrunkConfig
from ..stage_a.model import FOLD, STAGE_B_SCALE, StageAConfig
from ..stage_b.model import StageBConfig
from ..stage_c.model import StageCConfig
from .identify import Part

FOLDERS = {
    Part.STAGE_A: "vqgan",
    Part.STAGE_B: "decoder",
    Part.STAGE_C: "prior",
    Part.TEXT_ENCODER: "text_encoder",
    Part.IMAGE_ENCODER: "image_encoder",
}
"""Name of each part's folder in diffusers' pipelines, which have no others."""

FILES = {Part.TEXT_ENCODER: "model.safetensors", Part.IMAGE_ENCODER: "model.safetensors"}
"""Name of the weights in a part's folder, where it is not diffusers' own."""

FILE = "diffusion_pytorch_model.safetensors"

_BLOCKS = {"C": "SDCascadeResBlock", "T": "SDCascadeTimestepBlock", "A": "SDCascadeAttnBlock"}


def diffusers_config(part: Part, config: Any) -> dict[str, Any]:
    """The configuration of a part in the words of the program that will read it.

    Raises:
        ValueError: that program has no such network.
    """
    match config:
        case StageAConfig():
            return _stage_a(config)
        case StageBConfig():
            return _stage_b(config)
        case StageCConfig():
            return _stage_c(config)
    builders = {Part.TEXT_ENCODER: text_encoder, Part.IMAGE_ENCODER: image_encoder}
    if part not in builders:
        raise ValueError(
            f"diffusers has no network for a {part.value.replace('_', ' ')}: write a single file"
        )
    with torch.device("meta"):
        network = builders[part](config)
    return {**network.config.to_dict(), "architectures": [type(network).__name__]}


def _require(fits: bool, what: str) -> None:
    if not fits:
        raise ValueError(f"diffusers' network has {what}, and this one has not: write a single file")


def _stage_a(config: StageAConfig) -> dict[str, Any]:
    widest = config.widths[-1]
    halved = tuple(widest // 2**i for i in reversed(range(len(config.widths))))
    _require(config.widths == halved, "half the width at each finer level")
    _require(config.c_hidden == tuple(4 * width for width in config.widths), "MLPs four times as wide")
    _require(config.kernel_size == 3 and config.codebook_size > 0, "kernels of 3 and a codebook")
    return {
        "_class_name": "PaellaVQModel",
        "in_channels": 3,
        "out_channels": 3,
        "up_down_scale_factor": FOLD,
        "levels": len(config.widths),
        "bottleneck_blocks": config.bottleneck_blocks,
        "embed_dim": widest,
        "latent_channels": config.channels,
        "num_vq_embeddings": config.codebook_size,
        # The published configuration says 0.3764, Würstchen v2's; the weights were trained with this one.
        "scale_factor": STAGE_B_SCALE,
    }


def _stage_b(config: StageBConfig) -> dict[str, Any]:
    hidden = 4 * config.trunk.down[0].width
    _require(config.c_semantic_hidden == config.c_pixels_hidden == hidden, "mappers four times as wide")
    return {
        **_trunk(config.trunk),
        "in_channels": config.channels,
        "out_channels": config.channels,
        "patch_size": config.patch_size,
        "clip_text_in_channels": None,
        "clip_text_pooled_in_channels": config.c_pooled,
        "clip_image_in_channels": None,
        "clip_seq": config.c_clip_seq,
        "effnet_in_channels": config.c_semantic,
        "pixel_mapper_in_channels": config.c_pixels,
    }


def _stage_c(config: StageCConfig) -> dict[str, Any]:
    return {
        **_trunk(config.trunk),
        "in_channels": config.channels,
        "out_channels": config.channels,
        "patch_size": 1,
        "clip_text_in_channels": config.c_text,
        "clip_text_pooled_in_channels": config.c_pooled,
        "clip_image_in_channels": config.c_image,
        "clip_seq": config.c_clip_seq,
        "effnet_in_channels": None,
        "pixel_mapper_in_channels": None,
    }


def _trunk(trunk: TrunkConfig) -> dict[str, Any]:
    def mirrored(level: Level) -> tuple[int, str]:
        return level.width, level.unit

    same = [mirrored(level) for level in trunk.down] == [mirrored(level) for level in reversed(trunk.up)]
    _require(same, "the same levels up as down")
    _require(all(set(level.unit) <= set(_BLOCKS) for level in trunk.down), "no blocks but these three kinds")
    return {
        "_class_name": "StableCascadeUNet",
        "timestep_ratio_embedding_dim": trunk.c_r,
        "conditioning_dim": trunk.c_cond,
        "block_out_channels": [level.width for level in trunk.down],
        "num_attention_heads": [
            level.width // trunk.head_width if "A" in level.unit else 0 for level in trunk.down
        ],
        "down_num_layers_per_block": [level.depth for level in trunk.down],
        "up_num_layers_per_block": [level.depth for level in trunk.up],
        "down_blocks_repeat_mappers": [level.repeats for level in trunk.down],
        "up_blocks_repeat_mappers": [level.repeats for level in trunk.up],
        "block_types_per_layer": [[_BLOCKS[kind] for kind in level.unit] for level in trunk.down],
        "kernel_size": trunk.kernel_size,
        "dropout": [0.0] * len(trunk.down),
        "self_attn": trunk.self_attn,
        "timestep_conditioning_type": list(trunk.t_conds),
        "switch_level": None if trunk.transition == "strided" else list(trunk.switch_level),
    }
