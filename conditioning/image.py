"""Pictures as prompts: CLIP image embeddings for Stage C, alone or several, weighted and blurred by noise."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor, nn
from torch.nn import functional

from .heads import count_heads

MEAN = (0.48145466, 0.4578275, 0.40821073)
STD = (0.26862954, 0.26130258, 0.27577711)
"""Of the pictures CLIP was trained on, red, green, blue."""

Rgb = tuple[float, float, float]
Together = Literal["concatenate", "average"]
TOGETHER = get_args(Together)


@dataclass(frozen=True, slots=True)
class ImageEncoderConfig:
    """What there is to know of a CLIP image encoder beside its weights.

    All sizes but the head width are read from the weights. ``mean`` and ``std`` are those by which pictures
    are standardised; ``cascade.image_mean`` and ``cascade.image_std`` in the metadata where they are not
    CLIP's.
    """

    width: int
    depth: int
    c_hidden: int
    heads: int
    patch_size: int
    image_size: int
    channels: int
    mean: Rgb = MEAN
    std: Rgb = STD

    @classmethod
    def from_shapes(
        cls, shapes: Mapping[str, tuple[int, ...]], metadata: Mapping[str, str] | None = None
    ) -> ImageEncoderConfig:
        """Infer the sizes.

        Args:
            shapes: of every weight, by name.
            metadata: of the file; ``cascade.head_dim`` where heads are not 64 wide, ``cascade.image_mean``
                and ``cascade.image_std``.

        Raises:
            ValueError: the shapes do not belong to a CLIP image encoder with a projection, or the metadata
                makes no sense.
        """
        for key in ("vision_model.embeddings.patch_embedding.weight", "visual_projection.weight"):
            if key not in shapes:
                raise ValueError(f"no {key} in the file, so it is no CLIP image encoder with a projection")
        width, _, _, patch_size = shapes["vision_model.embeddings.patch_embedding.weight"]
        positions = shapes["vision_model.embeddings.position_embedding.weight"][0]
        layer = "vision_model.encoder.layers."
        return cls(
            width=width,
            depth=1 + max(int(key.split(".")[3]) for key in shapes if key.startswith(layer)),
            c_hidden=shapes[f"{layer}0.mlp.fc1.weight"][0],
            heads=count_heads(width, metadata),
            patch_size=patch_size,
            image_size=patch_size * round((positions - 1) ** 0.5),  # one position is the class token's
            channels=shapes["visual_projection.weight"][0],
            mean=_rgb(metadata, "image_mean", MEAN),
            std=_rgb(metadata, "image_std", STD),
        )


def _rgb(metadata: Mapping[str, str] | None, name: str, absent: Rgb) -> Rgb:
    text = (metadata or {}).get(f"cascade.{name}")
    if text is None:
        return absent
    try:
        red, green, blue = (float(value) for value in json.loads(text))
    except (ValueError, TypeError):
        raise ValueError(
            f"the file says cascade.{name} = {text[:60]!r}, and a list of three numbers was expected; "
            "correct its metadata"
        ) from None
    return red, green, blue


def image_encoder(config: ImageEncoderConfig) -> nn.Module:
    """Transformers' CLIP image encoder of these sizes, with OpenAI's activation."""
    from transformers import CLIPVisionConfig, CLIPVisionModelWithProjection

    network = CLIPVisionModelWithProjection(
        CLIPVisionConfig(
            hidden_size=config.width,
            intermediate_size=config.c_hidden,
            projection_dim=config.channels,
            num_hidden_layers=config.depth,
            num_attention_heads=config.heads,
            image_size=config.image_size,
            patch_size=config.patch_size,
            hidden_act="quick_gelu",
        )
    )
    network.mean, network.std = config.mean, config.std
    return network


def preprocess(images: Tensor, size: int, mean: Rgb = MEAN, std: Rgb = STD) -> Tensor:
    """Pictures as CLIP wants them: shorter side to ``size``, centre cropped, standardised.

    Args:
        images: ``b 3 h w`` in [0, 1].
        size: pixels along a side, 224 for the released encoder.
        mean, std: by which they are standardised.

    Returns:
        ``b 3 size size``.
    """
    height, width = images.shape[-2:]
    scale = size / min(height, width)
    sides = (max(size, round(height * scale)), max(size, round(width * scale)))
    images = functional.interpolate(images.float(), sides, mode="bicubic", antialias=True).clamp(0, 1)
    top, left = ((side - size) // 2 for side in sides)
    images = images[..., top : top + size, left : left + size]
    middle, spread = (images.new_tensor(value).view(3, 1, 1) for value in (mean, std))
    return (images - middle) / spread


@torch.no_grad()
def encode(network: nn.Module, images: Tensor) -> Tensor:
    """Embeddings of pictures, not normalised: ``b 3 h w`` in [0, 1] -> ``b c``."""
    pixels = preprocess(images, network.config.image_size, network.mean, network.std)
    return network(pixel_values=pixels.to(network.dtype)).image_embeds


def combined(embeds: Sequence[Tensor], weights: Sequence[float], together: Together) -> Tensor:
    """Several image prompts as Stage C takes them.

    Args:
        embeds: of each, ``n c``; one may hold several pictures.
        weights: of each, by which its embeddings are multiplied.
        together: "concatenate" gives every picture its own four tokens, as diffusers does; "average" gives
            all of them the tokens of one, the mean of the weighted embeddings, so that equal pictures of
            weight 1 are the same as one of them.

    Returns:
        ``m c``.
    """
    weighted = torch.cat([embed * weight for embed, weight in zip(embeds, weights, strict=True)])
    return weighted if together == "concatenate" else weighted.mean(dim=0, keepdim=True)


def blurred(embeds: Tensor, level: float, generator: torch.Generator) -> Tensor:
    """Embeddings mixed with noise of their own strength, so that the picture leaves more open.

    unCLIP models were trained on such embeddings and told the level; Cascade was not. The share of noise
    follows the cosine schedule of unCLIP's (Ramesh et al. 2022), and its strength is that of each embedding,
    so that the norm stays the same on average.

    Args:
        embeds: ``n c``.
        level: from 0, where nothing changes, to 1, where only noise is left.
        generator: of the CPU.
    """
    if level <= 0:
        return embeds
    angle = min(level, 1.0) * math.pi / 2
    noise = torch.randn(embeds.shape, generator=generator).to(embeds)
    strength = embeds.square().mean(dim=-1, keepdim=True).sqrt()
    return math.cos(angle) * embeds + math.sin(angle) * strength * noise
