"""The body of Stage B and Stage C: levels of blocks on the way down, the same on the way up.

Both stages are this trunk between different inputs and the same kind of head. The functions here build
module lists under the key names of the released files; they are no module themselves, so that those names
stay at the top of each network. ``walk.py`` runs them.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Literal

from torch import Tensor, nn
from torch.nn import functional

from .blocks import AttnBlock, FeedForwardBlock, ResBlock, TimestepBlock
from .channels_last import layer_norm, on_channels_first
from .hooks import Place, Side
from .ops import Operations

Shapes = Mapping[str, tuple[int, ...]]
Transition = Literal["strided", "pointwise"]

RELEASED_HEAD_WIDTH = 64
"""Every attention of every released Stage B and C has heads of this width; shapes do not tell."""

MOST_LEVELS = 16
"""That are read from a file; each halves the picture, so no network has as many."""


@dataclass(frozen=True, slots=True)
class Level:
    """One resolution of the trunk.

    Attributes:
        width: channels.
        unit: the repeating unit of block kinds, such as ``"CTA"``.
        depth: how many units.
        repeats: how often the whole list of blocks runs, with a learned 1x1 convolution between.
        c_skip: channels of the skip that the first residual block takes; 0 for none.
    """

    width: int
    unit: str
    depth: int
    repeats: int
    c_skip: int


@dataclass(frozen=True, slots=True)
class TrunkConfig:
    """Sizes of a trunk, all read from the shapes in a file but for the three last.

    Attributes:
        down: levels from the finest to the coarsest.
        up: levels from the coarsest to the finest.
        c_cond: width of the conditioning tokens.
        c_r: features of one embedded scalar.
        t_conds: names of the scalars beside the time.
        kernel_size: of the depthwise convolutions.
        transition: "strided" halves the resolution between levels (Stage B), "pointwise" only changes
            the width (Stage C).
        head_width: channels of an attention head.
        switch_level: with "pointwise", whether level i+1 has half the resolution of level i.
        self_attn: whether cells attend to cells.
    """

    down: tuple[Level, ...]
    up: tuple[Level, ...]
    c_cond: int
    c_r: int
    t_conds: tuple[str, ...]
    kernel_size: int
    transition: Transition
    head_width: int = RELEASED_HEAD_WIDTH
    switch_level: tuple[bool, ...] = ()
    self_attn: bool = True

    @classmethod
    def from_shapes(cls, shapes: Shapes, head_width: int = RELEASED_HEAD_WIDTH) -> TrunkConfig:
        """Read the sizes from the shapes of a network's weights.

        Raises:
            ValueError: the blocks do not form a trunk.
        """
        count = 1 + max(_indices(shapes, "down_blocks."), default=-1)
        if count == 0 or count != 1 + max(_indices(shapes, "up_blocks."), default=-1):
            raise ValueError("the file holds no matching down_blocks and up_blocks, so it is no Stage B or C")
        if count > MOST_LEVELS:
            raise ValueError(f"the file holds {count} levels of blocks, and no Stage B or C has that many")
        down = tuple(_read_level(shapes, "down", i) for i in range(count))
        up = tuple(_read_level(shapes, "up", i) for i in range(count))
        attention = _first(shapes, r"kv_mapper\.1\.weight$")
        time = _first(shapes, r"\.mapper\.weight$")
        depthwise = _first(shapes, r"\.depthwise\.weight$")
        strided = "down_downscalers.1.1.weight" in shapes
        for level in down + up:
            if "A" in level.unit and level.width % head_width:
                raise ValueError(
                    f"attention over {level.width} channels does not divide into heads of {head_width}; "
                    "the file's metadata must say cascade.head_dim"
                )
        return cls(
            down=down,
            up=up,
            c_cond=attention[1] if attention else 0,
            c_r=time[1] if time else RELEASED_HEAD_WIDTH,
            t_conds=_time_conditions(shapes),
            kernel_size=depthwise[-1] if depthwise else 3,
            transition="strided" if strided else "pointwise",
            head_width=head_width,
            switch_level=(False,) * (count - 1),
        )


def _indices(shapes: Shapes, prefix: str) -> set[int]:
    rests = (key[len(prefix) :].partition(".") for key in shapes if key.startswith(prefix))
    return {int(number) for number, dot, _ in rests if dot and number.isdecimal()}


def _first(shapes: Shapes, pattern: str) -> tuple[int, ...] | None:
    return next((shape for key, shape in shapes.items() if re.search(pattern, key)), None)


def _time_conditions(shapes: Shapes) -> tuple[str, ...]:
    """Names of the scalars beside the time, in the order in which the released networks take them."""
    matches = (re.search(r"\.mapper_(\w+)\.weight$", key) for key in shapes)
    names = {match.group(1) for match in matches if match}
    # Files may list keys in any order; the embedding's order is fixed by the code that trained them.
    return tuple(sorted(names, key=lambda name: (name != "sca", name != "crp", name)))


def _block_kind(shapes: Shapes, prefix: str) -> str:
    for suffix, kind in (("depthwise.weight", "C"), ("mapper.weight", "T"), ("kv_mapper.1.weight", "A")):
        if prefix + suffix in shapes:
            return kind
    if prefix + "channelwise.0.weight" in shapes:
        return "F"
    raise ValueError(f"{prefix[:-1]} is no block of Stage B or C; the file is cut or of another model")


def _block_width(shapes: Shapes, prefix: str, kind: str) -> int:
    key = {"C": "depthwise.bias", "T": "mapper.bias", "A": "kv_mapper.1.bias", "F": "channelwise.4.bias"}[
        kind
    ]
    return shapes[prefix + key][0] // (2 if kind == "T" else 1)


def _read_level(shapes: Shapes, side: Literal["down", "up"], index: int) -> Level:
    prefix = f"{side}_blocks.{index}."
    positions = sorted(_indices(shapes, prefix))
    if positions != list(range(len(positions))) or not positions:
        raise ValueError(f"{prefix[:-1]} lacks blocks: found numbers {positions}; the file is cut")
    kinds = "".join(_block_kind(shapes, f"{prefix}{i}.") for i in positions)
    period = next(n for n in range(1, len(kinds) + 1) if kinds == kinds[:n] * (len(kinds) // n))
    width = _block_width(shapes, f"{prefix}0.", kinds[0])
    skip = shapes[f"{prefix}0.channelwise.0.weight"][1] - width if kinds[0] == "C" else 0
    repeats = 1 + len(_indices(shapes, f"{side}_repeat_mappers.{index}."))
    return Level(width, kinds[:period], len(kinds) // period, repeats, skip)


class Scale(nn.Module):
    """Resize by a factor, bilinear with aligned corners; ``b c h w``."""

    def __init__(self, factor: float):
        super().__init__()
        self.factor = factor

    def forward(self, x: Tensor) -> Tensor:
        return functional.interpolate(x, scale_factor=self.factor, mode="bilinear", align_corners=True)


class Normalised(nn.Sequential):
    """A normalisation followed by a ``b c h w`` layer, on ``b h w c``; the layer's keys start with 1."""

    def __init__(self, layer: nn.Module):
        super().__init__(nn.Identity(), layer)  # place 0 is the norm's, which has no parameters

    def forward(self, x: Tensor) -> Tensor:
        return on_channels_first(self[1], layer_norm(x))


class Pointwise(nn.Module):
    """Stage C's change of level: a 1x1 convolution and, if the level switches resolution, a resize."""

    def __init__(self, *blocks: nn.Module):
        super().__init__()
        self.blocks = nn.Sequential(*blocks)

    def forward(self, x: Tensor) -> Tensor:
        return self.blocks(x)


def _downscaler(i: int, config: TrunkConfig, ops: Operations) -> nn.Module:
    if i == 0:
        return nn.Identity()
    c_in, c_out = config.down[i - 1].width, config.down[i].width
    if config.transition == "strided":
        return Normalised(ops.Conv2d(c_in, c_out, kernel_size=2, stride=2))
    resize_after = Scale(0.5) if config.switch_level[i - 1] else nn.Identity()
    return Normalised(Pointwise(ops.Conv2d(c_in, c_out, 1), resize_after))


def _upscaler(i: int, config: TrunkConfig, ops: Operations) -> nn.Module:
    if i == len(config.up) - 1:
        return nn.Identity()
    c_in, c_out = config.up[i].width, config.up[i + 1].width
    if config.transition == "strided":
        return Normalised(ops.ConvTranspose2d(c_in, c_out, kernel_size=2, stride=2))
    resize_before = Scale(2) if config.switch_level[-1 - i] else nn.Identity()
    return Normalised(Pointwise(resize_before, ops.Conv2d(c_in, c_out, 1)))


def _block(
    kind: str, level: Level, c_skip: int, place: Place, config: TrunkConfig, ops: Operations
) -> nn.Module:
    match kind:
        case "C":
            return ResBlock(level.width, c_skip, config.kernel_size, ops)
        case "T":
            return TimestepBlock(level.width, config.c_r, config.t_conds, ops)
        case "A":
            heads = level.width // config.head_width
            return AttnBlock(level.width, config.c_cond, heads, config.self_attn, place, ops)
        case _:
            return FeedForwardBlock(level.width, ops)


def _blocks(level: Level, side: Side, first: int, config: TrunkConfig, ops: Operations) -> nn.ModuleList:
    return nn.ModuleList(
        _block(kind, level, level.c_skip if i == 0 == j else 0, Place(side, first + i), config, ops)
        for i in range(level.depth)
        for j, kind in enumerate(level.unit)
    )


def first_units(levels: Sequence[Level]) -> list[int]:
    """Number of the first unit of each level on its side."""
    return list(accumulate((level.depth for level in levels[:-1]), initial=0))


def _side(side: Side, levels: Sequence[Level], config: TrunkConfig, ops: Operations) -> nn.ModuleList:
    return nn.ModuleList(
        _blocks(level, side, first, config, ops)
        for level, first in zip(levels, first_units(levels), strict=True)
    )


def _repeat_mappers(level: Level, ops: Operations) -> nn.ModuleList:
    return nn.ModuleList(ops.Conv2d(level.width, level.width, 1) for _ in range(level.repeats - 1))


def add_trunk(network: nn.Module, config: TrunkConfig, ops: Operations) -> None:
    """Give a network the module lists of its trunk, under the key names of the released files."""
    network.down_blocks = _side("down", config.down, config, ops)
    network.down_downscalers = nn.ModuleList(_downscaler(i, config, ops) for i in range(len(config.down)))
    network.down_repeat_mappers = nn.ModuleList(_repeat_mappers(level, ops) for level in config.down)
    network.up_blocks = _side("up", config.up, config, ops)
    network.up_upscalers = nn.ModuleList(_upscaler(i, config, ops) for i in range(len(config.up)))
    network.up_repeat_mappers = nn.ModuleList(_repeat_mappers(level, ops) for level in config.up)
