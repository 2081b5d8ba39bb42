"""Running a trunk: down its levels and up again, with what a ControlNet and other hooks do on the way."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial

from torch import Tensor, nn

from .blocks import WIDENING, AttnBlock, ResBlock, TimestepBlock
from .channels_last import on_channels_first, resize, to_channels_last
from .hooks import NO_HOOKS, AroundUnit, Hooks, Place
from .trunk import Level, TrunkConfig, first_units

Residuals = Iterator[Tensor | None]
"""What a ControlNet adds before each residual block, in the order in which the blocks run; ``b c h w``."""


@dataclass(frozen=True, slots=True)
class _Run:
    """What every block of one call is given."""

    embedding: Tensor
    tokens: Tensor
    residuals: Residuals
    hooks: Hooks
    wide_values: int | None

    def rows(self, x: Tensor) -> int | None:
        """How many rows of a map a block widens at a time."""
        if self.wide_values is None:
            return None
        batch, _, width, channels = x.shape
        return max(1, self.wide_values // (batch * width * channels * WIDENING))


def _run_unit(
    blocks: Sequence[nn.Module], residuals: Sequence[Tensor | None], run: _Run, x: Tensor, skip: Tensor | None
) -> Tensor:
    mine = iter(residuals)
    for block in blocks:
        if isinstance(block, ResBlock):
            residual = next(mine)
            if residual is not None:
                x = x + resize(to_channels_last(residual), *x.shape[1:3]).to(x.dtype)
            x = block(x, skip, run.rows(x))
            skip = None
        elif isinstance(block, TimestepBlock):
            x = block(x, run.embedding)
        elif isinstance(block, AttnBlock):
            x = block(x, run.tokens, run.hooks)
        else:
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
            unit = partial(_run_unit, blocks[i * size : (i + 1) * size], residuals, run, skip=joining)
            x = _around_unit(hooks, Place(first.side, first.unit + i), x, unit)
            joining = None
    return x


def _around_unit(hooks: Hooks, place: Place, x: Tensor, unit: Callable[[Tensor], Tensor]) -> Tensor:
    for hook in reversed(hooks.units):
        unit = partial(_within, hook, place, unit)
    return unit(x)


def _within(hook: AroundUnit, place: Place, inner: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    return hook(place, x, inner)


def run_trunk(
    network: nn.Module,
    x: Tensor,
    embedding: Tensor,
    tokens: Tensor,
    control: Sequence[Tensor | None] = (),
    hooks: Hooks = NO_HOOKS,
    wide_values: int | None = None,
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

    Returns:
        ``b h w c``.
    """
    config: TrunkConfig = network.config.trunk
    run, size = _Run(embedding, tokens, iter(control), hooks, wide_values), x.shape[1:3]
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
