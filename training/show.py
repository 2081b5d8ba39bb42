"""Pictures for prompts, straight from the weights: how a training looks."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor

from ..checkpoints.identify import Part
from ..checkpoints.open import load_part
from ..conditioning.text import encode
from ..latents.geometry import stage_b_size, stage_c_size
from ..samplers.sample import sample
from ..samplers.schedule import STAGE_B_SHIFT, STAGE_C_SHIFT
from ..samplers.target import from_velocity
from ..stage_a.model import STAGE_B_SCALE
from .export import COMPRESSION
from .sizes import IMAGE_WIDTH
from .words import END_ROW, tokenize


@torch.inference_mode()
def draw_prompts(
    weights: Path, prompts: Sequence[str], *, seed: int, cfg: float, shift: float = STAGE_C_SHIFT
) -> Tensor:
    """Pictures ``b 256 256 3`` in [0, 1], 20 steps of Stage C and 10 of Stage B."""
    c = load_part(weights / "stage_c.safetensors", Part.STAGE_C).float()
    text_encoder = load_part(weights / "text_encoder.safetensors", Part.TEXT_ENCODER).float()
    generator = torch.Generator().manual_seed(seed)

    def tokens(captions: Sequence[str]) -> tuple[Tensor, Tensor]:
        text, pooled = encode(text_encoder, tokenize(list(captions)), END_ROW)
        return c.tokens(text, pooled, torch.zeros(len(text), 1, IMAGE_WIDTH)), pooled

    (with_prompt, pooled), (without, _) = tokens(prompts), tokens([""] * len(prompts))
    width, height = stage_c_size(256, 256, COMPRESSION)
    noise = torch.randn(len(prompts), 16, height, width, generator=generator)
    semantic = sample(
        lambda x, t: c(x, t, with_prompt), noise, generator=generator,
        unconditional=lambda x, t: c(x, t, without), steps=20, cfg=cfg, shift=shift, target=from_velocity,
    )  # fmt: skip
    return decode(weights, semantic, pooled, generator)


@torch.inference_mode()
def decode(weights: Path, semantic: Tensor, pooled: Tensor, generator: torch.Generator) -> Tensor:
    """Stage C latents as pictures ``b 256 256 3`` in [0, 1], through Stage B and Stage A."""
    b = load_part(weights / "stage_b.safetensors", Part.STAGE_B).float()
    a = load_part(weights / "stage_a.safetensors", Part.STAGE_A).float()
    width, height = stage_b_size(256, 256)
    tokens, semantic_map = b.tokens(pooled), b.semantic_map(semantic, height, width)
    latents = sample(
        lambda x, t: b(x, t, tokens, semantic_map),
        torch.randn(len(semantic), 4, height, width, generator=generator),
        generator=generator, steps=10, shift=STAGE_B_SHIFT, target=from_velocity,
    )  # fmt: skip
    return a.decode(latents * STAGE_B_SCALE).clamp(0, 1).movedim(1, -1)


def sheet(pictures: Tensor, columns: int) -> Image.Image:
    """Pictures side by side."""
    count, height, width, _ = pictures.shape
    page = Image.new("RGB", (columns * width, -(-count // columns) * height))
    for i, picture in enumerate(pictures.mul(255).round().byte().numpy()):
        page.paste(Image.fromarray(picture), (i % columns * width, i // columns * height))
    return page
