"""fp16 that does not overflow: matrix products in half precision, everything between them wide.

In plain fp16, which ends at 65,504, Stage C's residual stream and the sums in its MLPs become infinite. Here
activations are fp32, and each product scales what goes in to a range in which no sum can overflow. Weights
may be stored in any precision.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from .ops import Attention, Operations, scaled_dot_product

HEADROOM = 64.0
"""Rows enter a product with values of at most 1/64, so that it overflows for no row of weights whose absolute
values sum to less than four million."""

LARGEST_LOGIT = 60_000.0
"""Of the attention, before it is divided by the root of the head width: its softmax is all on one key long
before."""

_TINY = 1e-30  # a row of zeros is divided by this


def half_linear(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """A linear layer whose product is in fp16 and whose result has the precision of ``x``, fp32.

    Args:
        x: ``... c_in``.
        weight: ``c_out c_in``, in any precision; it must fit fp16.
        bias: ``c_out``, added in the precision of ``x``.
    """
    scale = x.abs().amax(dim=-1, keepdim=True).clamp_min(_TINY) * HEADROOM
    product = functional.linear((x / scale).half(), weight.half()).to(x.dtype)
    return product * scale if bias is None else torch.addcmul(bias.to(x.dtype), product, scale)


def half_attention(attend: Attention = scaled_dot_product) -> Attention:
    """Attention that hands fp16 to another attention function and takes and gives fp32."""

    def attention(q: Tensor, k: Tensor, v: Tensor, heads: int) -> Tensor:
        q, k, v = (x.unflatten(-1, (heads, -1)) for x in (q, k, v))  # b n h d
        longest = torch.linalg.vector_norm(k, dim=-1, keepdim=True).amax(dim=1, keepdim=True).clamp_min(_TINY)
        q = q * longest
        length = torch.linalg.vector_norm(q, dim=-1, keepdim=True).clamp_min(_TINY)
        q = q * (LARGEST_LOGIT / length).clamp_max(1)
        peak = v.abs().amax(dim=(1, 3), keepdim=True).clamp_min(_TINY)
        narrow = (x.half().flatten(-2) for x in (q, k / longest, v / peak))
        result = attend(*narrow, heads).to(v.dtype).unflatten(-1, (heads, -1))
        return (result * peak).flatten(-2)

    return attention


class HalfLinear(nn.Linear):
    """See ``half_linear``."""

    def forward(self, x: Tensor) -> Tensor:
        return half_linear(x, self.weight, self.bias)


class WideConv2d(nn.Conv2d):
    """A convolution in the precision of its input; those of the trunk are depthwise or few."""

    def forward(self, x: Tensor) -> Tensor:
        bias = None if self.bias is None else self.bias.to(x.dtype)
        return self._conv_forward(x, self.weight.to(x.dtype), bias)


class WideConvTranspose2d(nn.ConvTranspose2d):
    """The same for the way up."""

    def forward(self, x: Tensor) -> Tensor:
        bias = None if self.bias is None else self.bias.to(x.dtype)
        return functional.conv_transpose2d(x, self.weight.to(x.dtype), bias, self.stride, self.padding)


HALF = Operations(
    Linear=HalfLinear, Conv2d=WideConv2d, ConvTranspose2d=WideConvTranspose2d, attention=half_attention()
)
"""Layers for a network that is given fp32 inputs."""
