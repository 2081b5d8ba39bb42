"""The four kinds of block that Stage B and Stage C are made of.

Attribute names are the key names of the released files. All activations are ``b h w c``.
Source: Stability ``modules/common.py``; attention is split into q, k and v as ComfyUI has it.
"""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor, nn

from .channels_last import layer_norm, on_channels_first
from .hooks import NO_HOOKS, Hooks, Place, Projected, Sources, around
from .ops import Operations


class GlobalResponseNorm(nn.Module):
    """Scale each channel by its norm over the whole map, relative to the mean of all channels.

    ``b h w c`` → same. Source: ConvNeXt V2, section 3; Stability's eps of 1e-6 guards the division.
    """

    def __init__(self, width: int, ops: Operations):
        super().__init__()
        self.gamma = nn.Parameter(ops.zeros(1, 1, 1, width))
        self.beta = nn.Parameter(ops.zeros(1, 1, 1, width))

    def forward(self, x: Tensor) -> Tensor:
        # Accumulated in fp32: a map of 128x128 cells sums 16,384 squares. The parameters are cast here
        # because a host casts the weights of its own layers only.
        norm = torch.linalg.vector_norm(x, dim=(1, 2), keepdim=True, dtype=torch.float32)
        relative = (norm / (norm.mean(dim=-1, keepdim=True) + 1e-6)).to(x.dtype)
        return torch.addcmul(self.beta.to(x), x, 1 + self.gamma.to(x) * relative)


def response_mlp(c_in: int, width: int, ops: Operations) -> nn.Sequential:
    """Two linear layers with GELU and a response norm between, four times as wide inside."""
    return nn.Sequential(
        ops.Linear(c_in, width * 4),
        nn.GELU(),
        GlobalResponseNorm(width * 4, ops),
        nn.Dropout(0.0),  # holds the place in the key names; training sets its rate
        ops.Linear(width * 4, width),
    )


class ResBlock(nn.Module):
    """'C': depthwise convolution, then an MLP per cell.

    A skip of ``c_skip`` channels joins after the norm, un-normalised, and enters the MLP alone.
    """

    def __init__(self, width: int, c_skip: int, kernel_size: int, ops: Operations):
        super().__init__()
        self.depthwise = ops.Conv2d(width, width, kernel_size, padding=kernel_size // 2, groups=width)
        self.channelwise = response_mlp(width + c_skip, width, ops)

    def forward(self, x: Tensor, skip: Tensor | None = None) -> Tensor:
        y = layer_norm(on_channels_first(self.depthwise, x))
        if skip is not None:
            y = torch.cat([y, skip], dim=-1)
        return x + self.channelwise(y)


class FeedForwardBlock(nn.Module):
    """'F': the MLP alone. Part of the architecture, used by no released file."""

    def __init__(self, width: int, ops: Operations):
        super().__init__()
        self.channelwise = response_mlp(width, width, ops)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.channelwise(layer_norm(x))


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

    def forward(self, sources: Sources, k: Tensor, v: Tensor, cells: int, hooks: Hooks = NO_HOOKS) -> Tensor:
        """Attend from the queries' source to keys and values, of which the first ``cells`` are cells."""
        projected = Projected(
            sources.place, sources.grid, self.to_q(sources.q), self.to_k(k), self.to_v(v), cells, self.heads,
            self.attention,
        )  # fmt: skip
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

    def forward(self, x: Tensor, tokens: Tensor, hooks: Hooks = NO_HOOKS) -> Tensor:
        cells = layer_norm(x).flatten(1, 2)  # b (h w) c
        height, width = x.shape[1:3]
        sources = Sources(self.place, (height, width), cells, cells, cells, tokens, tokens)
        return x + around(hooks.blocks, partial(self._attend, hooks))(sources).view_as(x)

    def _attend(self, hooks: Hooks, s: Sources) -> Tensor:
        k = self._joined(s.k, s.k_tokens)
        v = k if s.v is s.k and s.v_tokens is s.k_tokens else self._joined(s.v, s.v_tokens)
        return self.attention["attn"](s, k, v, s.k.shape[1] if self.self_attn else 0, hooks)

    def _joined(self, cells: Tensor, tokens: Tensor) -> Tensor:
        mapped = self.kv_mapper(tokens)
        return torch.cat([cells, mapped], dim=1) if self.self_attn else mapped
