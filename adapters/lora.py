"""LoRAs and their kin, from any trainer's file to changes of the weights of the network at hand.

Everything a file holds is brought under one set of names, ours, with the tensors of each change spelt as
the host spells them, which has an adapter for every kind. What does not fit is an error or is named, never
dropped.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import torch
from torch import Tensor

from ..checkpoints.adapters import Adapter, find_adapter
from ..checkpoints.folder import read_checkpoint
from ..checkpoints.header import printable
from ..checkpoints.identify import Part, identify
from ..checkpoints.open import read_all
from ..checkpoints.report import report_of
from ..layers.trunk import Shapes
from . import lora_order
from .lora_config import Scales, read_scales
from .lora_names import TEXT_BODY, Name, Parts, gather, spellings
from .lora_parts import completed, cut, fits, flat_shape
from .lora_words import Learned, is_learned, read_lines, read_words

RELEASED = {2048: "3.6 B", 1536: "1 B"}
"""Parameters of the released Stage C, by its width, in words."""


@dataclass(frozen=True)
class LoraFile:
    """A LoRA as read, before it is known what for.

    Attributes:
        file: its name.
        adapter: what it is, in short.
        tensors: under the file's own names.
        scales: of modules, where a configuration says them and not the file.
        learned: what it teaches about words.
    """

    file: str
    adapter: Adapter
    tensors: Mapping[str, Tensor]
    scales: Scales
    learned: Learned


@dataclass(frozen=True)
class Lora:
    """Changes that fit a network and a text encoder.

    Attributes:
        stage, text: tensors by path and suffix, such as ``clf.1.lora_up.weight``; nothing for a missing text
            encoder.
        changed: paths that change, of both.
        text_left: modules for a text encoder that is not there.
        unmatched: names in the file that mean nothing to either, each with a reason if there is one.
        learned: words.
    """

    stage: dict[str, Tensor] = field(default_factory=dict)
    text: dict[str, Tensor] = field(default_factory=dict)
    changed: tuple[str, ...] = ()
    text_left: int = 0
    unmatched: tuple[str, ...] = ()
    learned: Learned = field(default_factory=Learned)


def read_lora(path: str | Path, words: str = "") -> LoraFile:
    """A LoRA of any dialect.

    Args:
        path: a safetensors file.
        words: lines that name the words it teaches; see ``lora_words.read_lines``.

    Raises:
        ValueError: the file cannot be read, or is no LoRA of Stable Cascade; the sentence says what it is.
    """
    header = read_checkpoint(path)
    part, adapter = identify(header.shapes), find_adapter(header.shapes)
    if part is Part.EMBEDDING:
        raise ValueError(
            f"`{header.file}` is a textual-inversion embedding and no LoRA; put it into models/embeddings "
            "and write embedding:name in the prompt"
        )
    if part is not Part.LORA or adapter is None:
        what = report_of(header).what
        raise ValueError(
            f"`{header.file}` is {what}, and a LoRA of Stable Cascade was expected; choose one that was "
            "trained for Stage C or Stage B"
        )
    tensors = read_all(header)
    try:
        learned = read_words(tensors, header.metadata, read_lines(words))
    except ValueError as error:
        raise ValueError(f"`{header.file}`: {error}") from None
    return LoraFile(header.file, adapter, tensors, read_scales(Path(path), header.metadata), learned)


def fit(file: LoraFile, stage: Shapes, text: Shapes | None, name: str) -> Lora:
    """The changes that a file makes to a network and, if there is one, to a text encoder.

    Args:
        file: from ``read_lora``.
        stage, text: shapes of their weights, under our names and in the order of their modules.
        name: what the network is: "Stage C" or "Stage B".

    Raises:
        ValueError: the file was made for another stage or another size, which the sentence names, or nothing
            in it fits.
    """
    if file.adapter.target in ("Stage B", "Stage C") and file.adapter.target != name:
        raise ValueError(
            f"`{file.file}` is a LoRA for {file.adapter.target}, and the model is a {name}; wire Load "
            f"{file.adapter.target} (Cascade) here, or choose a LoRA for {name}"
        )
    if file.adapter.dialect == "Stability":
        found = _fit_ordered(file, stage, name)
    else:
        found = _fit_named(file, stage, text, name)
    if not found.changed and not found.text_left and file.learned.width is None:
        first = f" (first: {printable(found.unmatched[0])})" if found.unmatched else ""
        raise ValueError(
            f"`{file.file}`: none of its {len(file.tensors)} names means anything to this {name}{first}; "
            "it was made for another model, so choose another LoRA"
        )
    return replace(found, learned=file.learned, unmatched=found.unmatched + file.learned.unused)


def _fit_ordered(file: LoraFile, stage: Shapes, name: str) -> Lora:
    try:
        pairs = lora_order.pairs_in(file.tensors)
    except ValueError as error:
        raise ValueError(f"`{file.file}` {error}, so download it again") from None
    sizes = [(up.shape[0], down.shape[1]) for up, down in pairs]
    found = lora_order.places(stage, sizes)
    if found is None:
        made = lora_order.described(sizes) + _released(max(map(min, sizes)))
        raise ValueError(
            f"`{file.file}` was made for {made}, and this {name} is {_described(stage)}: choose a LoRA for "
            "this size, or load the model that it was made for"
        )
    weights: dict[str, Tensor] = {}
    for paths, (up, down) in zip(found, pairs, strict=True):
        for path, rows in zip(paths, up.chunk(len(paths)), strict=True):
            weights |= _named(path, lora_order.as_parts(rows, down, stage[f"{path}.weight"][2:]))
    changed = tuple(path for paths in found for path in paths)
    others = tuple(key for key in file.tensors if not (lora_order.is_entry(key) or is_learned(key)))
    return Lora(stage=weights, changed=changed, unmatched=others)


def _fit_named(file: LoraFile, stage: Shapes, text: Shapes | None, name: str) -> Lora:
    tables = [(stage, spellings(stage))] + ([(text, spellings(text))] if text is not None else [])
    modules, others = gather({key: value for key, value in file.tensors.items() if not is_learned(key)})
    found = Lora()
    changed, unmatched, left = [], [printable(key) for key in others], 0
    misfits: list[tuple[Name, Parts]] = []
    for flat, (taken, parts, key) in modules.items():
        alpha = file.scales.alpha_of(flat)
        if alpha is not None and "alpha" not in parts:
            parts["alpha"] = torch.tensor(alpha)
        shapes, paths = next(((s, table[flat]) for s, table in tables if flat in table), (None, ()))
        if shapes is None:
            if text is None and TEXT_BODY.match(flat):
                left += 1
            elif taken.place and not _has_place(stage, taken):
                misfits.append((taken, parts))
            else:
                unmatched.append(printable(key))
            continue
        pieces = [parts] if len(paths) == 1 else cut(parts)
        if pieces is None:
            unmatched.append(f"{printable(key)} (its query, key and value cannot be told apart)")
        elif all(_fits(piece, path, shapes) for piece, path in zip(pieces, paths, strict=True)):
            weights = found.stage if shapes is stage else found.text
            for piece, path in zip(pieces, paths, strict=True):
                weights |= _named(path, completed(piece))
                changed.append(path)
        elif ".depthwise" in paths[0] and "lora_up.weight" in parts:
            unmatched.append(f"{printable(key)} (no product of matrices changes a depthwise convolution)")
        else:
            misfits.append((taken, parts))
    if misfits:
        raise ValueError(_misfit(file.file, misfits, stage, text, name))
    return replace(found, changed=tuple(changed), unmatched=tuple(unmatched), text_left=left)


def _fits(parts: Parts, path: str, shapes: Shapes) -> bool:
    shape = shapes.get(f"{path}.weight", shapes.get(path))
    return shape is not None and fits(parts, shape, shapes.get(f"{path}.bias"))


def _has_place(stage: Shapes, taken: Name) -> bool:
    level, block = taken.place
    side = "down" if taken.flat.startswith("down") else "up"
    return any(key.startswith(f"{side}_blocks.{level}.{block}.") for key in stage)


def _named(path: str, parts: Parts) -> dict[str, Tensor]:
    return {f"{path}.{suffix}": tensor for suffix, tensor in parts.items()}


def _misfit(
    file: str, misfits: list[tuple[Name, Parts]], stage: Shapes, text: Shapes | None, name: str
) -> str:
    """The sentence about a LoRA of another size."""
    # An attention's matrices tell the width best, and a depthwise kernel worst.
    taken, parts = min(misfits, key=lambda m: ("_attention_" not in m[0].flat, "depthwise" in m[0].flat))
    size = flat_shape(parts)
    if TEXT_BODY.match(taken.flat):
        width = text["text_model.embeddings.position_embedding.weight"][1] if text else 0
        return (
            f"`{file}` was made for a text encoder {min(size or (0,))} wide, and this one is {width}: choose "
            "the LoRA or the text encoder that belongs to the other"
        )
    wide = (min if taken.place else max)(size) if size else 0
    same = wide == _width(stage)
    if same and taken.place:
        level, block = taken.place
        made = f"{wide} wide with a block {taken.flat.partition('_')[0]}_blocks.{level}.{block}"
    else:
        made = f"{wide} wide{_released(wide)}" if wide else "of another size"
    return (
        f"`{file}` was made for a {name} {made}, and this {name} is {_described(stage)}: choose a LoRA for "
        f"this size, or load the model that it was made for ({len(misfits)} of its changes do not fit)"
    )


def _width(stage: Shapes) -> int:
    return max(shape[0] for key, shape in stage.items() if key.endswith(".attn.out_proj.weight"))


def _described(stage: Shapes) -> str:
    count = sum(key.endswith(".attn.out_proj.weight") for key in stage)
    return f"{_width(stage)} wide with {count} attention blocks"


def _released(width: int) -> str:
    return f" (as the released one of {RELEASED[width]} parameters is)" if width in RELEASED else ""
