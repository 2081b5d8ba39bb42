"""Stage C: a diffusion network that draws a tiny 16-channel latent from text.

Read it in this order. ``StageC.tokens`` turns a prompt into a sequence of conditioning tokens, once for a
whole sampling run. ``StageC.forward`` then predicts, from a noisy latent, how much of it is noise; the
samplers call it once a step. In between lies the trunk (``layers/trunk.py``): residual blocks mix
neighbouring cells, timestep blocks tell them how noisy the latent is, attention blocks let every cell
look at every other cell and at the prompt.

Source: Stability ``modules/stage_c.py``; Pernias et al. 2023, "Würstchen", section 3.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ..layers.channels_last import layer_norm, on_channels_first, to_channels_first, to_channels_last
from ..layers.embed import time_embedding
from ..layers.hooks import NO_HOOKS, Hooks
from ..layers.ops import TORCH, Operations
from ..layers.trunk import RELEASED_HEAD_WIDTH, Shapes, TrunkConfig, add_trunk
from ..layers.walk import run_trunk


@dataclass(frozen=True, slots=True)
class StageCConfig:
    """Sizes of a Stage C, all read from its weights.

    Attributes:
        trunk: the levels.
        channels: of the latents, in and out.
        c_text, c_pooled, c_image: features of a text token, of the pooled text, of an image embedding.
        c_clip_seq: tokens that one pooled text or one image embedding becomes.
    """

    trunk: TrunkConfig
    channels: int
    c_text: int
    c_pooled: int
    c_image: int
    c_clip_seq: int

    @classmethod
    def from_shapes(cls, shapes: Shapes, metadata: Mapping[str, str] | None = None) -> StageCConfig:
        """Infer the sizes.

        Args:
            shapes: of every weight, by name.
            metadata: of the file; ``cascade.head_dim`` where heads are not 64 wide.

        Raises:
            ValueError: the shapes do not belong to a Stage C.
        """
        if "clip_txt_mapper.weight" not in shapes:
            raise ValueError("no clip_txt_mapper.weight in the file, so it is no Stage C")
        head_width = int((metadata or {}).get("cascade.head_dim", RELEASED_HEAD_WIDTH))
        trunk = TrunkConfig.from_shapes(shapes, head_width)
        return cls(
            trunk=trunk,
            channels=shapes["embedding.1.weight"][1],
            c_text=shapes["clip_txt_mapper.weight"][1],
            c_pooled=shapes["clip_txt_pooled_mapper.weight"][1],
            c_image=shapes["clip_img_mapper.weight"][1],
            c_clip_seq=shapes["clip_txt_pooled_mapper.weight"][0] // trunk.c_cond,
        )


class StageC(nn.Module):
    """The network. Attribute names are the key names of the released files."""

    def __init__(self, config: StageCConfig, ops: Operations = TORCH):
        super().__init__()
        self.config = config
        trunk, width = config.trunk, config.trunk.down[0].width
        self.clip_txt_mapper = ops.Linear(config.c_text, trunk.c_cond)
        self.clip_txt_pooled_mapper = ops.Linear(config.c_pooled, trunk.c_cond * config.c_clip_seq)
        self.clip_img_mapper = ops.Linear(config.c_image, trunk.c_cond * config.c_clip_seq)
        # Place 0 is the released networks' PixelUnshuffle by 1, which changes nothing.
        self.embedding = nn.Sequential(nn.Identity(), ops.Conv2d(config.channels, width, 1))
        add_trunk(self, trunk, ops)
        # Place 0 is the norm's, which has no parameters.
        self.clf = nn.Sequential(nn.Identity(), ops.Conv2d(trunk.up[-1].width, config.channels, 1))

    def text_tokens(self, text: Tensor) -> Tensor:
        """The part of ``tokens`` that stands for the text, ``b n c_text`` -> ``b n c_cond``."""
        return layer_norm(self.clip_txt_mapper(text))

    def tokens(self, text: Tensor, pooled: Tensor, image: Tensor) -> Tensor:
        """The prompt as conditioning tokens; does not depend on the noise level.

        Args:
            text: hidden state of each text token, ``b n c_text``. Padding is part of it, unmasked.
            pooled: the prompt as a whole, ``b c_pooled`` or ``b m c_pooled``.
            image: embeddings of image prompts, ``b m c_image``. No image prompt is one zero vector, not
                an empty sequence.

        Returns:
            ``b k c_cond``: one token for each text token, then ``c_clip_seq`` for each pooled vector and
            for each image.
        """
        pooled = pooled[:, None] if pooled.ndim == 2 else pooled
        parts = [
            self.clip_txt_mapper(text),
            self.clip_txt_pooled_mapper(pooled).reshape(pooled.shape[0], -1, self.config.trunk.c_cond),
            self.clip_img_mapper(image).reshape(image.shape[0], -1, self.config.trunk.c_cond),
        ]
        return layer_norm(torch.cat(parts, dim=1))

    def forward(
        self,
        x: Tensor,
        t: Tensor,
        tokens: Tensor,
        control: Sequence[Tensor | None] = (),
        hooks: Hooks = NO_HOOKS,
        wide_values: int | None = None,
        keys_values: Tensor | None = None,
    ) -> Tensor:
        """Predict the noise in ``x``, or its velocity if the network was trained for that.

        Args:
            x: noisy latents of unit variance, ``b c h w``, any size.
            t: time in [0, 1] of the unshifted cosine schedule at the noise level of ``x``, ``b``, fp32.
            tokens: from ``tokens``.
            control, hooks, wide_values, keys_values: see ``layers.walk.run_trunk``.

        Returns:
            The prediction, same shape as ``x``.
        """
        trunk = self.config.trunk
        embedding = time_embedding(t, trunk.c_r, len(trunk.t_conds), x.dtype)
        h = layer_norm(to_channels_last(self.embedding[1](x)))
        h = run_trunk(self, h, embedding, tokens, control, hooks, wide_values, keys_values)
        return to_channels_first(on_channels_first(self.clf[1], layer_norm(h)))
