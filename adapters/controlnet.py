"""ControlNets of Stage C: a picture that steers, in; what is added inside Stage C, out.

A backbone looks at the picture once for a whole sampling run. For each residual block of Stage C that it
steers, a projection then turns the backbone's features into what is added to that block's input. Three
backbones exist, told apart by their names and shapes. Which blocks the projections feed is not in the
released files.

Source: Stability ``modules/controlnet.py``, ``configs/inference/controlnet_c_3b_*.yaml``.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor, nn
from torch.nn import Conv2d

from ..checkpoints.adapters import controlnet_kind
from ..checkpoints.identify import Part, expect
from ..checkpoints.layout import shapes as shapes_of
from ..checkpoints.open import build, read_weights
from ..checkpoints.recorded import Recorded
from ..checkpoints.scaled import plain
from ..layers.channels_last import to_channels_first, to_channels_last
from ..layers.trunk import Shapes
from ..stage_c.coder import EncoderStage, downscale_of, efficientnet, read_stages

RELEASED_BLOCKS = {8: (0, 4, 8, 12, 51, 55, 59, 63), 64: tuple(range(64))}
"""Residual blocks of the released Stage C that so many projections feed: the first three kinds of the
release have eight, identity has all."""

SLOPE = 0.2
"""Of the leaky ReLUs on their negative side."""


# Backbones -----------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class EfficientNetBackbone:
    """Sizes of an EfficientNet over pictures: canny, inpainting, and what was trained like them.

    Attributes:
        c_in: channels of the picture.
        stages: of the network.
        features: channels that come out.
        stem_stride: of its first convolution.
    """

    c_in: int
    stages: tuple[EncoderStage, ...]
    features: int
    stem_stride: int = 2

    @property
    def downscale(self) -> int:
        """Pixels to one cell of the features, along one side."""
        return downscale_of(self.stages, self.stem_stride)

    @property
    def widest(self) -> float:
        """Values in the widest layer to a pixel."""
        return max(stage.c_in * stage.expand_ratio for stage in self.stages) / self.stem_stride**2

    def build(self) -> nn.Sequential:
        """The network. Without colours its first convolution has no padding, as in the reference."""
        network = efficientnet(self.stages, self.stem_stride, self.features)
        if self.c_in != 3:
            width = network[0][0].out_channels
            network[0][0] = Conv2d(self.c_in, width, 3, stride=self.stem_stride, bias=False)
        return network


@dataclass(frozen=True, slots=True)
class DeepBackbone:
    """Sizes of residual convolutions over latents: super-resolution.

    Attributes:
        c_in: channels of the latents.
        c_hidden: of the first layer.
        width, depth: of the residual blocks, and how many.
        features: channels that come out.
    """

    c_in: int
    c_hidden: int
    width: int
    depth: int
    features: int

    @property
    def downscale(self) -> int:
        """A cell stays a cell."""
        return 1

    @property
    def widest(self) -> float:
        """Values in the widest layer to a cell."""
        return max(self.c_hidden, self.width, self.features)

    def build(self) -> nn.Sequential:
        """The network."""
        return nn.Sequential(
            Conv2d(self.c_in, self.c_hidden, 1),
            nn.LeakyReLU(SLOPE),
            Conv2d(self.c_hidden, self.width, 1),
            *(ControlBlock(self.width) for _ in range(self.depth)),
            Conv2d(self.width, self.features, 1),
        )


@dataclass(frozen=True, slots=True)
class PlainBackbone:
    """Sizes of two convolutions over a map of faces: identity."""

    c_in: int
    c_hidden: int

    @property
    def features(self) -> int:
        """Channels that come out."""
        return self.c_in

    @property
    def downscale(self) -> int:
        """A cell stays a cell."""
        return 1

    @property
    def widest(self) -> float:
        """Values in the widest layer to a cell."""
        return self.c_hidden

    def build(self) -> nn.Sequential:
        """The network."""
        return nn.Sequential(
            Conv2d(self.c_in, self.c_hidden, 3, padding=1),
            nn.LeakyReLU(SLOPE),
            Conv2d(self.c_hidden, self.c_in, 3, padding=1),
        )


Backbone = EfficientNetBackbone | DeepBackbone | PlainBackbone


class ChannelNorm(nn.LayerNorm):
    """Layer norm over the channels of ``b c h w``, with gain and bias."""

    def forward(self, x: Tensor) -> Tensor:
        return to_channels_first(super().forward(to_channels_last(x)))


class ControlBlock(nn.Module):
    """Two normalised 3x3 convolutions beside a skip."""

    def __init__(self, width: int):
        super().__init__()
        self.blocks = nn.Sequential(
            ChannelNorm(width),
            nn.GELU(),
            Conv2d(width, width, 3, padding=1),
            ChannelNorm(width),
            nn.GELU(),
            Conv2d(width, width, 3, padding=1),
        )

    def forward(self, x: Tensor) -> Tensor:
        return x + self.blocks(x)


# The network ---------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class ControlNetConfig:
    """Sizes of a ControlNet.

    Attributes:
        backbone: what looks at the picture.
        c_proj: width of the Stage C that it was trained for.
        blocks: number of the residual block that each projection feeds, in the order in which they run.
        kind: what it was trained to follow, as far as its file tells.
    """

    backbone: Backbone
    c_proj: int
    blocks: tuple[int, ...]
    kind: str = ""

    @classmethod
    def from_shapes(
        cls, shapes: Shapes, metadata: Mapping[str, str] | None = None, blocks: Sequence[int] = ()
    ) -> ControlNetConfig:
        """Infer the sizes.

        Args:
            shapes: of every weight, by name.
            metadata: of the file; ``cascade.blocks`` is a JSON list of what ``blocks`` says,
                ``cascade.strides`` those of an EfficientNet other than V2-S, ``cascade.kind`` a word.
            blocks: that the projections feed, where neither the file nor the reference says it.

        Raises:
            ValueError: the shapes do not belong to a ControlNet of Stage C, or nothing says what the
                projections feed.
        """
        outputs = _projections(shapes)
        given = tuple(blocks) or _recorded_blocks(metadata) or RELEASED_BLOCKS.get(len(outputs), ())
        if not given:
            known = " or ".join(map(str, RELEASED_BLOCKS))
            raise ValueError(
                f"the ControlNet has {len(outputs)} projections, and which residual blocks of Stage C they "
                f"feed is known for {known} only; give their numbers as blocks, such as 0, 2, 5"
            )
        _check_blocks(given, len(outputs))
        kind = (metadata or {}).get("cascade.kind") or controlnet_kind(shapes, "")
        return cls(_read_backbone(shapes, metadata), outputs[0], given, kind)


def _projections(shapes: Shapes) -> list[int]:
    """Channels that each projection gives."""
    found = {
        int(match.group(1)): shape
        for key, shape in shapes.items()
        if (match := re.fullmatch(r"projections\.(\d+)\.2\.weight", key))
    }
    if not found or sorted(found) != list(range(len(found))) or len({s[0] for s in found.values()}) > 1:
        raise ValueError(
            f"the projections are numbered {sorted(found)} and do not all have one width, so this is no "
            "whole ControlNet of Stage C; download it again or choose another"
        )
    return [found[i][0] for i in range(len(found))]


def _recorded_blocks(metadata: Mapping[str, str] | None) -> tuple[int, ...]:
    text = (metadata or {}).get("cascade.blocks")
    if text is None:
        return ()
    try:
        return read_blocks(text.strip("[] "))
    except ValueError as error:
        raise ValueError(f"the file says cascade.blocks = {text[:60]!r}: {error}") from None


def read_blocks(text: str) -> tuple[int, ...]:
    """Numbers of blocks from a text such as ``0, 4, 8`` or ``0-15, 63``; () for an empty one.

    Raises:
        ValueError: the text is anything else.

    >>> read_blocks("0-2, 7")
    (0, 1, 2, 7)
    """
    numbers: list[int] = []
    for piece in filter(None, re.split(r"[\s,]+", text.strip())):
        match = re.fullmatch(r"(\d{1,4})(?:-(\d{1,4}))?", piece)
        if match is None:
            raise ValueError(
                f"{piece[:20]!r} is no number of a residual block; write blocks as 0, 4, 8 or 0-15"
            )
        first = int(match.group(1))
        numbers += range(first, int(match.group(2) or first) + 1)
    return tuple(numbers)


def _check_blocks(blocks: tuple[int, ...], count: int) -> None:
    if len(blocks) != count or len(set(blocks)) != count:
        raise ValueError(
            f"{len(set(blocks))} different blocks are given for {count} projections, and each feeds one; "
            f"give {count} numbers"
        )


def _read_backbone(shapes: Shapes, metadata: Mapping[str, str] | None) -> Backbone:
    def shape(name: str, rank: int = 4) -> tuple[int, ...]:
        found = shapes.get(f"backbone.{name}.weight", ())
        if len(found) != rank:
            raise ValueError(
                f"backbone.{name}.weight is missing or no convolution, so this is none of the backbones of "
                "Stable Cascade's ControlNets; it is cut or of another model"
            )
        return found

    last = max(int(key.split(".")[1]) for key in shapes if re.match(r"backbone\.\d+\.", key))
    if "backbone.0.0.weight" in shapes:
        stages, stem_stride = read_stages(shapes, metadata, "the ControlNet's EfficientNet")
        return EfficientNetBackbone(shape("0.0")[1], stages, shape(f"{last}.0")[0], stem_stride)
    if shape("0")[-1] == 1:
        depth = sum(f"backbone.{i}.blocks.2.weight" in shapes for i in range(last))
        return DeepBackbone(shape("0")[1], shape("0")[0], shape("2")[0], depth, shape(str(last))[0])
    return PlainBackbone(shape("0")[1], shape("2")[1])


class ControlNet(nn.Module):
    """The network. Attribute names are the key names of the released files."""

    def __init__(self, config: ControlNetConfig):
        super().__init__()
        self.config = config
        features = config.backbone.features
        self.backbone = config.backbone.build()
        self.projections = nn.ModuleList(
            nn.Sequential(
                Conv2d(features, features, 1, bias=False),
                nn.LeakyReLU(SLOPE),
                Conv2d(features, config.c_proj, 1, bias=False),
            )
            for _ in config.blocks
        )

    def forward(self, hint: Tensor) -> list[Tensor | None]:
        """What to add before each residual block of Stage C, in running order; None for nothing.

        Args:
            hint: ``b c_in h w``; pictures are in [0, 1], without any normalisation.

        Returns:
            ``b c_proj h/downscale w/downscale`` each, as ``StageC.forward`` takes it. It does not depend on
            the noise level.
        """
        features = self.backbone(hint)
        residuals: list[Tensor | None] = [None] * (max(self.config.blocks) + 1)
        for block, projection in zip(self.config.blocks, self.projections, strict=True):
            residuals[block] = projection(features)
        return residuals


def recorded(config: ControlNetConfig) -> dict[str, Any]:
    """What a file's metadata has to say of a ControlNet, without ``cascade.``: shapes tell the rest."""
    entries: dict[str, Any] = {"blocks": list(config.blocks), "kind": config.kind}
    backbone = config.backbone
    if isinstance(backbone, EfficientNetBackbone):
        entries["strides"] = [backbone.stem_stride, *(stage.stride for stage in backbone.stages)]
    return entries


def load_controlnet(path: str | Path, blocks: Sequence[int] = ()) -> ControlNet:
    """A ControlNet of Stage C from a safetensors file, in evaluation mode and the file's precision.

    Args:
        path: of the file.
        blocks: see ``ControlNetConfig.from_shapes``.

    Raises:
        ValueError: the file holds something else, or not all of it; the sentence says what it is.
    """
    header = expect(path, Part.CONTROLNET)
    Recorded.from_metadata(header.metadata, f"`{header.file}`")
    weights = plain(read_weights(Part.CONTROLNET, header))
    try:
        config = ControlNetConfig.from_shapes(shapes_of(weights), header.metadata, blocks)
    except KeyError as error:
        raise ValueError(
            f"`{header.file}` lacks {error.args[0]}; it is cut or of another model, so choose another file"
        ) from None
    except ValueError as error:
        raise ValueError(f"`{header.file}`: {error}") from None
    return build(ControlNet, config, weights, file=header.file)
