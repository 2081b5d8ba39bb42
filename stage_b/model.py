"""Stage B: a diffusion network that draws Stage A's latent from Stage C's.

The Stage C latent is stretched over the picture and added to the input of a four-level U-Net; the text
joins as four tokens in the attention of the two coarsest levels and has little to say.

``tokens``, ``semantic_map`` and ``layers.walk.keys_values`` do not depend on the noise level: call them once
for a sampling run.

Source: Stability ``modules/stage_b.py``; Pernias et al. 2023, "Würstchen", section 3.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor, nn
from torch.nn import functional

from ..layers.channels_last import layer_norm, on_channels_first, resize, to_channels_first, to_channels_last
from ..layers.embed import time_embedding
from ..layers.hooks import NO_HOOKS, Hooks
from ..layers.ops import TORCH, Operations
from ..layers.trunk import RELEASED_HEAD_WIDTH, Shapes, TrunkConfig, add_trunk
from ..layers.walk import run_trunk

RELEASED_PATCH_SIZE = 2
"""Cells along a side that the input convolution sees as one; shapes do not tell."""


@dataclass(frozen=True, slots=True)
class StageBConfig:
    """Sizes of a Stage B, all read from its weights.

    Attributes:
        trunk: the levels.
        channels: of the latents, in and out.
        patch_size: cells along a side that are folded into channels first.
        c_pooled: features of the pooled text.
        c_clip_seq: tokens that one pooled text becomes.
        c_semantic: channels of the Stage C latents.
        c_semantic_hidden: width inside the mapper of the Stage C latents.
        c_pixels: channels of the pixel input.
        c_pixels_hidden: width inside its mapper.
    """

    trunk: TrunkConfig
    channels: int
    patch_size: int
    c_pooled: int
    c_clip_seq: int
    c_semantic: int
    c_semantic_hidden: int
    c_pixels: int
    c_pixels_hidden: int

    @classmethod
    def from_shapes(cls, shapes: Shapes, metadata: Mapping[str, str] | None = None) -> StageBConfig:
        """Infer the sizes.

        Args:
            shapes: of every weight, by name.
            metadata: of the file; ``cascade.head_dim`` where heads are not 64 wide.

        Raises:
            ValueError: the shapes do not belong to a Stage B.
        """
        for key in ("effnet_mapper.0.weight", "clip_mapper.weight"):
            if key not in shapes:
                raise ValueError(f"no {key} in the file, so it is no Stage B")
        head_width = int((metadata or {}).get("cascade.head_dim", RELEASED_HEAD_WIDTH))
        trunk = TrunkConfig.from_shapes(shapes, head_width)
        return cls(
            trunk=trunk,
            channels=shapes["embedding.1.weight"][1] // RELEASED_PATCH_SIZE**2,
            patch_size=RELEASED_PATCH_SIZE,
            c_pooled=shapes["clip_mapper.weight"][1],
            c_clip_seq=shapes["clip_mapper.weight"][0] // trunk.c_cond,
            c_semantic=shapes["effnet_mapper.0.weight"][1],
            c_semantic_hidden=shapes["effnet_mapper.0.weight"][0],
            c_pixels=shapes["pixels_mapper.0.weight"][1],
            c_pixels_hidden=shapes["pixels_mapper.0.weight"][0],
        )


def _mapper(c_in: int, c_hidden: int, c_out: int, ops: Operations) -> nn.Sequential:
    return nn.Sequential(ops.Conv2d(c_in, c_hidden, 1), nn.GELU(), ops.Conv2d(c_hidden, c_out, 1))


class StageB(nn.Module):
    """The network. Attribute names are the key names of the released files."""

    def __init__(self, config: StageBConfig, ops: Operations = TORCH):
        super().__init__()
        self.config = config
        trunk, width = config.trunk, config.trunk.down[0].width
        folded = config.channels * config.patch_size**2
        self.effnet_mapper = _mapper(config.c_semantic, config.c_semantic_hidden, width, ops)
        self.pixels_mapper = _mapper(config.c_pixels, config.c_pixels_hidden, width, ops)
        self.clip_mapper = ops.Linear(config.c_pooled, trunk.c_cond * config.c_clip_seq)
        self.embedding = nn.Sequential(nn.PixelUnshuffle(config.patch_size), ops.Conv2d(folded, width, 1))
        add_trunk(self, trunk, ops)
        # Place 0 is the norm's, which has no parameters.
        self.clf = nn.Sequential(
            nn.Identity(), ops.Conv2d(trunk.up[-1].width, folded, 1), nn.PixelShuffle(config.patch_size)
        )

    def tokens(self, pooled: Tensor) -> Tensor:
        """The pooled text, ``b c_pooled`` or ``b m c_pooled``, as tokens ``b m * c_clip_seq c_cond``."""
        tokens = self.clip_mapper(pooled).reshape(pooled.shape[0], -1, self.config.trunk.c_cond)
        return layer_norm(tokens)

    def semantic_map(self, semantic: Tensor, height: int, width: int) -> Tensor:
        """What Stage C drew, as a map to add to the input; does not depend on the noise level.

        The latent is resized first and mapped second. The pixel input, which no released weights use, is a
        zero picture: after its mapper that is one constant vector, added here as well.

        Args:
            semantic: Stage C latents, ``b c_semantic h w``; zeros for the unconditional branch.
            height, width: of the Stage B latents, multiples of the patch size.

        Returns:
            ``b height/patch width/patch c``.
        """
        patch = self.config.patch_size
        cells = resize(to_channels_last(semantic), height // patch, width // patch)
        mapped = layer_norm(on_channels_first(self.effnet_mapper, cells))
        pixels = semantic.new_zeros(1, 1, 1, self.config.c_pixels)
        return mapped + layer_norm(on_channels_first(self.pixels_mapper, pixels))

    def forward(
        self,
        x: Tensor,
        t: Tensor,
        tokens: Tensor,
        semantic_map: Tensor,
        hooks: Hooks = NO_HOOKS,
        wide_values: int | None = None,
        keys_values: Tensor | None = None,
    ) -> Tensor:
        """Predict the noise in ``x``, or its velocity if the network was trained for that.

        Args:
            x: noisy latents of unit variance, ``b c h w``; sides even and at least 16.
            t: time in [0, 1] of the unshifted cosine schedule at the noise level of ``x``, ``b``, fp32.
            tokens: from ``tokens``.
            semantic_map: from ``semantic_map``.
            hooks, wide_values, keys_values: see ``layers.walk.run_trunk``.

        Returns:
            The prediction, same shape as ``x``.
        """
        trunk = self.config.trunk
        embedding = time_embedding(t, trunk.c_r, len(trunk.t_conds), x.dtype)
        h = layer_norm(to_channels_last(self.embedding(x))) + semantic_map
        h = run_trunk(
            self, h, embedding, tokens, hooks=hooks, wide_values=wide_values, keys_values=keys_values
        )
        h = on_channels_first(self.clf[1], layer_norm(h))
        return functional.pixel_shuffle(to_channels_first(h), self.config.patch_size)
