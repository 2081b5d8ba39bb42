"""What one call of a network lets others do inside its blocks; the blocks do not know who they are.

A hook stands around a piece of the network: it is given the piece's input and the piece itself, and returns
the output. It may change the input first, the output afterwards, or never call the piece. Hooks travel with
one call as a value, so that nothing is left behind in a network.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Literal, TypeVar

from torch import Tensor

from .ops import Attention

Side = Literal["down", "up"]


@dataclass(frozen=True, slots=True)
class Place:
    """Which unit of blocks of a trunk, such as a "CTA"; a level may run its units several times.

    Attributes:
        side: of the trunk.
        unit: counted over the levels of that side in the order in which they run, from 0.
    """

    side: Side
    unit: int


@dataclass(frozen=True, slots=True)
class Sources:
    """An attention block before its projections.

    Attributes:
        place: of the block.
        grid: height and width of the map of cells.
        q: what becomes queries, the normalised cells, ``b n c`` with n cells row by row.
        k, v: what becomes keys and values of the cells, ``b n c``; the same tensor unless a hook parts them.
        k_tokens, v_tokens: the same of the conditioning tokens, ``b m c_cond``.
    """

    place: Place
    grid: tuple[int, int]
    q: Tensor
    k: Tensor
    v: Tensor
    k_tokens: Tensor
    v_tokens: Tensor


@dataclass(frozen=True, slots=True)
class Projected:
    """An attention block after its projections of queries, keys and values and before that of its output.

    Attributes:
        place, grid: see ``Sources``.
        q: ``b n c``, the heads side by side.
        k, v: ``b (cells + m) c``: the cells' first, then the conditioning tokens'.
        cells: how many of the keys are cells; 0 where cells do not attend to cells.
        heads: a divisor of c.
        attend: the network's attention function, free of hooks: ``attend(q, k, v, heads)``.
    """

    place: Place
    grid: tuple[int, int]
    q: Tensor
    k: Tensor
    v: Tensor
    cells: int
    heads: int
    attend: Attention


AroundUnit = Callable[[Place, Tensor, Callable[[Tensor], Tensor]], Tensor]
"""Around a unit of blocks, ``b h w c`` to ``b h w c``: ``hook(place, x, inner)``, with ``inner(x)``."""

AroundBlock = Callable[[Sources, Callable[[Sources], Tensor]], Tensor]
"""Around an attention block: ``hook(sources, inner)`` gives what is added to the cells, ``b n c``."""

AroundAttention = Callable[[Projected, Callable[[Projected], Tensor]], Tensor]
"""Around attention itself: ``hook(projected, inner)`` gives what enters the output projection, ``b n c``."""

AtSkip = Callable[[Place, Tensor, Tensor], tuple[Tensor, Tensor]]
"""Where a skip joins: ``hook(place, x, skip)`` gives both, each ``b h w c``."""


@dataclass(frozen=True, slots=True)
class Hooks:
    """Every hook of one call, the outermost first."""

    units: tuple[AroundUnit, ...] = ()
    blocks: tuple[AroundBlock, ...] = ()
    attention: tuple[AroundAttention, ...] = ()
    skips: tuple[AtSkip, ...] = ()

    @property
    def attending(self) -> bool:
        """Whether there is one inside of attention blocks."""
        return bool(self.blocks or self.attention)


NO_HOOKS = Hooks()

Call = TypeVar("Call")


def around(
    hooks: Sequence[Callable[[Call, Callable[[Call], Tensor]], Tensor]], inner: Callable[[Call], Tensor]
) -> Callable[[Call], Tensor]:
    """The piece inside all of its hooks."""
    for hook in reversed(hooks):
        inner = partial(_within, hook, inner)
    return inner


def _within(hook: Callable, inner: Callable, call: Call) -> Tensor:
    return hook(call, inner)
