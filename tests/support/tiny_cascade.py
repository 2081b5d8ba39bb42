"""A whole cascade at tiny sizes with random weights, as files: everything runs, nothing is drawn.

The sizes are those of the native networks' own parameters as well, so that the host's classes can be built
around the same weights.
"""

import json

import torch
from comfyui_cascade.conditioning.image import ImageEncoderConfig, image_encoder
from comfyui_cascade.conditioning.text import TextEncoderConfig, text_encoder
from comfyui_cascade.layers.trunk import Level, TrunkConfig
from comfyui_cascade.stage_a import StageA, StageAConfig
from comfyui_cascade.stage_b import StageB, StageBConfig
from comfyui_cascade.stage_c import StageC, StageCConfig
from comfyui_cascade.stage_c.coder import (
    EncoderStage,
    Previewer,
    PreviewerConfig,
    SemanticEncoder,
    SemanticEncoderConfig,
)
from random_weights import randomise
from safetensors.torch import save_file

HEAD, TEXT, IMAGE, COND, POSITIONS = 16, 32, 768, 32, 16  # the host assumes 768 for images
COMPRESSION = 256 / 12
WORDS = {",": 267, "a": 320, "cat": 2368, "house": 1212, "red": 736, "blue": 1746}
TOKEN_IDS = [*WORDS.values(), 49406, 49407]
STRIDES = [2, 2, 2, 2]

C = StageCConfig(
    trunk=TrunkConfig(
        down=(Level(32, "CTA", 1, 1, 0), Level(32, "CTA", 1, 1, 0)),
        up=(Level(32, "CTA", 1, 1, 0), Level(32, "CTA", 1, 1, 32)),
        c_cond=COND, c_r=64, t_conds=("sca", "crp"), kernel_size=3, transition="pointwise",
        head_width=HEAD, switch_level=(False,),
    ),
    channels=16, c_text=TEXT, c_pooled=TEXT, c_image=IMAGE, c_clip_seq=4,
)  # fmt: skip

B = StageBConfig(
    trunk=TrunkConfig(
        down=(Level(16, "CT", 1, 1, 0), Level(16, "CT", 1, 1, 0), Level(32, "CTA", 1, 1, 0),
              Level(32, "CTA", 1, 1, 0)),
        up=(Level(32, "CTA", 1, 1, 0), Level(32, "CTA", 1, 1, 32), Level(16, "CT", 1, 1, 16),
            Level(16, "CT", 1, 1, 16)),
        c_cond=COND, c_r=64, t_conds=("sca",), kernel_size=3, transition="strided",
        head_width=HEAD, switch_level=(False,) * 3,
    ),
    channels=4, patch_size=2, c_pooled=TEXT, c_clip_seq=4, c_semantic=16, c_semantic_hidden=64,
    c_pixels=3, c_pixels_hidden=64,
)  # fmt: skip

A = StageAConfig(widths=(8, 16), c_hidden=(32, 64), bottleneck_blocks=1, channels=4, codebook_size=32)

SEMANTIC = SemanticEncoderConfig(
    stages=(
        EncoderStage(True, 1, 3, 2, 8, 8, 1),
        EncoderStage(True, 2, 3, 2, 8, 16, 1),
        EncoderStage(False, 4, 3, 2, 16, 24, 1),
    ),
    c_last=32,
    channels=16,
)

TEXT_ENCODER = TextEncoderConfig(TEXT, 2, 64, TEXT // HEAD, POSITIONS, len(TOKEN_IDS), TEXT)

PREVIEW = PreviewerConfig(((1, 16, 16), (2, 16, 8), (2, 8, 8), (2, 8, 8), (1, 8, 3)))

NATIVE_C = {
    "c_in": 16, "c_out": 16, "c_r": 64, "c_cond": COND, "c_hidden": [32, 32], "nhead": [2, 2],
    "blocks": [[1, 1], [1, 1]], "c_clip_text": TEXT, "c_clip_text_pooled": TEXT, "c_clip_img": IMAGE,
}  # fmt: skip
"""The same Stage C in the words of the host's own class."""

NATIVE_B = {
    "c_in": 4, "c_out": 4, "c_r": 64, "patch_size": 2, "c_cond": COND, "c_hidden": [16, 16, 32, 32],
    "nhead": [-1, -1, 2, 2], "blocks": [[1, 1, 1, 1], [1, 1, 1, 1]],
    "block_repeat": [[1, 1, 1, 1], [1, 1, 1, 1]], "c_clip": TEXT,
}  # fmt: skip


def networks():
    """Every part by name, with random weights."""
    image = ImageEncoderConfig(32, 3, 64, 32 // HEAD, 14, 28, IMAGE)
    parts = {
        "stage_a": StageA(A),
        "stage_b": StageB(B),
        "stage_c": StageC(C),
        "semantic_encoder": SemanticEncoder(SEMANTIC),
        "previewer": Previewer(PREVIEW),
        "text_encoder": text_encoder(TEXT_ENCODER),
        "image_encoder": image_encoder(image),
    }
    return {name: randomise(network, seed) for seed, (name, network) in enumerate(parts.items())}


def metadata(part, **changes):
    """What the file of a part says about itself; ``changes`` are further ``cascade.*`` entries."""
    entries = {"part": part, "compression": COMPRESSION, "head_dim": HEAD}
    if part == "semantic_encoder":
        entries["strides"] = json.dumps(STRIDES)
    if part == "text_encoder":
        entries["token_ids"] = json.dumps(TOKEN_IDS)
    return {f"cascade.{key}": str(value) for key, value in (entries | changes).items()}


def write(folder, parts=None, **changes):
    """Files ``<folder>/<part>.safetensors``; their paths by part.

    Args:
        folder: that exists.
        parts: which, by default all.
        changes: to the metadata.
    """
    paths = {}
    for part, network in networks().items():
        if parts is None or part in parts:
            path = folder / f"{part}.safetensors"
            weights = {key: value.contiguous() for key, value in network.state_dict().items()}
            save_file(weights, path, metadata(part, **changes))
            paths[part] = path
    return paths


def unit(*shape, seed=0):
    """Random values of unit variance."""
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))
