"""Prompts as hidden states: CLIP's text encoder the way Stable Cascade reads it, and its words.

Stage C takes the last layer's hidden states *before* the final norm, of every position, padding included;
both stages take the projected state of the end token.

Source: Stability ``core/utils``, ``train/base.py``; ComfyUI ``comfy/sdxl_clip.py``, StableCascadeClip.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from torch import nn

START_ID, END_ID = 49406, 49407
"""CLIP's ids of the tokens around a prompt; the end token is also the padding."""

LENGTH = 77
"""Tokens of a framed prompt in the released cascade."""

RELEASED_HEAD_WIDTH = 64
"""Channels of an attention head in every CLIP of the released cascade; shapes do not tell."""


@dataclass(frozen=True, slots=True)
class TextEncoderConfig:
    """Sizes of a CLIP text encoder, all read from its weights but for the head width."""

    width: int
    depth: int
    c_hidden: int
    heads: int
    positions: int
    vocabulary: int
    c_pooled: int

    @classmethod
    def from_shapes(
        cls, shapes: Mapping[str, tuple[int, ...]], metadata: Mapping[str, str] | None = None
    ) -> TextEncoderConfig:
        """Infer the sizes.

        Args:
            shapes: of every weight, by name.
            metadata: of the file; ``cascade.head_dim`` where heads are not 64 wide.

        Raises:
            ValueError: the shapes do not belong to a CLIP text encoder with a projection.
        """
        for key in ("text_model.embeddings.token_embedding.weight", "text_projection.weight"):
            if key not in shapes:
                raise ValueError(f"no {key} in the file, so it is no CLIP text encoder with a projection")
        vocabulary, width = shapes["text_model.embeddings.token_embedding.weight"]
        head_width = int((metadata or {}).get("cascade.head_dim", RELEASED_HEAD_WIDTH))
        layer = "text_model.encoder.layers."
        return cls(
            width=width,
            depth=1 + max(int(key.split(".")[3]) for key in shapes if key.startswith(layer)),
            c_hidden=shapes[f"{layer}0.mlp.fc1.weight"][0],
            heads=width // head_width,
            positions=shapes["text_model.embeddings.position_embedding.weight"][0],
            vocabulary=vocabulary,
            c_pooled=shapes["text_projection.weight"][0],
        )


def text_encoder(config: TextEncoderConfig) -> nn.Module:
    """Transformers' CLIP text encoder of these sizes."""
    from transformers import CLIPTextConfig, CLIPTextModelWithProjection

    return CLIPTextModelWithProjection(
        CLIPTextConfig(
            hidden_size=config.width,
            intermediate_size=config.c_hidden,
            projection_dim=config.c_pooled,
            num_hidden_layers=config.depth,
            num_attention_heads=config.heads,
            max_position_embeddings=config.positions,
            vocab_size=config.vocabulary,
            hidden_act="gelu",
        )
    )
