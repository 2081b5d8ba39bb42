"""Between pictures and Stage C latents: the semantic encoder, and the previewer back.

Source: Stability ``modules/effnet.py`` and ``modules/previewer.py``.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial

from torch import Tensor, nn
from torch.nn import Conv2d, ConvTranspose2d
from torchvision.models.efficientnet import EfficientNet, FusedMBConvConfig, MBConvConfig

from ..layers.trunk import Shapes

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)

RELEASED_STRIDES = (2, 1, 2, 2, 2, 1, 2)
"""Strides of EfficientNetV2-S, stem first; their product is 32. Shapes do not tell strides."""


@dataclass(frozen=True, slots=True)
class EncoderStage:
    """A run of equal blocks of the semantic encoder; ``fused`` ones use one convolution instead of two."""

    fused: bool
    expand_ratio: float
    kernel_size: int
    stride: int
    c_in: int
    c_out: int
    depth: int


@dataclass(frozen=True, slots=True)
class SemanticEncoderConfig:
    """Sizes of a semantic encoder: its stages, the width of its last convolution, its latent channels."""

    stages: tuple[EncoderStage, ...]
    c_last: int
    channels: int
    stem_stride: int = 2

    @property
    def downscale(self) -> int:
        """Pixels of the encoder's input to one latent cell, along one side."""
        return downscale_of(self.stages, self.stem_stride)

    @classmethod
    def from_shapes(cls, shapes: Shapes, metadata: Mapping[str, str] | None = None) -> SemanticEncoderConfig:
        """Infer the sizes.

        Args:
            shapes: of every weight, by name.
            metadata: of the file; ``cascade.strides``, a JSON list with the stem's first, where they are
                not those of EfficientNetV2-S.

        Raises:
            ValueError: the shapes do not belong to a semantic encoder, or the strides do not fit them.
        """
        if "backbone.0.0.weight" not in shapes or "mapper.0.weight" not in shapes:
            raise ValueError("no backbone and mapper in the file, so it is no semantic encoder")
        stages, stem_stride = read_stages(shapes, metadata, "the semantic encoder")
        return cls(
            stages=stages,
            c_last=shapes["mapper.0.weight"][1],
            channels=shapes["mapper.0.weight"][0],
            stem_stride=stem_stride,
        )


def downscale_of(stages: Sequence[EncoderStage], stem_stride: int) -> int:
    """Pixels of the input to one cell of the output of an EfficientNet, along one side."""
    ratio = stem_stride
    for stage in stages:
        ratio *= stage.stride
    return ratio


def read_stages(
    shapes: Shapes, metadata: Mapping[str, str] | None, what: str
) -> tuple[tuple[EncoderStage, ...], int]:
    """The stages of the EfficientNet under ``backbone.``, and the stride of its stem.

    Args:
        shapes, metadata: see ``SemanticEncoderConfig.from_shapes``.
        what: how to call the network in errors.

    Raises:
        ValueError: the strides do not fit the stages.
    """
    count = max(int(key.split(".")[1]) for key in shapes if key.startswith("backbone.")) - 1
    recorded = (metadata or {}).get("cascade.strides")
    strides = tuple(json.loads(recorded)) if recorded else RELEASED_STRIDES
    if len(strides) != count + 1:
        raise ValueError(
            f"{what} has {count} stages and a stem, but {len(strides)} strides are known; "
            "the file's metadata must say cascade.strides"
        )
    return tuple(_read_stage(shapes, i, strides[i]) for i in range(1, count + 1)), strides[0]


def efficientnet(stages: Sequence[EncoderStage], stem_stride: int, c_last: int) -> nn.Sequential:
    """The convolutions of an EfficientNet: stem, stages and a last one to ``c_last`` channels."""
    blocks = [
        (FusedMBConvConfig if s.fused else MBConvConfig)(
            s.expand_ratio, s.kernel_size, s.stride, s.c_in, s.c_out, s.depth
        )
        for s in stages
    ]
    # Random depth is a matter of pre-training; at 0 the trunk is what it is in evaluation mode.
    trunk = EfficientNet(
        blocks, 0.0, stochastic_depth_prob=0.0, last_channel=c_last,
        norm_layer=partial(nn.BatchNorm2d, eps=1e-3), num_classes=1,
    )  # fmt: skip
    trunk.features[0][0].stride = (stem_stride,) * 2
    return trunk.features


def _read_stage(shapes: Shapes, index: int, stride: int) -> EncoderStage:
    prefix = f"backbone.{index}."
    positions = {int(key.split(".")[2]) for key in shapes if key.startswith(prefix)}
    first = shapes[f"{prefix}0.block.0.0.weight"]
    if f"{prefix}0.block.2.fc1.weight" in shapes:  # expand, depthwise, squeeze, project
        kernel_size, project = (
            shapes[f"{prefix}0.block.1.0.weight"][-1],
            shapes[f"{prefix}0.block.3.0.weight"],
        )
        return EncoderStage(
            False, first[0] / first[1], kernel_size, stride, first[1], project[0], len(positions)
        )
    project = shapes.get(f"{prefix}0.block.1.0.weight")  # absent where nothing is expanded
    ratio = first[0] / first[1] if project else 1
    return EncoderStage(True, ratio, first[-1], stride, first[1], (project or first)[0], len(positions))


class SemanticEncoder(nn.Module):
    """EfficientNet and a projection: a picture as Stage C latents of zero mean and unit variance.

    Always in evaluation mode by nature: ``forward`` uses the running statistics of its batch norms once
    ``eval()`` was called.
    """

    def __init__(self, config: SemanticEncoderConfig):
        super().__init__()
        self.config = config
        self.backbone = efficientnet(config.stages, config.stem_stride, config.c_last)
        self.mapper = nn.Sequential(
            Conv2d(config.c_last, config.channels, 1, bias=False),
            nn.BatchNorm2d(config.channels, affine=False),
        )

    def forward(self, images: Tensor) -> Tensor:
        """``b 3 h w`` in [0, 1] -> latents ``b c h/downscale w/downscale``, rounded up."""
        mean, std = (images.new_tensor(value).view(3, 1, 1) for value in (IMAGENET_MEAN, IMAGENET_STD))
        return self.mapper(self.backbone((images - mean) / std))


@dataclass(frozen=True, slots=True)
class PreviewerConfig:
    """The previewer's convolutions in order, each (kernel size, channels in, channels out)."""

    convolutions: tuple[tuple[int, int, int], ...]

    @classmethod
    def from_shapes(cls, shapes: Shapes, metadata: Mapping[str, str] | None = None) -> PreviewerConfig:
        """Infer the sizes; nothing is taken from ``metadata``.

        Raises:
            ValueError: the shapes do not belong to a previewer.
        """
        weights = {
            int(m.group(1)): shape for key, shape in shapes.items() if (m := _PREVIEWER_WEIGHT.match(key))
        }
        kernels = [shape for _, shape in sorted(weights.items()) if len(shape) == 4]
        if not kernels:
            raise ValueError("no blocks.N convolutions in the file, so it is no previewer")
        # A transposed convolution, known by its 2x2 kernel, stores its input channels first.
        return cls(tuple((s[-1], s[0], s[1]) if s[-1] == 2 else (s[-1], s[1], s[0]) for s in kernels))

    @property
    def upscale(self) -> int:
        """Pixels of the preview to one latent cell, along one side."""
        return 2 ** sum(kernel == 2 for kernel, _, _ in self.convolutions)


_PREVIEWER_WEIGHT = re.compile(r"blocks\.(\d+)\.weight$")


def _convolution(kernel_size: int, c_in: int, c_out: int) -> nn.Module:
    if kernel_size == 2:
        return ConvTranspose2d(c_in, c_out, kernel_size=2, stride=2)
    return Conv2d(c_in, c_out, kernel_size, padding=kernel_size // 2)


class Previewer(nn.Module):
    """Stage C latents as a small picture, in one cheap pass."""

    def __init__(self, config: PreviewerConfig):
        super().__init__()
        self.config = config
        blocks: list[nn.Module] = []
        for kernel_size, c_in, c_out in config.convolutions[:-1]:
            blocks += [_convolution(kernel_size, c_in, c_out), nn.GELU(), nn.BatchNorm2d(c_out)]
        blocks.append(_convolution(*config.convolutions[-1]))
        self.blocks = nn.Sequential(*blocks)

    def forward(self, latents: Tensor) -> Tensor:
        """``b c h w`` -> ``b 3 h*upscale w*upscale``, close to [0, 1]."""
        return self.blocks(latents)
