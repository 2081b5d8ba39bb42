"""Prompts as ComfyUI's CLIP Text Encode reads them: weights in parentheses, and as many rows as they need."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ..conditioning.text import Tokens, encode

EMPHASIS = 1.1
"""Weight of a pair of parentheses without a number."""

KEPT_TOGETHER = 8
"""Tokens below which a part of a prompt is not torn apart where a row ends."""

_ESCAPED = {"\\(": "\0\1", "\\)": "\0\2"}
_EMBEDDING = re.compile(r"(?:^|\s)embedding:\S+")

Weighted = list[tuple[int, float]]
"""Rows of the table, each with its weight."""


@dataclass(frozen=True, slots=True)
class Text:
    """What both stages know of a prompt.

    Attributes:
        hidden: a state for each token, ``1 n c``; a row for each picture where each has its own prompt.
        pooled: the prompt as a whole, ``1 c_pooled``, or as many rows.
        unknown: words that the text encoder does not know; they were left out.
    """

    hidden: Tensor
    pooled: Tensor
    unknown: tuple[str, ...]


def rows_of(texts: Sequence[Text]) -> Text:
    """Prompts of one number of tokens as those of a batch of pictures, a row each."""
    unknown = dict.fromkeys(word for text in texts for word in text.unknown)
    hidden, pooled = (torch.cat([getattr(text, name) for text in texts]) for name in ("hidden", "pooled"))
    return Text(hidden, pooled, tuple(unknown))


def weighted(prompt: str, weight: float = 1.0) -> list[tuple[str, float]]:
    """Parts of a prompt with their weights: ``(very)`` has 1.1, ``(very:1.5)`` 1.5; after a backslash a
    parenthesis is a sign like others.

    >>> weighted("a (red:1.5) boat")
    [('a ', 1.0), ('red', 1.5), (' boat', 1.0)]

    Source: ComfyUI ``comfy/sd1_clip.py``, ``token_weights``.
    """
    for sign, other in _ESCAPED.items():
        prompt = prompt.replace(sign, other)
    return [(_unescaped(text), share) for text, share in _parts(prompt, weight)]


def _unescaped(text: str) -> str:
    for sign, other in _ESCAPED.items():
        text = text.replace(other, sign[1])
    return text


def _parts(prompt: str, weight: float) -> Iterator[tuple[str, float]]:
    for text in _outermost(prompt):
        if not (len(text) >= 2 and text[0] == "(" and text[-1] == ")"):
            yield text, weight
            continue
        inside, inner = text[1:-1], weight * EMPHASIS
        before, colon, number = inside.rpartition(":")
        if colon and before:
            with suppress(ValueError):
                inside, inner = before, float(number)
        yield from _parts(inside, inner)


def _outermost(prompt: str) -> Iterator[str]:
    """What is between and in the outermost parentheses, these included."""
    piece, depth = "", 0
    for sign in prompt:
        if sign == "(":
            if depth == 0 and piece:
                yield piece
                piece = ""
            depth += 1
        piece += sign
        if sign == ")":
            depth -= 1
            if depth == 0:
                yield piece
                piece = ""
    if piece:
        yield piece


def framed(parts: Sequence[Weighted], tokens: Tokens) -> list[Weighted]:
    """Parts of a prompt in rows of the encoder's length, each between a start and an end token.

    Source: ComfyUI ``comfy/sd1_clip.py``, ``SDTokenizer.tokenize_with_weights``.
    """
    start, end = (tokens.frame([])[0], 1.0), (tokens.end_row, 1.0)
    rows: list[Weighted] = [[]]
    room = tokens.length - 2
    for part in parts:
        torn = len(part) >= KEPT_TOGETHER
        while part:
            free = room - len(rows[-1])
            if len(part) <= free:
                rows[-1] += part
                break
            if torn:
                rows[-1] += part[:free]
                part = part[free:]
            rows.append([])
    return [[start, *row, end, *[end] * (room - len(row))] for row in rows]


@torch.inference_mode()
def read(network: nn.Module, tokens: Tokens, ids_of: Callable[[str], Sequence[int]], prompt: str) -> Text:
    """What both stages need of a prompt.

    Args:
        network: the text encoder.
        tokens: its table.
        ids_of: CLIP's tokenizer, see ``Tokens.encode``.
        prompt: any text; a long one becomes several rows, whose states follow one another.

    Raises:
        ValueError: the prompt asks for an embedding from a file.
    """
    parts, unknown = [], []
    for text, weight in weighted(prompt):
        if _EMBEDDING.search(text):
            raise ValueError(
                f"the prompt asks for `{_EMBEDDING.search(text)[0].strip()}`, and embeddings are read in "
                "ComfyUI's graph only: leave it out, or draw there"
            )
        found, left_out = tokens.known(text, ids_of)
        parts.append([(row, weight) for row in found])
        unknown += left_out
    rows = framed(parts, tokens)
    weights = torch.tensor([[weight for _, weight in row] for row in rows])
    given = [[row for row, _ in pairs] for pairs in rows]
    plain = bool((weights == 1).all())
    if not plain:
        given.append(list(tokens.frame([])))
    device = next(network.parameters()).device
    hidden, pooled = (
        found.cpu() for found in encode(network, torch.tensor(given, device=device), tokens.end_row)
    )
    if not plain:
        hidden = _emphasised(hidden[:-1], hidden[-1:], weights[..., None])
    return Text(hidden.reshape(1, -1, hidden.shape[-1]), pooled[:1], tuple(dict.fromkeys(unknown)))


def _emphasised(hidden: Tensor, empty: Tensor, weights: Tensor) -> Tensor:
    """States moved away from those of the empty prompt, or towards them; weight 1 leaves one as it is."""
    return torch.where(weights == 1, hidden, (hidden - empty) * weights + empty)
