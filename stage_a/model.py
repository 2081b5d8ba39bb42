"""Stage A: a small autoencoder, four pixels to a latent cell along each side.

It was trained as a VQGAN; its codebook travels with the file and is not used to draw pictures, because
Stage B works in the continuous space in front of it.

Source: Stability ``modules/stage_a.py``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from ..layers.channels_last import LAYER_NORM_EPS, on_channels_first, to_channels_first, to_channels_last
from ..layers.ops import TORCH, Operations
from ..layers.trunk import Shapes
from ..layers.wide import by_strips, gelu

STAGE_B_SCALE = 0.43
"""Stage B works on Stage A's latents divided by this, which brings them near unit variance."""

FOLD = 2
"""Pixels along a side that are folded into channels before the first convolution."""


@dataclass(frozen=True, slots=True)
class StageAConfig:
    """Sizes of a Stage A, all read from its weights.

    Attributes:
        widths: channels of each level, finest first.
        c_hidden: width inside the MLP of each level, finest first.
        bottleneck_blocks: residual blocks at the coarsest level of the decoder.
        channels: of the latents.
        codebook_size: entries of the codebook; 0 for none.
        kernel_size: of the depthwise convolutions.
    """

    widths: tuple[int, ...]
    c_hidden: tuple[int, ...]
    bottleneck_blocks: int
    channels: int
    codebook_size: int
    kernel_size: int = 3

    @classmethod
    def from_shapes(cls, shapes: Shapes, metadata: Mapping[str, str] | None = None) -> StageAConfig:
        """Infer the sizes; nothing is taken from ``metadata``.

        Raises:
            ValueError: the shapes do not belong to a Stage A.
        """
        if "in_block.1.weight" not in shapes or "out_block.0.weight" not in shapes:
            raise ValueError("no in_block and out_block in the file, so it is no Stage A")
        # The encoder is residual, (convolution, residual) …, then the projection to the latents.
        gammas = [key for key in shapes if key.startswith("down_blocks.") and key.endswith(".gammas")]
        blocks = sorted(int(key.split(".")[1]) for key in gammas)
        hidden = [shapes[f"down_blocks.{i}.channelwise.0.weight"] for i in blocks]
        decoder_blocks = sum(key.startswith("up_blocks.") and key.endswith(".gammas") for key in shapes)
        return cls(
            widths=tuple(shape[1] for shape in hidden),
            c_hidden=tuple(shape[0] for shape in hidden),
            bottleneck_blocks=decoder_blocks - (len(blocks) - 1),
            channels=shapes["up_blocks.0.0.weight"][1],
            codebook_size=shapes.get("vquantizer.codebook.weight", (0,))[0],
            kernel_size=shapes[f"down_blocks.{blocks[0]}.depthwise.1.weight"][-1],
        )


class ResBlock(nn.Module):
    """Depthwise convolution, then an MLP; each modulated and scaled by learned scalars. ``b c h w``."""

    def __init__(self, width: int, c_hidden: int, kernel_size: int, ops: Operations):
        super().__init__()
        # Replicated borders, not zeros: otherwise the frame of every picture would darken.
        pad = nn.ReplicationPad2d(kernel_size // 2)
        self.depthwise = nn.Sequential(pad, ops.Conv2d(width, width, kernel_size, groups=width))
        self.channelwise = nn.Sequential(ops.Linear(width, c_hidden), nn.GELU(), ops.Linear(c_hidden, width))
        self.gammas = nn.Parameter(ops.zeros(6))
        self.c_hidden = c_hidden

    def forward(self, x: Tensor) -> Tensor:
        scale_1, shift_1, gain_1, scale_2, shift_2, gain_2 = self.gammas.to(x)
        expand, _, reduce = self.channelwise

        def depthwise(cells: Tensor) -> Tensor:
            return on_channels_first(self.depthwise, _modulated_norm(cells, scale_1, shift_1))

        def mlp(cells: Tensor) -> Tensor:
            narrow = reduce(gelu(expand(_modulated_norm(cells, scale_2, shift_2))))
            return torch.addcmul(cells, narrow, gain_2)

        x = to_channels_last(x)
        x = torch.addcmul(x, depthwise(x), gain_1)
        return to_channels_first(by_strips(mlp, x, self.c_hidden))


def _modulated_norm(x: Tensor, scale: Tensor, shift: Tensor) -> Tensor:
    """The norm with one scale and one shift for all channels, in one pass over ``b h w c``."""
    width = x.shape[-1:]
    return functional.layer_norm(x, width, (1 + scale).expand(width), shift.expand(width), LAYER_NORM_EPS)


class StageA(nn.Module):
    """The autoencoder. Attribute names are the key names of the released file; everything is ``b c h w``."""

    def __init__(self, config: StageAConfig, ops: Operations = TORCH):
        super().__init__()
        self.config = config
        levels = list(zip(config.widths, config.c_hidden, strict=True))
        folded = 3 * FOLD**2

        def block(level: int) -> ResBlock:
            return ResBlock(*levels[level], config.kernel_size, ops)

        self.in_block = nn.Sequential(nn.PixelUnshuffle(FOLD), ops.Conv2d(folded, config.widths[0], 1))
        down: list[nn.Module] = [block(0)]
        for level in range(1, len(levels)):
            c_in, c_out = config.widths[level - 1 : level + 1]
            down += [ops.Conv2d(c_in, c_out, kernel_size=4, stride=2, padding=1), block(level)]
        to_latents = ops.Conv2d(config.widths[-1], config.channels, 1, bias=False)
        down.append(nn.Sequential(to_latents, nn.BatchNorm2d(config.channels)))
        self.down_blocks = nn.Sequential(*down)
        if config.codebook_size:
            codebook = ops.Embedding(config.codebook_size, config.channels)
            self.vquantizer = nn.ModuleDict({"codebook": codebook})

        up: list[nn.Module] = [nn.Sequential(ops.Conv2d(config.channels, config.widths[-1], 1))]
        up += [block(-1) for _ in range(config.bottleneck_blocks)]
        for level in range(len(levels) - 1, 0, -1):
            c_out, c_in = config.widths[level - 1 : level + 1]
            up += [ops.ConvTranspose2d(c_in, c_out, kernel_size=4, stride=2, padding=1), block(level - 1)]
        self.up_blocks = nn.Sequential(*up)
        self.out_block = nn.Sequential(ops.Conv2d(config.widths[0], folded, 1), nn.PixelShuffle(FOLD))

    def encode(self, images: Tensor) -> Tensor:
        """Latents of pictures, not quantised; Stage B's space is this divided by ``STAGE_B_SCALE``.

        Args:
            images: ``b 3 h w`` in [0, 1], sides multiples of 4.

        Returns:
            ``b 4 h/4 w/4``.
        """
        return self.down_blocks(self.in_block[1](_channels_last(self.in_block[0](images))))

    def decode(self, latents: Tensor) -> Tensor:
        """Pictures of latents, ``b 4 h w`` -> ``b 3 4h 4w``; close to [0, 1], not clamped."""
        return self.out_block(self.up_blocks(_channels_last(latents)))


def _channels_last(x: Tensor) -> Tensor:
    """The same in the memory format that convolutions keep, and in which a norm needs no transposition."""
    return x.contiguous(memory_format=torch.channels_last)
