"""The small text encoder's tokens: CLIP's own, with a table of those only that the captions use."""

from __future__ import annotations

import json
import re
from pathlib import Path

import torch
from torch import Tensor

START, END = 49406, 49407
POSITIONS = 32

_CLIP_IDS: dict[str, int] = json.loads(Path(__file__).with_name("vocabulary.json").read_text())

TOKEN_IDS = (*sorted(_CLIP_IDS.values()), START, END)
"""CLIP id of each row of the table."""

_ROWS = {clip_id: row for row, clip_id in enumerate(TOKEN_IDS)}
END_ROW = _ROWS[END]


def ids_of(word: str) -> tuple[int, ...]:
    """CLIP's ids of a word, as its tokenizer gives them; of any that captions lack, one that is no token."""
    return (_CLIP_IDS.get(word, -1),)


def tokenize(captions: list[str]) -> Tensor:
    """Rows of the table for captions made of known words, framed and padded: ``b POSITIONS``."""
    rows = torch.full((len(captions), POSITIONS), END_ROW)
    for i, text in enumerate(captions):
        words = re.findall(r"[a-z]+|[0-9]|,", text.lower())
        ids = [_ROWS[START], *(_ROWS[_CLIP_IDS[word]] for word in words)][: POSITIONS - 1]
        rows[i, : len(ids)] = torch.tensor(ids)
    return rows
