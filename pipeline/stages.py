"""Stage B and C with their prompts, ready to be sampled."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from ..checkpoints.identify import Part
from ..conditioning.image import combined
from ..layers.hooks import Hooks
from ..layers.walk import keys_values
from ..samplers.schedule import STAGE_B_SHIFT, STAGE_C_SHIFT
from ..stage_a.model import STAGE_B_SCALE
from . import style
from .control import Control, for_rows, together
from .denoise import Prompt, Stage
from .parts import Parts
from .text import Text

Weighted = Sequence[tuple[Tensor, float]]
"""Embeddings of pictures, ``n c_image`` each, with how strongly they count."""

Cells = tuple[int, int]
"""Rows and columns of latents."""


@torch.inference_mode()
def stage_c(
    parts: Parts, positive: Text, negative: Text, cells: Cells, *, images: Weighted = (),
    styles: Weighted = (), controls: Sequence[Control] = (),
) -> Stage:  # fmt: skip
    """Stage C.

    Args:
        parts: of the cascade.
        positive, negative: the prompts; of one row, or of one for each picture.
        cells: of its latents.
        images: image prompts.
        styles: what the image adapter shows it. The negative prompt sees no picture.
        controls: ControlNets, what they add being summed.

    Raises:
        ValueError: a ControlNet or the image adapter was made for another Stage C.
    """
    network = parts.network(Part.STAGE_C)
    seen = [(embeds, scale) for embeds, scale in styles if scale]
    adapter = parts.image_adapter if seen else None
    shown = torch.zeros(1, network.config.c_image)
    if images:
        shown = combined(*map(list, zip(*images, strict=True)), "concatenate")

    def conditions(text: Text, image: Tensor, embeds: Sequence[Tensor]) -> Prompt:
        image = image[None].expand(len(text.hidden), -1, -1)
        tokens = network.tokens(*(parts.given(one) for one in (text.hidden, text.pooled, image)))
        looked = [style.keys_values(adapter, one).to(parts.device) for one in embeds]
        return tokens, keys_values(network, tokens), *looked

    residuals = together(controls, network, cells, parts.device, parts.computes)

    def predict(x: Tensor, t: Tensor, tokens: Tensor, known: Tensor, *looked: Tensor) -> Tensor:
        attention = [
            style.attention_to(adapter.config, one, scale)
            for one, (_, scale) in zip(looked, seen, strict=True)
        ]
        hooks = Hooks(attention=tuple(attention))
        return network(x, t, tokens, for_rows(residuals, len(x)), hooks, keys_values=known)

    embeds = [one for one, _ in seen]
    return _stage(
        parts, Part.STAGE_C, predict, conditions(positive, shown, embeds),
        conditions(negative, torch.zeros_like(shown), [torch.zeros_like(one) for one in embeds]),
        STAGE_C_SHIFT, 1.0,
    )  # fmt: skip


@torch.inference_mode()
def stage_b(parts: Parts, semantic: Tensor, positive: Text, negative: Text, cells: Cells) -> Stage:
    """Stage B, which draws the details of Stage C's latents ``b 16 h w``; see ``stage_c``."""
    network = parts.network(Part.STAGE_B)

    def conditions(text: Text, semantic: Tensor) -> Prompt:
        tokens = network.tokens(parts.given(text.pooled))
        return tokens, network.semantic_map(parts.given(semantic), *cells), keys_values(network, tokens)

    def predict(x: Tensor, t: Tensor, tokens: Tensor, semantic_map: Tensor, known: Tensor) -> Tensor:
        return network(x, t, tokens, semantic_map, keys_values=known)

    nothing = torch.zeros(1, network.config.c_semantic, 1, 1)
    return _stage(
        parts, Part.STAGE_B, predict, conditions(positive, semantic), conditions(negative, nothing),
        STAGE_B_SHIFT, 1.0 / STAGE_B_SCALE,
    )  # fmt: skip


def _stage(
    parts: Parts, part: Part, predict: Callable[..., Tensor], positive: Prompt, negative: Prompt,
    shift: float, scale: float,
) -> Stage:  # fmt: skip
    return Stage(predict, positive, negative, parts.target(part), shift, scale, parts.device, parts.computes)
