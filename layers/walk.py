"""Running a trunk: down its levels and up again, with what a ControlNet and other hooks do on the way."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn

from .blocks import WIDENING
from .channels_last import on_channels_first, resize, to_channels_last
from .hooks import NO_HOOKS, AroundUnit, Hooks, Place, Side
from .trunk import Level, TrunkConfig, first_units

Residuals = Iterator[Tensor | None]
"""What a ControlNet adds before each residual block, in the order in which the blocks run; ``b c h w``."""

Known = dict[Side, list[list[Tensor]]]
"""Keys and values of the conditioning tokens: of a side, a unit and its attention blocks."""


@dataclass(frozen=True, slots=True)
class _Run:
    """What every block of one call is given."""

    embedding: Tensor
    tokens: Tensor
    residuals: Residuals
    hooks: Hooks
    wide_values: int | None
    known: Known | None

    def attend(self, block: nn.Module, x: Tensor, place: Place, number: int) -> Tensor:
        """An attention block, the so many-th of its unit."""
        if self.hooks.attending:
            return block.hooked(x, self.tokens, self.hooks)
        if self.known is None:
            return block(x, block.keys_values(self.tokens))
        return block(x, self.known[place.side][place.unit][number])

    def rows(self, x: Tensor) -> int | None:
        """How many rows of a map a block widens at a time."""
        if self.wide_values is None:
            return None
        batch, _, width, channels = x.shape
        return max(1, self.wide_values // (batch * width * channels * WIDENING))


def _run_unit(
    kinds: str,
    blocks: Sequence[nn.Module],
    place: Place,
    residuals: Sequence[Tensor | None],
    run: _Run,
    x: Tensor,
    skip: Tensor | None,
) -> Tensor:
    mine, attended = iter(residuals), 0
    # By their letters and not by their types: whoever wraps a block, to compile it say, hides its type.
    for kind, block in zip(kinds, blocks, strict=True):
        match kind:
            case "C":
                residual = next(mine)
                if residual is not None:
                    x = x + resize(to_channels_last(residual), *x.shape[1:3]).to(x.dtype)
                x = block(x, skip, run.rows(x))
                skip = None
            case "T":
                x = block(x, run.embedding)
            case "A":
                x = run.attend(block, x, place, attended)
                attended += 1
            case _:
                x = block(x, run.rows(x))
    return x


def _run_level(
    blocks: nn.ModuleList,
    mappers: nn.ModuleList,
    level: Level,
    first: Place,
    x: Tensor,
    skip: Tensor | None,
    run: _Run,
) -> Tensor:
    """All runs of a level; each gives the skip to its first block."""
    size, hooks = len(level.unit), run.hooks
    for repeat in range(len(mappers) + 1):
        if repeat > 0:
            x = on_channels_first(mappers[repeat - 1], x)
        joining = skip
        if joining is not None:
            for hook in hooks.skips:
                x, joining = hook(first, x, joining)
            x = resize(x, *joining.shape[1:3])
        for i in range(level.depth):
            # Taken here, so that a hook that leaves out a unit does not hand its residuals to the next.
            residuals = [next(run.residuals, None) for _ in range(level.unit.count("C"))]
            place, own = Place(first.side, first.unit + i), blocks[i * size : (i + 1) * size]
            unit = partial(_run_unit, level.unit, own, place, residuals, run, skip=joining)
            x = _around_unit(hooks, place, x, unit)
            joining = None
    return x


def _around_unit(hooks: Hooks, place: Place, x: Tensor, unit: Callable[[Tensor], Tensor]) -> Tensor:
    for hook in reversed(hooks.units):
        unit = partial(_within, hook, place, unit)
    return unit(x)


def _within(hook: AroundUnit, place: Place, inner: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    return hook(place, x, inner)


def keys_values(network: nn.Module, tokens: Tensor) -> Tensor:
    """Keys and values of conditioning tokens in every attention block, the same in all steps of a run.

    Args:
        network: one that ``add_trunk`` was called on.
        tokens: ``b n c_cond``.

    Returns:
        ``b n k``: those of ``AttnBlock.keys_values`` side by side, down the trunk and up again.
    """
    config: TrunkConfig = network.config.trunk
    every = [
        block.keys_values(tokens)
        for side, levels in ((network.down_blocks, config.down), (network.up_blocks, config.up))
        for blocks, level in zip(side, levels, strict=True)
        for block, kind in zip(blocks, level.unit * level.depth, strict=True)
        if kind == "A"
    ]
    return torch.cat(every, dim=-1) if every else tokens[..., :0]


def _parted(config: TrunkConfig, keys_values: Tensor | None) -> Known | None:
    """What ``keys_values`` gave, by units."""
    if keys_values is None:
        return None
    known: Known = {}
    start = 0
    for side, levels in (("down", config.down), ("up", config.up)):
        known[side] = []
        for level in levels:
            width, count = 2 * level.width, level.unit.count("A")
            for _ in range(level.depth):
                ends = [start + i * width for i in range(count)]
                known[side].append([keys_values[..., end : end + width] for end in ends])
                start += count * width
    return known


def run_trunk(
    network: nn.Module,
    x: Tensor,
    embedding: Tensor,
    tokens: Tensor,
    control: Sequence[Tensor | None] = (),
    hooks: Hooks = NO_HOOKS,
    wide_values: int | None = None,
    keys_values: Tensor | None = None,
) -> Tensor:
    """Walk the levels down and up again.

    Each level's output on the way down is the skip of the level of the same resolution on the way up;
    the coarsest takes none.

    Args:
        network: one that ``add_trunk`` was called on.
        x: ``b h w c`` at the width of the finest level.
        embedding: of the time, ``b (1 + t_conds) * c_r``.
        tokens: conditioning, ``b n c_cond``.
        control: what to add before each residual block, in running order, None for nothing; each
            ``b c h w`` of any size. Blocks beyond its end get nothing.
        hooks: of others around units, blocks and attention.
        wide_values: how many values there may be inside a block's MLP, where a network needs most memory;
            None for as many as the map has. Fewer take a third more time and give the same.
        keys_values: what ``keys_values`` gave for the tokens, so that steps need not compute it; its batch
            may be a divisor of that of ``x``. Hooks inside of attention blocks are given the tokens.

    Returns:
        ``b h w c``.
    """
    config: TrunkConfig = network.config.trunk
    known, size = _parted(config, keys_values), x.shape[1:3]
    run = _Run(embedding, tokens, iter(control), hooks, wide_values, known)
    skips: list[Tensor | None] = []
    for blocks, scaler, mappers, level, first in zip(
        network.down_blocks, network.down_downscalers, network.down_repeat_mappers,
        config.down, first_units(config.down), strict=True,
    ):  # fmt: skip
        x = _run_level(blocks, mappers, level, Place("down", first), scaler(x), None, run)
        skips.append(x)
    skips[-1] = None
    for blocks, scaler, mappers, level, first in zip(
        network.up_blocks, network.up_upscalers, network.up_repeat_mappers,
        config.up, first_units(config.up), strict=True,
    ):  # fmt: skip
        x = scaler(_run_level(blocks, mappers, level, Place("up", first), x, skips.pop(), run))
    return resize(x, *size)  # only a hook that shrinks the finest level leaves another size
