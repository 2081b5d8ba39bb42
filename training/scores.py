"""How often the cascade's pictures show what was asked, part by part, so that a weak part can be told."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

from ..checkpoints.identify import Part
from ..checkpoints.open import load_part
from ..conditioning.text import encode
from .draw import draw
from .judge import fresh_scenes, held_out_scenes, prompt_of, score
from .show import decode, draw_prompts
from .sizes import ENCODER_PIXELS
from .small import shrink
from .words import END_ROW, tokenize
from .world import Scene

BATCH = 8
"""Pictures drawn at once."""


def true_pictures(scenes: Sequence[Scene]) -> Tensor:
    """What the program draws of scenes, ``b 3 h w`` in [0, 1]."""
    pictures = [torch.from_numpy(draw(scene)[0].copy()) for scene in scenes]
    return torch.stack(pictures).permute(0, 3, 1, 2).float() / 255


@torch.inference_mode()
def redrawn(weights: Path, scenes: Sequence[Scene], seed: int) -> Tensor:
    """True pictures, through the semantic encoder and drawn again by Stage B and A, ``b 3 h w``.

    What these lack is the encoder's or Stage B's doing and not Stage C's.
    """
    encoder = load_part(weights / "semantic_encoder.safetensors", Part.SEMANTIC_ENCODER).float()
    text_encoder = load_part(weights / "text_encoder.safetensors", Part.TEXT_ENCODER).float()
    _, pooled = encode(text_encoder, tokenize([prompt_of(scene) for scene in scenes]), END_ROW)
    semantic = encoder(shrink(true_pictures(scenes), ENCODER_PIXELS))
    return decode(weights, semantic, pooled, torch.Generator().manual_seed(seed)).movedim(-1, 1)


def prompted(weights: Path, scenes: Sequence[Scene], cfg: float, seed: int) -> Tensor:
    """Pictures of the scenes' prompts, by the whole cascade, ``b 3 h w``."""
    return draw_prompts(weights, [prompt_of(scene) for scene in scenes], seed=seed, cfg=cfg).movedim(-1, 1)


def scores(judge: nn.Module, weights: Path, count: int, cfg: float, seed: int) -> dict[str, dict[str, float]]:
    """Shares of right kinds, colours, counts, places, grounds and times, and of pictures right in all.

    Args:
        judge: from ``train_judge``.
        weights: folder of exported files.
        count: pictures in each case.
        cfg: guidance of Stage C.
        seed: of the noise.

    Returns:
        By case: true pictures (the judge itself), redrawn from true Stage C latents, drawn from prompts,
        and drawn from prompts of held-out pairs.
    """

    def in_parts(make: Callable[[list[Scene], int], Tensor], scenes: list[Scene]) -> Tensor:
        parts = range(0, len(scenes), BATCH)
        return torch.cat([make(scenes[i : i + BATCH], seed + i) for i in parts])

    fresh, held_out = fresh_scenes(count), held_out_scenes(count)

    def from_prompts(scenes: list[Scene], seed: int) -> Tensor:
        return prompted(weights, scenes, cfg, seed)

    return {
        "true pictures": score(judge, true_pictures(fresh), fresh),
        "redrawn by Stage B and A": score(judge, in_parts(lambda s, n: redrawn(weights, s, n), fresh), fresh),
        "from prompts": score(judge, in_parts(from_prompts, fresh), fresh),
        "from prompts of held-out pairs": score(judge, in_parts(from_prompts, held_out), held_out),
    }
