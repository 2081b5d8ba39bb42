"""The four kinds of block that Stage B and Stage C are made of.

Attribute names are the key names of the released files. All activations are ``b h w c``.
Source: Stability ``modules/common.py``; attention is split into q, k and v as ComfyUI has it.
"""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor, nn

from .channels_last import layer_norm, on_channels_first
from .hooks import Hooks, Place, Projected, Sources, around
from .ops import Operations
from .wide import gelu, spare

WIDENING = 4
"""Times that the MLP of a block is wider inside."""

_TINY = 1e-36  # under a root, where its slope would be infinite


class GlobalResponseNorm(nn.Module):
    """Scale each channel by its norm over the whole map, relative to the mean of all channels.

    ``b h w c`` -> same. Source: ConvNeXt V2, section 3; Stability's eps of 1e-6 guards the division.
    """

    def __init__(self, width: int, ops: Operations):
        super().__init__()
        self.gamma = nn.Parameter(ops.zeros(1, 1, 1, width))
        self.beta = nn.Parameter(ops.zeros(1, 1, 1, width))

    def forward(self, x: Tensor, norm: Tensor | None = None, out: Tensor | None = None) -> Tensor:
        """Of a map, or of a part of it when given the whole map's ``norm``; ``out`` may be ``x``."""
        norm = channel_norm(x) if norm is None else norm
        relative = (norm / (norm.mean(dim=-1, keepdim=True) + 1e-6)).to(x.dtype)
        # The parameters are cast here because a host casts the weights of its own layers only.
        return torch.addcmul(self.beta.to(x), x, 1 + self.gamma.to(x) * relative, out=out)


def channel_norm(x: Tensor) -> Tensor:
    """Euclidean norm of each channel over a map, ``b h w c`` -> ``b 1 1 c`` in fp32 or wider.

    Accumulated in fp32: a map of 128x128 cells sums 16,384 squares, too many for half precisions.
    """
    wide = torch.promote_types(x.dtype, torch.float32)
    if x.is_cuda:  # one pass and no memory; on a CPU torch's loop over these axes is twice as slow as the sum
        return torch.linalg.vector_norm(x, dim=(1, 2), keepdim=True, dtype=wide)
    return channel_squares(x).clamp_min(_TINY).sqrt()


def channel_squares(x: Tensor) -> Tensor:
    """Sum of squares of each channel over a map, as ``channel_norm``."""
    wide = torch.promote_types(x.dtype, torch.float32)
    return x.to(wide).square().sum(dim=(1, 2), keepdim=True)


class ResponseMLP(nn.Sequential):
    """Two linear layers with GELU and a response norm between, ``WIDENING`` times as wide inside."""

    def __init__(self, c_in: int, width: int, ops: Operations):
        super().__init__(
            ops.Linear(c_in, width * WIDENING),
            nn.GELU(),  # holds the place in the key names, as the dropout does; see `gelu`
            GlobalResponseNorm(width * WIDENING, ops),
            nn.Dropout(0.0),  # training sets its rate
            ops.Linear(width * WIDENING, width),
        )

    def forward(self, x: Tensor, rows: int | None = None) -> Tensor:
        """Of ``b h w c``; with ``rows``, the wide values exist for so many rows of the map at a time.

        They are then computed twice, first for the norm over the whole map, which takes a third more work;
        the result is the same.
        """
        expand, _, response, dropout, reduce = self

        def narrowed(wide: Tensor, norm: Tensor | None = None) -> Tensor:
            return reduce(dropout(response(wide, norm, spare(wide))))

        if rows is None or rows >= x.shape[1]:
            return narrowed(gelu(expand(x)))
        strips = x.split(rows, dim=1)
        squares = sum(channel_squares(gelu(expand(strip))) for strip in strips)
        norm = squares.clamp_min(_TINY).sqrt()
        return torch.cat([narrowed(gelu(expand(strip)), norm) for strip in strips], dim=1)


class ResBlock(nn.Module):
    """'C': depthwise convolution, then an MLP per cell.

    A skip of ``c_skip`` channels joins after the norm, un-normalised, and enters the MLP alone.
    """

    def __init__(self, width: int, c_skip: int, kernel_size: int, ops: Operations):
        super().__init__()
        self.depthwise = ops.Conv2d(width, width, kernel_size, padding=kernel_size // 2, groups=width)
        self.channelwise = ResponseMLP(width + c_skip, width, ops)

    def forward(self, x: Tensor, skip: Tensor | None = None, rows: int | None = None) -> Tensor:
        y = layer_norm(on_channels_first(self.depthwise, x))
        if skip is not None:
            y = torch.cat([y, skip], dim=-1)
        return x + self.channelwise(y, rows)


class FeedForwardBlock(nn.Module):
    """'F': the MLP alone. Part of the architecture, used by no released file."""

    def __init__(self, width: int, ops: Operations):
        super().__init__()
        self.channelwise = ResponseMLP(width, width, ops)

    def forward(self, x: Tensor, rows: int | None = None) -> Tensor:
        return x + self.channelwise(layer_norm(x), rows)


class TimestepBlock(nn.Module):
    """'T': scale and shift every channel by functions of the noise level.

    The embedding holds one part of ``c_r`` features for the time and one for each further condition,
    in the order of ``conditions``.
    """

    def __init__(self, width: int, c_r: int, conditions: tuple[str, ...], ops: Operations):
        super().__init__()
        self.mapper = ops.Linear(c_r, width * 2)
        self.conditions = conditions
        for name in conditions:
            setattr(self, f"mapper_{name}", ops.Linear(c_r, width * 2))

    def forward(self, x: Tensor, embedding: Tensor) -> Tensor:
        time, *others = embedding.chunk(1 + len(self.conditions), dim=1)
        modulation = self.mapper(time)
        for name, other in zip(self.conditions, others, strict=True):
            modulation = modulation + getattr(self, f"mapper_{name}")(other)
        scale, shift = modulation[:, None, None, :].chunk(2, dim=-1)  # b 1 1 c
        return torch.addcmul(shift, x, 1 + scale)


class Attention(nn.Module):
    """Multi-head attention with separate projections, named as ComfyUI names them."""

    def __init__(self, width: int, heads: int, ops: Operations):
        super().__init__()
        self.heads = heads
        self.attention = ops.attention
        self.to_q = ops.Linear(width, width)
        self.to_k = ops.Linear(width, width)
        self.to_v = ops.Linear(width, width)
        self.out_proj = ops.Linear(width, width)

    def forward(self, x: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """Attend from ``b n c`` to projected keys and values, ``b m c``."""
        return self.out_proj(self.attention(self.to_q(x), k, v, self.heads))

    def hooked(self, sources: Sources, k: Tensor, v: Tensor, cells: int, hooks: Hooks) -> Tensor:
        """The same inside of hooks; the first ``cells`` of the keys are cells."""
        projected = Projected(
            sources.place, sources.grid, self.to_q(sources.q), k, v, cells, self.heads, self.attention
        )
        return self.out_proj(around(hooks.attention, _attend)(projected))


def _attend(call: Projected) -> Tensor:
    return call.attend(call.q, call.k, call.v, call.heads)


class AttnBlock(nn.Module):
    """'A': every cell attends to all cells and to the conditioning tokens.

    Keys and values are the *normalised* cells followed by the projected tokens; with ``self_attn`` off
    they are the tokens alone. There is no mask and no positional encoding.
    """

    def __init__(self, width: int, c_cond: int, heads: int, self_attn: bool, place: Place, ops: Operations):
        super().__init__()
        self.self_attn = self_attn
        self.place = place
        self.attention = nn.ModuleDict({"attn": Attention(width, heads, ops)})
        self.kv_mapper = nn.Sequential(nn.SiLU(), ops.Linear(c_cond, width))

    def keys_values(self, tokens: Tensor) -> Tensor:
        """Keys and values of conditioning tokens, side by side: ``b m c_cond`` -> ``b m 2c``.

        They do not depend on the cells, and are the same at every noise level.
        """
        mapped, attention = self.kv_mapper(tokens), self.attention["attn"]
        return torch.cat([attention.to_k(mapped), attention.to_v(mapped)], dim=-1)

    def forward(self, x: Tensor, keys_values: Tensor) -> Tensor:
        """Of ``b h w c``; rows of ``keys_values`` may each stand for several pictures in a row."""
        attention: Attention = self.attention["attn"]
        cells = layer_norm(x).flatten(1, 2)  # b (h w) c
        pictures = len(x) // len(keys_values)
        k, v = keys_values[:, None].expand(-1, pictures, -1, -1).flatten(0, 1).chunk(2, dim=-1)
        if self.self_attn:
            k, v = torch.cat([attention.to_k(cells), k], dim=1), torch.cat([attention.to_v(cells), v], dim=1)
        return x + attention(cells, k, v).view_as(x)

    def hooked(self, x: Tensor, tokens: Tensor, hooks: Hooks) -> Tensor:
        """``forward`` with what becomes keys and values in the hands of hooks."""
        cells = layer_norm(x).flatten(1, 2)
        sources = Sources(self.place, tuple(x.shape[1:3]), cells, cells, cells, tokens, tokens)
        return x + around(hooks.blocks, partial(self._attend, hooks))(sources).view_as(x)

    def _attend(self, hooks: Hooks, s: Sources) -> Tensor:
        attention: Attention = self.attention["attn"]
        mapped = self.kv_mapper(s.k_tokens)
        k = self._joined(attention.to_k, s.k, mapped)
        v = self._joined(
            attention.to_v, s.v, mapped if s.v_tokens is s.k_tokens else self.kv_mapper(s.v_tokens)
        )
        return attention.hooked(s, k, v, s.k.shape[1] if self.self_attn else 0, hooks)

    def _joined(self, project: nn.Module, cells: Tensor, mapped: Tensor) -> Tensor:
        """Projected apart, as in ``forward``, so that hooks that change nothing change not a bit."""
        of_tokens = project(mapped)
        return torch.cat([project(cells), of_tokens], dim=1) if self.self_attn else of_tokens
