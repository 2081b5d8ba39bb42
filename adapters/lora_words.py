"""Words that a LoRA taught the text encoder: rows for its table of tokens that are in no vocabulary.

Stability's files hold differences, by token id. An id inside the vocabulary changes that token's row; one
past its end is a new word, whose row began as the mean of the rows of some tokens. Neither the word nor those
tokens are in the file: the reference has both from its configuration, and here a person's line says them.
OneTrainer's files hold words and whole vectors.

Sources: Stability ``modules/lora.py``, ReToken, and ``train/train_c_lora.py``; OneTrainer
``WuerstchenLoRASaver.py``.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ..conditioning.text import END_ID

INDICES, DIFFERENCES = "embeddings.indices", "embeddings.embeddings"
WORDS = "cascade.words"
"""Metadata of a file of ours: a list of ``[word, base]`` in JSON, one for each new id in order."""

_BUNDLED = re.compile(r"bundle_emb\.(?P<word>.+)\.clip_g(?P<out>_out)?$")


@dataclass(frozen=True, slots=True)
class Word:
    """A new word for prompts.

    Attributes:
        text: how it is written.
        vectors: its rows, ``n c``.
        base: which tokens' mean is added to each row, as a pattern; "" for none.
        whole: whether the rows are all there is, and no difference.
    """

    text: str
    vectors: Tensor
    base: str = ""
    whole: bool = False


@dataclass(frozen=True)
class Learned:
    """What a file teaches about tokens.

    Attributes:
        words: new ones.
        known: differences for tokens of the vocabulary, by CLIP id.
        unnamed: words of the file that nobody named; they got names that are free.
        unused: names in the file that nothing here can use.
    """

    words: tuple[Word, ...] = ()
    known: Mapping[int, Tensor] | None = None
    unnamed: tuple[str, ...] = ()
    unused: tuple[str, ...] = ()

    @property
    def width(self) -> int | None:
        """Features of a token; None where nothing was learnt."""
        rows = [word.vectors for word in self.words] + list((self.known or {}).values())
        return rows[0].shape[-1] if rows else None


def is_learned(name: str) -> bool:
    """Whether a name in a file belongs to words and not to weights."""
    return name in (INDICES, DIFFERENCES) or bool(_BUNDLED.match(name))


def read_lines(lines: str) -> list[tuple[str, str]]:
    """Words and what their rows began as, from lines such as ``[fernando] = dog``.

    Raises:
        ValueError: a line names no word, or its pattern is none.
    """
    pairs = []
    for line in filter(None, map(str.strip, lines.splitlines())):
        word, _, base = map(str.strip, line.partition("="))
        if not word:
            raise ValueError(f"the line `{line}` names no word; write for example: [fernando] = dog")
        pairs.append((word, base))
    return pairs


def pattern_of(base: str) -> re.Pattern[str]:
    """Which tokens of the vocabulary a base means: a plain word itself, anything else as a pattern.

    Raises:
        ValueError: it is no regular expression.
    """
    try:
        return re.compile(rf"^{base}</w>$" if base.isalnum() else base)
    except re.error as error:
        raise ValueError(
            f"`{base}` is no pattern for tokens ({error}); write a word, such as dog, or a regular "
            "expression such as ^dog</w>"
        ) from None


def read_words(
    tensors: Mapping[str, Tensor], metadata: Mapping[str, str], named: Sequence[tuple[str, str]]
) -> Learned:
    """The words of a file.

    Args:
        tensors: of the file.
        metadata: of the file; it may name the words.
        named: words and bases by a person, which go before the file's.

    Raises:
        ValueError: the file contradicts itself, or more words were named than it has.
    """
    bundled = [(match, tensors[key]) for key in tensors if (match := _BUNDLED.match(key))]
    words = [
        Word(match["word"], vectors.reshape(-1, vectors.shape[-1]), whole=True)
        for match, vectors in bundled
        if not match["out"]
    ]
    unused = tuple(match.string for match, _ in bundled if match["out"])
    ids, rows = _differences(tensors)
    known = {id: row for id, row in zip(ids, rows, strict=True) if id <= END_ID}
    added = [row for id, row in sorted(zip(ids, rows, strict=True), key=lambda pair: pair[0]) if id > END_ID]
    names = list(named) or _recorded(metadata)
    if len(named) > len(added):
        raise ValueError(
            f"{len(named)} words were named, and the file teaches {len(added)} that have no name; "
            + (f"name the first {len(added)} only" if added else "leave words empty")
        )
    free = [(f"[token{i + 1}]", "") for i in range(len(added))]
    names = names[: len(added)] + free[len(names) :]
    words += [Word(text, row[None], base) for (text, base), row in zip(names, added, strict=True)]
    unnamed = tuple(text for text, _ in names if (text, "") in free)
    return Learned(tuple(words), known, unnamed, unused)


def _differences(tensors: Mapping[str, Tensor]) -> tuple[list[int], list[Tensor]]:
    rows, ids = tensors.get(DIFFERENCES), tensors.get(INDICES)
    if rows is None and ids is None:
        return [], []
    if rows is None or ids is None or rows.ndim != 2 or ids.numel() != len(rows):
        raise ValueError(
            f"holds learned words of which {DIFFERENCES} and {INDICES} do not fit together; it is damaged"
        )
    return [int(id) for id in ids.flatten()], list(rows)


def _recorded(metadata: Mapping[str, str]) -> list[tuple[str, str]]:
    """What a file of ours says its words are; nothing where it says nothing that makes sense."""
    try:
        return [(str(word), str(base or "")) for word, base in json.loads(metadata.get(WORDS, "[]"))]
    except (ValueError, TypeError):
        return []


def rows_of(word: Word, table: Tensor, spelling: Mapping[int, str], strength: float) -> Tensor:
    """The rows that a word stands for, ``n c`` in fp32.

    Args:
        word: with its vectors.
        table: rows of all tokens, ``v c``.
        spelling: of each row's token, as the vocabulary has it, with ``</w>`` at a word's end.
        strength: how much of a difference is added; whole rows stay as they are.

    Raises:
        ValueError: no token is of the kind that the word began as.
    """
    vectors = word.vectors.float()
    if word.whole:
        return vectors
    base = torch.zeros_like(vectors[0])
    if word.base:
        pattern = pattern_of(word.base)
        matching = [row for row, text in spelling.items() if pattern.search(text) and row < len(table)]
        if not matching:
            raise ValueError(
                f"{word.text} should begin as `{word.base}`, and the text encoder has no such token; name "
                "another word, or a pattern such as ^dog</w>"
            )
        # One by one: tables in fp8 cannot be indexed by lists. The table may lie on another device.
        base = torch.stack([table[row].float() for row in matching]).mean(dim=0).to(vectors.device)
    return base + strength * vectors


def split_at(text: str, words: Mapping[str, Tensor]) -> list[str | Tensor]:
    """A text in pieces: rows where a word stands, text between; words are told whatever their case.

    The longest of words that begin alike is taken.
    """
    if not words:
        return [text]
    either = "|".join(re.escape(word) for word in sorted(words, key=len, reverse=True))
    lower = {word.lower(): rows for word, rows in words.items()}
    pieces = re.split(f"({either})", text, flags=re.IGNORECASE)
    return [lower.get(piece.lower(), piece) if i % 2 else piece for i, piece in enumerate(pieces)]
