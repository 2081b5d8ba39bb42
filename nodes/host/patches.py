"""The host's ``transformer_options`` as hooks of our networks: what other packs put on a MODEL takes effect.

The host's patches were made for networks in which cells attend to cells (attn1) and then to the prompt
(attn2). In a cascade both happen in one softmax. It parts exactly: the attended value is the cells' share
of the softmax times attention to cells alone, plus the prompt's share times attention to the prompt alone.
A replacement of attn1 or attn2 stands for its part.

Names of blocks, which other packs ask for: the units of the way down are ("input", 0), ("input", 1), …; the
first unit of the way up is ("middle", 0); those after it are ("output", 0), ….
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from ...layers.channels_last import to_channels_first, to_channels_last
from ...layers.hooks import NO_HOOKS, Hooks, Place, Projected, Sources
from ...layers.ops import scaled_dot_product

Options = Mapping[str, Any]
"""The host's ``transformer_options``: what a sampling run tells its networks and the patches in them."""

OURS = "cascade_attention"
"""Of ``set_model_patch``: ``patch(projected, inner, options)``, see ``layers.hooks.AroundAttention``."""

UNITS = "cascade_unit"
"""Of ``set_model_patch``: ``patch(place, x, inner, options)``, see ``layers.hooks.AroundUnit``."""

UNCONDITIONAL = 1
"""What the host calls the negative prompt in ``cond_or_uncond``."""


@dataclass(frozen=True)
class Prompt:
    """What attention-couple packs see as the prompt: they join the text of several.

    Attributes:
        text: hidden state of each text token, ``b n c_text``; the first n tokens were made of it.
        tokens: makes tokens of such text.
    """

    text: Tensor
    tokens: Callable[[Tensor], Tensor]


def hooks_of(options: Options, shape: list[int], head_width: int, prompt: Prompt | None = None) -> Hooks:
    """Hooks that do what the options ask for.

    Args:
        options: of the call.
        shape: of the noisy latents, ``b c h w``.
        head_width: channels of an attention head.
        prompt: for patches of attn2; None where the network is given no text.
    """
    patches, replacements = options.get("patches", {}), options.get("patches_replace", {})
    if not any(patches.values()) and not any(replacements.values()):
        return NO_HOOKS
    told = {key: value for key, value in options.items() if key not in ("patches", "patches_replace")}
    told |= {"original_shape": list(shape), "transformer_index": 0, "block_index": 0, "attn_precision": None}
    run = _Patches(patches, replacements, told, head_width, prompt)
    return Hooks(
        units=tuple(run.unit_hooks()), blocks=(run.around_block,),
        attention=(run.ours, run.replaced), skips=(run.at_skip,),
    )  # fmt: skip


def block_name(place: Place) -> tuple[str, int]:
    """What the host's nodes call a unit of blocks."""
    if place.side == "down":
        return ("input", place.unit)
    return ("output", place.unit - 1) if place.unit else ("middle", 0)


@dataclass(frozen=True)
class _Patches:
    """The patches of one call; each method is a hook."""

    patches: Mapping[str, list]
    replacements: Mapping[str, Mapping]
    told: dict[str, Any]
    head_width: int
    prompt: Prompt | None

    def of(self, name: str) -> list:
        return self.patches.get(name, [])

    def options(self, place: Place, **more: Any) -> dict[str, Any]:
        return {**self.told, "block": block_name(place), **more}

    def attention_options(self, place: Place, width: int, grid: tuple[int, int]) -> dict[str, Any]:
        heads = width // self.head_width
        shape = [self.told["original_shape"][0], width, *grid]
        return self.options(place, n_heads=heads, dim_head=self.head_width, activations_shape=shape)

    def unit_hooks(self) -> list[Callable]:
        """Around units: only what is asked for, since each makes the calls deeper."""
        asked = [
            (bool(self.replacements.get("dit")), self.replaced_unit),
            (bool(self.of("input_block_patch")), self.after_unit),
            (bool(self.of("input_block_patch_after_skip")), self.before_unit),
        ]
        ours = [_with_options(patch, self) for patch in self.of(UNITS)]
        return ours + [hook for wanted, hook in asked if wanted]

    def replaced_unit(self, place: Place, x: Tensor, inner: Callable[[Tensor], Tensor]) -> Tensor:
        """The way down is made of what the host's nodes call "double_block", the way up of "single_block"."""
        kind = "double_block" if place.side == "down" else "single_block"
        patch = self.replacements["dit"].get((kind, place.unit))
        if patch is None:
            return inner(x)

        def original(args: Mapping[str, Any]) -> dict[str, Tensor]:
            return {"img": inner(args["img"])}

        args = {"img": x, "transformer_options": self.options(place)}
        return patch(args, {"original_block": original})["img"]

    def after_unit(self, place: Place, x: Tensor, inner: Callable[[Tensor], Tensor]) -> Tensor:
        x = inner(x)
        return self.mapped("input_block_patch", place, x) if place.side == "down" else x

    def before_unit(self, place: Place, x: Tensor, inner: Callable[[Tensor], Tensor]) -> Tensor:
        """After a unit's output became a skip is before the next unit."""
        if place.side == "down" and place.unit:
            x = self.mapped("input_block_patch_after_skip", Place("down", place.unit - 1), x)
        return inner(x)

    def mapped(self, name: str, place: Place, x: Tensor) -> Tensor:
        for patch in self.of(name):
            x = to_channels_last(patch(to_channels_first(x), self.options(place)))
        return x

    def at_skip(self, place: Place, x: Tensor, skip: Tensor) -> tuple[Tensor, Tensor]:
        for patch in self.of("output_block_patch"):
            both = patch(to_channels_first(x), to_channels_first(skip), self.options(place))
            x, skip = map(to_channels_last, both)
        return x, skip

    def ours(self, call: Projected, inner: Callable[[Projected], Tensor]) -> Tensor:
        options = self.attention_options(call.place, call.q.shape[-1], call.grid)
        for patch in reversed(self.of(OURS)):
            inner = _told(patch, inner, options)
        return inner(call)

    def around_block(self, s: Sources, inner: Callable[[Sources], Tensor]) -> Tensor:
        options = self.attention_options(s.place, s.q.shape[-1], s.grid)
        for patch in self.of("attn1_patch"):
            q, k, v = patch(s.q, s.k, s.v, options)
            s = replace(s, q=q, k=k, v=v)
        if self.prompt is not None and self.of("attn2_patch"):
            s = self.with_prompts(s, self.prompt, options)
        y = inner(s)
        for patch in [*self.of("attn1_output_patch"), *self.of("attn2_output_patch")]:
            y = patch(y, options)
        return y

    def with_prompts(self, s: Sources, prompt: Prompt, options: Options) -> Sources:
        """The block with other text; a patch may also make a row for each of several prompts."""
        q, k, v = s.q, prompt.text, prompt.text
        for patch in self.of("attn2_patch"):
            q, k, v = patch(q, k, v, options)
        rows = patched_rows(len(s.q), len(q), options.get("cond_or_uncond", [0])).to(q.device)
        count = prompt.text.shape[1]

        def tokens(text: Tensor, others: Tensor) -> Tensor:
            return torch.cat([prompt.tokens(text), others[rows, count:]], dim=1)

        k_tokens = tokens(k, s.k_tokens)
        v_tokens = k_tokens if v is k and s.v_tokens is s.k_tokens else tokens(v, s.v_tokens)
        k_cells = s.k[rows]
        v_cells = k_cells if s.v is s.k else s.v[rows]
        return replace(s, q=q, k=k_cells, v=v_cells, k_tokens=k_tokens, v_tokens=v_tokens)

    def replaced(self, call: Projected, inner: Callable[[Projected], Tensor]) -> Tensor:
        """Replacements of attention to cells (attn1) and to the prompt (attn2), each for its share."""
        to_cells, to_prompt = (self.replacement(name, call.place) for name in ("attn1", "attn2"))
        if not call.cells:
            to_cells = None
        if to_cells is None and to_prompt is None:
            return inner(call)
        options = self.attention_options(call.place, call.q.shape[-1], call.grid)
        n = call.cells
        is_cell = torch.zeros_like(call.v)
        is_cell[:, :n] = 1
        # The softmax averages this over the keys, in every channel alike.
        share = scaled_dot_product(call.q, call.k, is_cell, call.heads)
        if to_cells is None:
            cells = inner(replace(call, v=call.v * is_cell))
        else:
            cells = share * to_cells(call.q, call.k[:, :n], call.v[:, :n], options)
        if to_prompt is None:
            return cells + inner(replace(call, v=call.v * (1 - is_cell)))
        return cells + (1 - share) * to_prompt(call.q, call.k[:, n:], call.v[:, n:], options)

    def replacement(self, name: str, place: Place) -> Callable | None:
        found, block = self.replacements.get(name, {}), block_name(place)
        return found.get((*block, 0), found.get(block))


def _with_options(patch: Callable, run: _Patches) -> Callable:
    def hook(place: Place, x: Tensor, inner: Callable[[Tensor], Tensor]) -> Tensor:
        return patch(place, x, inner, run.options(place))

    return hook


def _told(patch: Callable, inner: Callable, options: Options) -> Callable:
    return lambda call: patch(call, inner, options)


def patched_rows(before: int, after: int, cond_or_uncond: list[int]) -> Tensor:
    """Which row of a batch each row of a patched one is about.

    Packs that join prompts repeat the rows of each positive prompt, all of it once for each prompt, and
    leave those of negative prompts as they are.
    """
    if after == before:
        return torch.arange(before)
    chunks = torch.arange(before).chunk(len(cond_or_uncond))
    unchanged = sum(len(c) for c, kind in zip(chunks, cond_or_uncond, strict=True) if kind == UNCONDITIONAL)
    copies, rest = divmod(after - unchanged, max(before - unchanged, 1))
    if rest or copies < 1:
        raise ValueError(
            f"an attention patch made a batch of {after} out of {before}, and Stage C cannot see how they "
            "belong together: it takes patches that repeat the positive prompt's rows a whole number of times"
        )
    pairs = zip(chunks, cond_or_uncond, strict=True)
    return torch.cat([c if kind == UNCONDITIONAL else c.repeat(copies) for c, kind in pairs])
