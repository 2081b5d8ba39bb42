"""Attention as ComfyUI computes it where it does not leave it to torch: everywhere but on Nvidia cards.

Both give the same to six digits; a picture that is to be ComfyUI's to the bit needs the same one.
"""

from __future__ import annotations

import torch
from einops import rearrange
from torch import Tensor

from ..layers.ops import TORCH, Operations

QUERIES = 4096
"""Rows whose weights are computed at once."""


def in_full(q: Tensor, k: Tensor, v: Tensor, heads: int) -> Tensor:
    """See ``layers.ops.scaled_dot_product``; the weights of all keys are there at once.

    Source: ComfyUI ``comfy/ldm/modules/sub_quadratic_attention.py``, where there is memory enough.
    """
    q, v = (rearrange(x, "b n (h d) -> (b h) n d", h=heads) for x in (q, v))
    k = rearrange(k, "b n (h d) -> (b h) d n", h=heads)
    parts = [_attended(rows, k, v) for rows in q.split(QUERIES, dim=1)]
    found = parts[0] if len(parts) == 1 else torch.cat(parts, dim=1)
    return rearrange(found, "(b h) n d -> b n (h d)", h=heads)


def _attended(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """``b n d``, ``b d m`` and ``b m d`` -> ``b n d``."""
    scores = torch.baddbmm(q.new_empty(1, 1, 1), q, k, beta=0, alpha=q.shape[-1] ** -0.5)
    return torch.bmm(scores.softmax(dim=-1), v)


FULL = Operations(attention=in_full)
"""Torch's layers with this attention."""


def operations_on(device: torch.device) -> Operations:
    """The layers with which a picture drawn on a device is ComfyUI's."""
    return TORCH if torch_attends(device) else FULL


def torch_attends(device: torch.device) -> bool:
    """Whether ComfyUI leaves attention to torch on a device."""
    return device.type == "cuda" and torch.version.cuda is not None


def attention_name(device: torch.device) -> str:
    """What transformers calls the attention that ComfyUI's text encoders use on a device.

    Theirs is another than the stages': every score is divided after the product and not in it.
    """
    return "sdpa" if torch_attends(device) else "eager"
