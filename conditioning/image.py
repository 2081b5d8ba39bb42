"""Pictures as prompts: a CLIP image embedding for Stage C."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from .heads import count_heads

MEAN = (0.48145466, 0.4578275, 0.40821073)
STD = (0.26862954, 0.26130258, 0.27577711)
"""Of the pictures CLIP was trained on, red, green, blue."""


@dataclass(frozen=True, slots=True)
class ImageEncoderConfig:
    """Sizes of a CLIP image encoder, all read from its weights but for the head width."""

    width: int
    depth: int
    c_hidden: int
    heads: int
    patch_size: int
    image_size: int
    channels: int

    @classmethod
    def from_shapes(
        cls, shapes: Mapping[str, tuple[int, ...]], metadata: Mapping[str, str] | None = None
    ) -> ImageEncoderConfig:
        """Infer the sizes.

        Args:
            shapes: of every weight, by name.
            metadata: of the file; ``cascade.head_dim`` where heads are not 64 wide.

        Raises:
            ValueError: the shapes do not belong to a CLIP image encoder with a projection.
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
        )


def image_encoder(config: ImageEncoderConfig) -> nn.Module:
    """Transformers' CLIP image encoder of these sizes, with OpenAI's activation."""
    from transformers import CLIPVisionConfig, CLIPVisionModelWithProjection

    return CLIPVisionModelWithProjection(
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


def preprocess(images: Tensor, size: int) -> Tensor:
    """Pictures as CLIP wants them: shorter side to ``size``, centre cropped, standardised.

    Args:
        images: ``b 3 h w`` in [0, 1].
        size: pixels along a side, 224 for the released encoder.

    Returns:
        ``b 3 size size``.
    """
    height, width = images.shape[-2:]
    scale = size / min(height, width)
    sides = (max(size, round(height * scale)), max(size, round(width * scale)))
    images = functional.interpolate(images.float(), sides, mode="bicubic", antialias=True).clamp(0, 1)
    top, left = ((side - size) // 2 for side in sides)
    images = images[..., top : top + size, left : left + size]
    mean, std = (images.new_tensor(value).view(3, 1, 1) for value in (MEAN, STD))
    return (images - mean) / std


@torch.no_grad()
def encode(network: nn.Module, images: Tensor) -> Tensor:
    """Embeddings of pictures, not normalised: ``b 3 h w`` in [0, 1] → ``b c``."""
    pixels = preprocess(images, network.config.image_size)
    return network(pixel_values=pixels.to(network.dtype)).image_embeds
