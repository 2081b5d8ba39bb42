"""Which part of Stable Cascade a file holds, told from the names and shapes in it.

File names say nothing reliable, and loading a wrong part fails late and obscurely. ``expect`` is what a
node calls before it loads: it raises a sentence that says what the file is and which node takes it.
"""

from __future__ import annotations

import math
import re
from dataclasses import replace
from enum import Enum
from itertools import islice
from pathlib import Path

from ..layers.trunk import Shapes
from .adapters import find_adapter
from .folder import read_checkpoint
from .header import Header, printable
from .layout import wrapper
from .recorded import metadata_of


class Part(str, Enum):
    """What a file can be; our own parts by the name that ``cascade.part`` uses."""

    STAGE_A = "stage_a"
    STAGE_B = "stage_b"
    STAGE_C = "stage_c"
    SEMANTIC_ENCODER = "semantic_encoder"
    PREVIEWER = "previewer"
    TEXT_ENCODER = "text_encoder"
    IMAGE_ENCODER = "image_encoder"
    CONTROLNET = "controlnet"
    LORA = "lora"
    IMAGE_ADAPTER = "image_adapter"
    ALL_IN_ONE_B = "all_in_one_stage_b"
    ALL_IN_ONE_C = "all_in_one_stage_c"
    EMBEDDING = "embedding"
    SD15 = "sd15"
    SD2 = "sd2"
    SDXL = "sdxl"
    SD3 = "sd3"
    FLUX = "flux"
    WUERSTCHEN_C = "wuerstchen_prior"
    WUERSTCHEN_B = "wuerstchen_decoder"
    ULTRAPIXEL = "ultrapixel"
    PIXART = "pixart"
    HUNYUAN = "hunyuan"
    WAN = "wan"
    OTHER_LORA = "other_lora"
    OTHER_CONTROLNET = "other_controlnet"
    OTHER_VAE = "other_vae"
    T5 = "t5"
    OPENCLIP = "openclip"
    UNKNOWN = "unknown"


NAMES = {
    Part.STAGE_A: "a Stage A",
    Part.STAGE_B: "a Stage B",
    Part.STAGE_C: "a Stage C",
    Part.SEMANTIC_ENCODER: "a semantic encoder",
    Part.PREVIEWER: "a Stage C previewer",
    Part.TEXT_ENCODER: "a CLIP text encoder",
    Part.IMAGE_ENCODER: "a CLIP image encoder",
    Part.CONTROLNET: "a Stage C ControlNet",
    Part.LORA: "a LoRA",
    Part.IMAGE_ADAPTER: "an image adapter for Stage C",
    Part.ALL_IN_ONE_B: "an all-in-one Stage B checkpoint",
    Part.ALL_IN_ONE_C: "an all-in-one Stage C checkpoint",
    Part.EMBEDDING: "a textual-inversion embedding",
    Part.SD15: "an SD 1.5 checkpoint",
    Part.SD2: "an SD 2 checkpoint",
    Part.SDXL: "an SDXL checkpoint",
    Part.SD3: "an SD3 checkpoint",
    Part.FLUX: "a Flux checkpoint",
    Part.WUERSTCHEN_C: "a Würstchen v2 prior",
    Part.WUERSTCHEN_B: "a Würstchen v2 decoder",
    Part.ULTRAPIXEL: "the extra modules of UltraPixel",
    Part.PIXART: "a PixArt checkpoint",
    Part.HUNYUAN: "a Hunyuan checkpoint",
    Part.WAN: "a Wan checkpoint",
    Part.OTHER_LORA: "a LoRA of another model family",
    Part.OTHER_CONTROLNET: "a ControlNet of another model family",
    Part.OTHER_VAE: "a VAE of another model family",
    Part.T5: "a T5 text encoder",
    Part.OPENCLIP: "a text encoder under OpenCLIP's names",
    Part.UNKNOWN: "a file this pack does not know",
}

LOADERS = {
    Part.STAGE_A: "Load Stage A (Cascade)",
    Part.STAGE_B: "Load Stage B (Cascade)",
    Part.STAGE_C: "Load Stage C (Cascade)",
    Part.TEXT_ENCODER: "Load Text Encoder (Cascade)",
    Part.IMAGE_ENCODER: "Load Image Encoder (Cascade)",
    Part.SEMANTIC_ENCODER: "Load Semantic Encoder (Cascade)",
    Part.CONTROLNET: "Load ControlNet (Cascade)",
    Part.LORA: "Load LoRA (Cascade), behind the loader of its model",
    Part.IMAGE_ADAPTER: "Load Image Adapter (Cascade)",
    Part.EMBEDDING: "models/embeddings, and embedding:name in a prompt",
    Part.ALL_IN_ONE_B: "Load Stage B (Cascade)",
    Part.ALL_IN_ONE_C: "Load Stage C (Cascade)",
}
"""Display name of the node that takes each part."""

EXAMPLES = {
    Part.STAGE_A: "stage_a.safetensors",
    Part.STAGE_B: "stage_b_bf16.safetensors",
    Part.STAGE_C: "stage_c_bf16.safetensors",
    Part.SEMANTIC_ENCODER: "effnet_encoder.safetensors",
    Part.PREVIEWER: "previewer.safetensors",
    Part.TEXT_ENCODER: "text_encoder/model.safetensors of stabilityai/stable-cascade",
    Part.IMAGE_ENCODER: "image_encoder/model.safetensors of stabilityai/stable-cascade-prior",
    Part.CONTROLNET: "controlnet/canny.safetensors of stabilityai/stable-cascade",
}
"""A published file of each part."""

# Names that a part has and nothing else does, all of one set.
_SIGNS: tuple[tuple[Part, tuple[str, ...]], ...] = (
    (Part.STAGE_C, ("clip_txt_mapper.weight", "clip_img_mapper.weight", "clf.1.weight")),
    (Part.STAGE_B, ("effnet_mapper.0.weight", "pixels_mapper.0.weight", "clf.1.weight")),
    (Part.STAGE_A, ("in_block.1.weight", "out_block.0.weight", "up_blocks.0.0.weight")),
    (Part.CONTROLNET, ("backbone.0.0.weight", "projections.0.0.weight")),
    (Part.CONTROLNET, ("backbone.0.weight", "projections.0.0.weight")),
    (Part.SEMANTIC_ENCODER, ("backbone.0.0.weight", "mapper.0.weight", "mapper.1.running_mean")),
    (Part.PREVIEWER, ("blocks.0.weight", "blocks.2.running_mean")),
    (Part.IMAGE_ADAPTER, ("image_tokens.proj.weight", "image_tokens.norm.weight")),
    (Part.TEXT_ENCODER, ("text_model.embeddings.token_embedding.weight",)),
    (Part.IMAGE_ENCODER, ("vision_model.embeddings.patch_embedding.weight",)),
)

# Where a part lies in a file that holds several.
_PLACES = {
    Part.STAGE_C: ("", "model.diffusion_model."),
    Part.STAGE_B: ("", "model.diffusion_model."),
    Part.STAGE_A: ("", "vae."),
    Part.CONTROLNET: ("", "controlnet."),
    Part.SEMANTIC_ENCODER: ("", "vae.encoder.", "encoder."),
    Part.PREVIEWER: ("", "vae.previewer.", "previewer."),
    Part.IMAGE_ADAPTER: ("",),
    Part.TEXT_ENCODER: ("", "text_encoder.clip_g.transformer.", "clip_g.transformer."),
    Part.IMAGE_ENCODER: ("", "clip_l_vision."),
}

# Models of other families: the first of which every pattern matches a name.
_OTHERS: tuple[tuple[Part, tuple[str, ...]], ...] = (
    (
        Part.OTHER_CONTROLNET,
        (r"^control_model\.|controlnet_cond_embedding|^input_hint_block\.|controlnet_x_embed",),
    ),
    (
        Part.HUNYUAN,
        (r"(^|\.)(txt_in\.individual_token_refiner|context_embedder\.token_refiner|mlp_t5\.0)\.",),
    ),
    (Part.SD3, (r"(^|\.)joint_blocks\.0\.",)),
    (Part.SD3, (r"^transformer_blocks\.0\.attn\.add_q_proj\.", r"^pos_embed\.proj\.weight$")),
    (Part.FLUX, (r"(^|\.)double_blocks\.0\.img_attn\.",)),
    (Part.FLUX, (r"^single_transformer_blocks\.0\.", r"^x_embedder\.weight$")),
    (Part.PIXART, (r"(^|\.)t_block\.1\.weight$",)),
    (Part.PIXART, (r"(^|\.)adaln_single\.linear\.weight$", r"(^|\.)pos_embed\.proj\.weight$")),
    (Part.WAN, (r"(^|\.)head\.modulation$",)),
    (Part.WAN, (r"^condition_embedder\.time_proj\.weight$", r"^blocks\.0\.attn2\.norm_k\.weight$")),
    (Part.WUERSTCHEN_B, (r"(^|\.)effnet_mappers\.\d+\.weight$",)),
    (Part.WUERSTCHEN_C, (r"(^|\.)blocks\.0\.channelwise\.0\.weight$", r"(^|\.)cond_mapper\.0\.weight$")),
    (Part.ULTRAPIXEL, (r"(^|\.)agg_net\.",)),
    (Part.ULTRAPIXEL, (r"^64\.[01]\.", r"^65\.[01]\.")),
    (
        Part.SDXL,
        (r"^conditioner\.embedders\.|(^|\.)label_emb\.0\.0\.weight$|^add_embedding\.linear_1\.weight$",),
    ),
    (Part.SD2, (r"^cond_stage_model\.model\.",)),
    (Part.SD15, (r"(^|\.)input_blocks\.0\.0\.weight$|^down_blocks\.0\.resnets\.0\.",)),
    (Part.OTHER_VAE, (r"^(first_stage_model\.|vae\.)?decoder\.(conv_in|mid)\.",)),
    (Part.T5, (r"(^|\.)encoder\.block\.0\.layer\.0\.SelfAttention\.",)),
    (Part.OPENCLIP, (r"(^|\.)transformer\.resblocks\.0\.",)),
)


OURS = ("Stage C", "Stage B", "a text encoder", "")
"""What a LoRA of the cascade may have been trained for; "" where its names do not tell."""


def find_parts(shapes: Shapes) -> dict[Part, str]:
    """The parts of Stable Cascade among some weights, and the prefix of the names of each."""
    common = wrapper(shapes)
    found: dict[Part, str] = {}
    for part, names in _SIGNS:
        for place in _PLACES[part]:
            if part not in found and all(common + place + name in shapes for name in names):
                found[part] = common + place
    return found


def identify(shapes: Shapes) -> Part:
    """What a file with these names and shapes is."""
    found = find_parts(shapes)
    several = len(found) > 1
    if Part.STAGE_C in found:
        return Part.ALL_IN_ONE_C if several else Part.STAGE_C
    if Part.STAGE_B in found:
        return Part.ALL_IN_ONE_B if several else Part.STAGE_B
    adapter = find_adapter(shapes)
    if adapter:
        return Part.LORA if adapter.target in OURS else Part.OTHER_LORA
    if "clip_g" in shapes and set(shapes) <= {"clip_g", "clip_g_out"}:
        return Part.EMBEDDING
    prefix = wrapper(shapes)
    names = "\n".join(key[len(prefix) :] for key in shapes)
    for part, patterns in _OTHERS:
        if all(re.search(pattern, names, re.MULTILINE) for pattern in patterns):
            return part
    return next(iter(found), Part.UNKNOWN)


def describe(part: Part, shapes: Shapes | None = None) -> str:
    """A part in words, such as "a Stage B of 699 M parameters"; the size where shapes are given."""
    if not shapes or part not in LOADERS or part in (Part.LORA, Part.EMBEDDING):
        return NAMES[part]
    return f"{NAMES[part]} of {in_units(parameters(shapes))} parameters"


BUFFERS = ("running_mean", "running_var", "num_batches_tracked", "position_ids")
"""Endings of the names of what is not trained and no parameter."""


def parameters(shapes: Shapes) -> int:
    """How many numbers were trained."""
    return sum(math.prod(shape) for key, shape in shapes.items() if not key.endswith(BUFFERS))


def in_units(count: int) -> str:
    """A large number in words, such as "699 M"."""
    for unit, size in (("B", 10**9), ("M", 10**6), ("k", 10**3)):
        if count >= size:
            return f"{count / size:.3g} {unit}"
    return str(count)


def expect(path: str | Path, part: Part) -> Header:
    """The header of a file or folder that holds a part, with what its metadata says of this part.

    Raises:
        ValueError: it holds something else; the sentence says what, and what takes it.
    """
    header = read_checkpoint(path)
    if part in find_parts(header.shapes):
        return replace(header, metadata=metadata_of(part.value, header.metadata))
    raise ValueError(f"`{header.file}` is {_instead(header, part)}")


def _instead(header: Header, wanted: Part) -> str:
    """The rest of a sentence about a file that is not what was wanted."""
    part = identify(header.shapes)
    what = describe(part, header.shapes)
    article, _, name = NAMES[wanted].partition(" ")
    example = f", such as {EXAMPLES[wanted]}" if wanted in EXAMPLES else ""
    if part is Part.UNKNOWN:
        keys = printable(", ".join(islice(header.shapes, 3))) or "none"
        return f"no model this pack knows (its first names: {keys}); choose {article} {name}{example}"
    if part in (Part.ALL_IN_ONE_B, Part.ALL_IN_ONE_C):
        return f"{what} that holds no {name}; choose {article} {name}{example}"
    if part in LOADERS:
        return (
            f"{what}, and {article} {name} was expected; use {LOADERS[part]}, or choose {article} {name} here"
        )
    if part is Part.PREVIEWER:
        return f"{what}, and {article} {name} was expected; choose one{example}"
    return f"{what}, not part of Stable Cascade; choose {article} {name}{example}"
