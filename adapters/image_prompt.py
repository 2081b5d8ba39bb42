"""Decoupled image attention: image prompts that Stage C looks at beside its prompt, in every attention block.

Stage C's own image prompts are four tokens among the prompt's eighty and share one softmax with them and
with the latent's cells. Here pictures get keys and values of their own in each block, and what is attended
there is added to what the block attends anyway, so that a picture can be as strong as is wished without
touching the prompt. Source: Ye et al. 2023, "IP-Adapter", equation 5.

A file holds, under these names, with n tokens to an image and c features to a token:

- ``image_tokens.proj.weight``, ``.bias``: ``n·c × c_image`` and ``n·c``, from the embedding to its tokens;
- ``image_tokens.norm.weight``, ``.bias``: ``c``, a layer norm over each token;
- ``down.I.to_k.weight``, ``down.I.to_v.weight`` and the same under ``up.I``: ``width × c``, for the attention
  block in unit I of blocks on that side, counted over levels in the order in which they run.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from torch import Tensor, nn
from torch.nn import LayerNorm, Linear, functional

from ..checkpoints.identify import Part, expect
from ..checkpoints.layout import shapes
from ..checkpoints.open import build, read_weights
from ..layers.hooks import AroundAttention, Place, Projected
from ..layers.trunk import Shapes, TrunkConfig

_BLOCK = re.compile(r"(down|up)\.(\d+)\.to_k\.weight")


@dataclass(frozen=True, slots=True)
class ImageAdapterConfig:
    """Sizes of an adapter, all read from its weights.

    Attributes:
        c_image: features of an image embedding.
        tokens: that one embedding becomes.
        c_token: features of each.
        blocks: the attention blocks that it feeds, each with its width.
    """

    c_image: int
    tokens: int
    c_token: int
    blocks: tuple[tuple[Place, int], ...]

    @classmethod
    def from_shapes(cls, shapes: Shapes, metadata: Mapping[str, str] | None = None) -> ImageAdapterConfig:
        """Infer the sizes.

        Raises:
            ValueError: the shapes do not belong to an image adapter.
        """
        for key in ("image_tokens.proj.weight", "image_tokens.norm.weight"):
            if key not in shapes:
                raise ValueError(f"no {key} in the file, so it is no image adapter for Stage C")
        (c_token,) = shapes["image_tokens.norm.weight"]
        rows, c_image = shapes["image_tokens.proj.weight"]
        matches = ((_BLOCK.fullmatch(key), shape) for key, shape in shapes.items())
        blocks = [(_place(match), shape[0]) for match, shape in matches if match]
        if not blocks or rows % c_token:
            raise ValueError(
                f"the file has tokens of {c_token} features, {rows} rows for them and {len(blocks)} blocks, "
                "so it is no image adapter for Stage C"
            )
        return cls(c_image, rows // c_token, c_token, tuple(sorted(blocks, key=_in_order)))


def _place(match: re.Match[str]) -> Place:
    return Place("down" if match[1] == "down" else "up", int(match[2]))


def _in_order(block: tuple[Place, int]) -> tuple[str, int]:
    return block[0].side, block[0].unit


def attention_blocks(trunk: TrunkConfig) -> tuple[tuple[Place, int], ...]:
    """Every unit of a trunk that attends, with its width."""
    found: list[tuple[Place, int]] = []
    for side, levels in (("down", trunk.down), ("up", trunk.up)):
        units = [level for level in levels for _ in range(level.depth)]
        found += [(Place(side, i), level.width) for i, level in enumerate(units) if "A" in level.unit]
    return tuple(found)


class KeysValues(NamedTuple):
    """What image prompts are to one attention block, each ``b m c``."""

    keys: Tensor
    values: Tensor


class ImageTokens(nn.Module):
    """An embedding as a few tokens: ``b m c_image`` -> ``b (m tokens) c_token``."""

    def __init__(self, config: ImageAdapterConfig):
        super().__init__()
        self.proj = Linear(config.c_image, config.tokens * config.c_token)
        self.norm = LayerNorm(config.c_token)

    def forward(self, image: Tensor) -> Tensor:
        tokens = self.proj(image)
        return self.norm(tokens.view(len(tokens), -1, self.norm.normalized_shape[0]))


class BlockProjections(nn.Module):
    """Tokens as keys and values of one block."""

    def __init__(self, c_token: int, width: int):
        super().__init__()
        self.to_k = Linear(c_token, width, bias=False)
        self.to_v = Linear(c_token, width, bias=False)


class ImageAdapter(nn.Module):
    """The adapter. Attribute names are the key names of its file."""

    def __init__(self, config: ImageAdapterConfig):
        super().__init__()
        self.config = config
        self.image_tokens = ImageTokens(config)
        sides: dict[str, nn.ModuleDict] = {"down": nn.ModuleDict(), "up": nn.ModuleDict()}
        for place, width in config.blocks:
            sides[place.side][str(place.unit)] = BlockProjections(config.c_token, width)
        self.down, self.up = sides["down"], sides["up"]

    def forward(self, image: Tensor) -> dict[Place, KeysValues]:
        """Keys and values of image prompts, which do not depend on the noise level.

        Args:
            image: embeddings, ``b m c_image``; one zero vector is no image prompt, as in Stage C.
        """
        tokens = self.image_tokens(image)
        found = {}
        for place, _ in self.config.blocks:
            block = (self.down if place.side == "down" else self.up)[str(place.unit)]
            found[place] = KeysValues(block.to_k(tokens), block.to_v(tokens))
        return found


def new_image_adapter(trunk: TrunkConfig, c_image: int, tokens: int, c_token: int) -> ImageAdapter:
    """An adapter for a Stage C that adds nothing yet: its values are zeros.

    Args:
        trunk: of the Stage C.
        c_image, tokens, c_token: see ``ImageAdapterConfig``.
    """
    adapter = ImageAdapter(ImageAdapterConfig(c_image, tokens, c_token, attention_blocks(trunk)))
    for block in [*adapter.down.values(), *adapter.up.values()]:
        nn.init.zeros_(block.to_v.weight)
    return adapter


def image_attention(
    prompts: Mapping[Place, KeysValues], scale: float, region: Tensor | None = None
) -> AroundAttention:
    """The hook that adds attention to image prompts.

    Args:
        prompts: of ``ImageAdapter``; rows for the whole batch, or one for all of it.
        scale: of what is added; 1 is as trained.
        region: ``1 h w`` or ``b h w`` of any size, 1 where the picture is to be seen; None for everywhere.
    """

    def hook(call: Projected, inner: Callable[[Projected], Tensor]) -> Tensor:
        attended = inner(call)
        found = prompts.get(call.place)
        if found is None:
            return attended
        rows = len(call.q)
        keys, values = (part.to(call.q).expand(rows, -1, -1).contiguous() for part in found)
        seen = call.attend(call.q, keys, values, call.heads)
        if region is not None:
            seen = seen * cells_seen(region, call.grid).to(seen)
        return attended + scale * seen

    return hook


def cells_seen(region: Tensor, grid: tuple[int, int]) -> Tensor:
    """Share of each cell that lies in a region, ``b h w`` of any size -> ``b n 1`` row by row."""
    return functional.adaptive_avg_pool2d(region[:, None].float(), grid).flatten(2).movedim(1, 2)


def check_adapter(config: ImageAdapterConfig, trunk: TrunkConfig, file: str) -> None:
    """Make sure that an adapter was made for a Stage C of these sizes.

    Raises:
        ValueError: it was not; the sentence says for which it was.
    """
    expected = dict(attention_blocks(trunk))
    wrong = [place for place, width in config.blocks if expected.get(place) != width]
    if wrong or len(config.blocks) != len(expected):
        raise ValueError(
            f"`{file}` was made for a Stage C of {_sizes(config.blocks)}, and this one has "
            f"{_sizes(expected.items())}: choose the adapter that was trained on this Stage C"
        )


def _sizes(blocks: Iterable[tuple[Place, int]]) -> str:
    widths = [width for _, width in blocks]
    return f"{len(widths)} attention blocks of {' and '.join(map(str, sorted(set(widths))))} channels"


def load_image_adapter(path: str | Path) -> ImageAdapter:
    """An adapter from a safetensors file, in fp32 and evaluation mode.

    Raises:
        ValueError: the file holds something else, or not all of it.
    """
    header = expect(path, Part.IMAGE_ADAPTER)
    weights = {name: value.float() for name, value in read_weights(Part.IMAGE_ADAPTER, header).items()}
    config = ImageAdapterConfig.from_shapes(shapes(weights), header.metadata)
    return build(ImageAdapter, config, weights, file=header.file).requires_grad_(False)
