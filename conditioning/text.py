"""Prompts as hidden states: CLIP's text encoder the way Stable Cascade reads it, and its words.

Stage C takes the last layer's hidden states *before* the final norm, of every position, padding included;
both stages take the projected state of the end token.

Source: Stability ``core/utils``, ``train/base.py``; ComfyUI ``comfy/sdxl_clip.py``, StableCascadeClip.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor, nn

from .heads import count_heads

START_ID, END_ID = 49406, 49407
"""CLIP's ids of the tokens around a prompt; the end token is also the padding."""

LENGTH = 77
"""Tokens of a framed prompt in the released cascade."""


@dataclass(frozen=True, slots=True)
class TextEncoderConfig:
    """Sizes of a CLIP text encoder, all read from its weights but for the head width."""

    width: int
    depth: int
    c_hidden: int
    heads: int
    positions: int
    vocabulary: int
    c_pooled: int

    @classmethod
    def from_shapes(
        cls, shapes: Mapping[str, tuple[int, ...]], metadata: Mapping[str, str] | None = None
    ) -> TextEncoderConfig:
        """Infer the sizes.

        Args:
            shapes: of every weight, by name.
            metadata: of the file; ``cascade.head_dim`` where heads are not 64 wide.

        Raises:
            ValueError: the shapes do not belong to a CLIP text encoder with a projection, or the width
                does not divide into heads.
        """
        for key in ("text_model.embeddings.token_embedding.weight", "text_projection.weight"):
            if key not in shapes:
                raise ValueError(f"no {key} in the file, so it is no CLIP text encoder with a projection")
        vocabulary, width = shapes["text_model.embeddings.token_embedding.weight"]
        layer = "text_model.encoder.layers."
        return cls(
            width=width,
            depth=1 + max(int(key.split(".")[3]) for key in shapes if key.startswith(layer)),
            c_hidden=shapes[f"{layer}0.mlp.fc1.weight"][0],
            heads=count_heads(width, metadata),
            positions=shapes["text_model.embeddings.position_embedding.weight"][0],
            vocabulary=vocabulary,
            c_pooled=shapes["text_projection.weight"][0],
        )


def text_encoder(config: TextEncoderConfig) -> nn.Module:
    """Transformers' CLIP text encoder of these sizes."""
    from transformers import CLIPTextConfig, CLIPTextModelWithProjection

    return CLIPTextModelWithProjection(
        CLIPTextConfig(
            hidden_size=config.width,
            intermediate_size=config.c_hidden,
            projection_dim=config.c_pooled,
            num_hidden_layers=config.depth,
            num_attention_heads=config.heads,
            max_position_embeddings=config.positions,
            vocab_size=config.vocabulary,
            # Not used by ``encode``; inside the table, because transformers warns of ids outside it.
            bos_token_id=config.vocabulary - 2,
            eos_token_id=config.vocabulary - 1,
            hidden_act="gelu",
        )
    )


def encode(network: nn.Module, ids: Tensor, end_id: int = END_ID) -> tuple[Tensor, Tensor]:
    """What Stage B and C need of prompts.

    No token sees what follows it, nor the padding after the first end token; the padding itself has
    hidden states all the same, and Stage C was trained with them.

    Args:
        network: from ``text_encoder``.
        ids: framed and padded tokens, ``b n``, an end token in each row.
        end_id: the end token's row in the network's table.

    Returns:
        Hidden states of the last layer before the final norm, ``b n c``, and the projected state of the
        first end token, ``b c_pooled``; both fp32.
    """
    end = (ids == end_id).int().argmax(dim=1)
    mask = torch.arange(ids.shape[1], device=ids.device)[None] <= end[:, None]
    text = network.text_model(input_ids=ids, attention_mask=mask.long(), output_hidden_states=True)
    hidden = text.hidden_states[-1]
    normed = network.text_model.final_layer_norm(hidden)
    pooled = network.text_projection(normed[torch.arange(len(ids), device=ids.device), end])
    return hidden.float(), pooled.float()


_WORD = re.compile(r"'(?:s|t|re|ve|m|ll|d)|[^\W\d_]+|\d|(?:[^\s\w]|_)+")
"""What CLIP's tokenizer treats as one word; no token crosses these."""


@dataclass(frozen=True, slots=True)
class Encoded:
    """A prompt as rows of a table.

    Attributes:
        rows: framed and padded.
        unknown: words that the table lacks; they are left out of ``rows``.
        cut: words that did not fit.
    """

    rows: tuple[int, ...]
    unknown: tuple[str, ...]
    cut: tuple[str, ...]


@dataclass(frozen=True)
class Tokens:
    """CLIP's tokens as rows of a table that may hold only some of them.

    Attributes:
        token_ids: the CLIP id of each row, the start and the end token among them; None for all.
        length: tokens of a framed prompt.
    """

    token_ids: tuple[int, ...] | None = None
    length: int = LENGTH

    def __post_init__(self):
        if self.token_ids is not None and not {START_ID, END_ID} <= set(self.token_ids):
            raise ValueError(
                f"the table of {len(self.token_ids)} words lacks the start token {START_ID} or the end token "
                f"{END_ID}; the file's metadata must list both in cascade.token_ids"
            )

    @cached_property
    def _row_of(self) -> dict[int, int] | None:
        return None if self.token_ids is None else {id: row for row, id in enumerate(self.token_ids)}

    @property
    def end_row(self) -> int:
        """Row of the end token, which is also the padding."""
        return END_ID if self._row_of is None else self._row_of[END_ID]

    def rows(self, ids: Sequence[int]) -> list[int] | None:
        """Rows of CLIP ids; None if the table lacks one."""
        if self._row_of is None:
            return list(ids)
        found = [self._row_of.get(id) for id in ids]
        return None if None in found else found

    def frame(self, rows: Sequence[int]) -> tuple[int, ...]:
        """Rows between a start and an end token, cut and padded to ``length``."""
        start = START_ID if self._row_of is None else self._row_of[START_ID]
        framed = [start, *rows[: self.length - 2], self.end_row]
        return (*framed, *[self.end_row] * (self.length - len(framed)))

    def encode(self, prompt: str, ids_of: Callable[[str], Sequence[int]]) -> Encoded:
        """A prompt as rows.

        Args:
            prompt: any text.
            ids_of: CLIP's tokenizer: the ids of a word, without start and end.
        """
        rows: list[int] = []
        unknown, cut = [], []
        for word, found in self._words(prompt, ids_of):
            if found is None:
                unknown.append(word)
            elif cut or len(rows) + len(found) > self.length - 2:
                cut.append(word)
            else:
                rows += found
        return Encoded(self.frame(rows), tuple(dict.fromkeys(unknown)), tuple(cut))

    def known(self, text: str, ids_of: Callable[[str], Sequence[int]]) -> tuple[list[int], list[str]]:
        """Rows of a text of any length, not framed, and the words that the table lacks."""
        words = list(self._words(text, ids_of))
        rows = [row for _, found in words for row in found or ()]
        return rows, [word for word, found in words if found is None]

    def _words(
        self, text: str, ids_of: Callable[[str], Sequence[int]]
    ) -> Iterator[tuple[str, list[int] | None]]:
        """Each word with its rows, None where the table lacks one of them."""
        for word in _WORD.findall(text.lower()):
            yield word, self.rows(ids_of(word))
