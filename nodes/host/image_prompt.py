"""Image prompts on a CONDITIONING, as the host's unCLIPConditioning writes and as Stage C reads them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from comfy.clip_vision import Output
from comfy_execution.graph_utils import ExecutionBlocker
from torch import Tensor

from ...conditioning.image import Together, blurred, combined
from .. import check

ENTRY = "unclip_conditioning"
"""Under which the host keeps image prompts in a CONDITIONING: a list, with one item for each node's."""

APART = 10
"""The host's own distance of the seed of this noise from that of the latents', which else began alike."""


def image_prompts(entries: Sequence[Mapping[str, Any]] | None, c_image: int, seed: int | None) -> Tensor:
    """Image prompts of a CONDITIONING as Stage C takes them.

    Args:
        entries: what the host's or our node wrote; None for none.
        c_image: features that the Stage C was trained on.
        seed: of the run, for the noise that an entry asks for.

    Returns:
        ``1 n c_image``; the one zero vector that stands for none.
    """
    if not entries:
        return torch.zeros(1, 1, c_image)
    generator = torch.Generator().manual_seed((seed or 0) - APART)
    embeds = []
    for entry in entries:
        embed = check.image_embed(entry["clip_vision_output"].image_embeds, c_image)
        embeds.append(blurred(embed, entry.get("noise_augmentation", 0.0), generator))
    return combined(embeds, [entry["strength"] for entry in entries], "concatenate")[None]


def encode_images(clip_vision: Any, image: Tensor, crop: bool) -> Output:
    """What the host's CLIP Vision Encode gives for pictures, ``b h w c``."""
    return clip_vision.encode_image(image, crop=crop)


def with_image_prompts(
    conditioning: list, outputs: Sequence[Output], weights: Sequence[float], together: Together, noise: float
) -> list:
    """A CONDITIONING with pictures beside its text and what pictures it had; a new one.

    Args:
        conditioning: of a prompt.
        outputs: of ``encode_images``.
        weights: of each; a picture of weight 0 that stands alone is left out, as the host does it.
        together: see ``conditioning.image.combined``.
        noise: level of the noise on the embeddings, from 0 to 1.
    """
    if together == "average":
        embeds = [output.image_embeds for output in outputs]
        outputs, weights = [_output(combined(embeds, weights, together))], [1.0]
    new = [
        _entry(output, weight, noise) for output, weight in zip(outputs, weights, strict=True) if weight != 0
    ]
    return [[text, {**given, ENTRY: [*given.get(ENTRY, []), *new]}] for text, given in conditioning]


def with_as_many_zeros(negative: list, positive: list) -> list:
    """A negative CONDITIONING with a zero vector for each picture that the positive one has more; a new one.

    Diffusers guides so. With fewer tokens on one side the pictures' share of the attention would be guidance
    of its own.
    """
    most = max((given.get(ENTRY, []) for _, given in positive), key=_count, default=[])
    return [[text, given | _zeros(given.get(ENTRY, []), most)] for text, given in negative]


def _zeros(entries: list, most: list) -> dict[str, Any]:
    lacking = _count(most) - _count(entries)
    if lacking <= 0 or _count(most) == 1:  # one zero vector is what no picture means anyway
        return {}
    zeros = torch.zeros_like(most[0]["clip_vision_output"].image_embeds[:1]).expand(lacking, -1)
    return {ENTRY: [*entries, _entry(_output(zeros), 0.0, 0.0)]}


def _count(entries: Sequence[Mapping[str, Any]]) -> int:
    return sum(len(entry["clip_vision_output"].image_embeds) for entry in entries)


def _output(embeds: Tensor) -> Output:
    output = Output()
    output["image_embeds"] = embeds
    return output


def _entry(output: Output, weight: float, noise: float) -> dict[str, Any]:
    return {"clip_vision_output": output, "strength": weight, "noise_augmentation": noise}


def not_wired(why: str) -> ExecutionBlocker:
    """An output that stops, with a sentence, whatever uses it."""
    return ExecutionBlocker(why)


def empty_prompt(clip: Any) -> list:
    """The CONDITIONING of an empty text."""
    return clip.encode_from_tokens_scheduled(clip.tokenize(""))
