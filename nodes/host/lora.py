"""LoRAs on the host's MODEL and CLIP, and as its hooks, by its own adapters and its own patcher."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any, NamedTuple

import comfy.hooks
import comfy.lora
import comfy.model_management
import torch
from comfy.weight_adapter import LoRAAdapter
from torch import Tensor

from ...adapters.lora import Lora, LoraFile, fit, read_lora
from ...adapters.lora_words import Learned, rows_of, split_at
from ...checkpoints.layout import shapes
from ...layers.trunk import Shapes
from .messages import say

STAGE, TEXT = "diffusion_model.", "clip_g.transformer."
"""Before the names of our weights in the host's models."""

TOKENS = f"{TEXT}text_model.embeddings.token_embedding.weight"
"""The text encoder's table of tokens."""

SHOWN = 5
"""Names in a warning."""


class Applied(NamedTuple):
    """What became of a LoRA.

    Attributes:
        model, clip: clones with the changes; None where none came in.
        words: that prompts may use now.
        told: what the file was, in a line.
    """

    model: Any
    clip: Any
    words: tuple[str, ...]
    told: str


def apply_lora(
    model: Any, clip: Any, path: str, strength_model: float, strength_clip: float, words: str = ""
) -> Applied:
    """A MODEL and a CLIP with a LoRA of any dialect; at strength 0 the very same that came in.

    Args:
        model: a MODEL of Stage C or Stage B, ours or the host's.
        clip: a CLIP of the cascade, or None.
        path: of the file.
        strength_model, strength_clip: how much of the changes of each.
        words: lines that name the words the file teaches.

    Raises:
        ValueError: the file is no LoRA for this model.
    """
    file = read_lora(path, words)
    lora = _fitted(file, model, clip)
    _warn(file, lora, clip)
    if lora.stage and strength_model:
        patches = _patches(lora, lora.stage, model.model, STAGE)
        model = model.clone()
        model.add_patches(patches, strength_model)
    learned: tuple[str, ...] = ()
    if clip is not None and strength_clip:
        patches = _patches(lora, lora.text, clip.cond_stage_model, TEXT)
        clip, learned = _taught(clip, file.file, lora.learned, strength_clip)
        clip.add_patches(patches, strength_clip)
    return Applied(model, clip, learned, _told(file, lora))


def hook_lora(
    model: Any, clip: Any, path: str, strength_model: float, strength_clip: float
) -> comfy.hooks.HookGroup:
    """A LoRA of any dialect as the host's hook, for schedules and for parts of a picture.

    Raises:
        ValueError: see ``apply_lora``.
    """
    file = read_lora(path)
    lora = _fitted(file, model, clip)
    _warn(file, lora, clip)
    if lora.learned.width is not None:
        say(f"`{file.file}` teaches words, which a hook cannot: load it with Load LoRA (Cascade) for these")
    hook = comfy.hooks.WeightHook(strength_model, strength_clip)
    hook.weights = _patches(lora, lora.stage, model.model, STAGE)
    hook.weights_clip = {} if clip is None else _patches(lora, lora.text, clip.cond_stage_model, TEXT)
    hook.need_weight_init = False  # they are the host's patches already
    group = comfy.hooks.HookGroup()
    group.add(hook)
    return group


def _fitted(file: LoraFile, model: Any, clip: Any) -> Lora:
    stage = _shapes(model.model, STAGE)
    if "clip_txt_mapper.weight" in stage:
        name = "Stage C"
    elif "effnet_mapper.0.weight" in stage:
        name = "Stage B"
    else:
        raise ValueError(
            f"`{file.file}` is a LoRA of Stable Cascade, and the model is of another family: wire Load "
            "Stage C (Cascade) or Load Stage B (Cascade) here"
        )
    text = None if clip is None else _shapes(clip.cond_stage_model, TEXT)
    if text is not None and not text:
        raise ValueError(
            f"`{file.file}` is a LoRA of Stable Cascade, and the clip is of another family: wire Load Text "
            "Encoder (Cascade) here, or nothing"
        )
    return fit(file, stage, text, name)


def _shapes(model: Any, prefix: str) -> Shapes:
    every = shapes({key: value for key, value in model.state_dict().items() if key.startswith(prefix)})
    return {key.removeprefix(prefix): shape for key, shape in every.items()}


def _patches(lora: Lora, tensors: Mapping[str, Tensor], model: Any, prefix: str) -> dict[str, Any]:
    """The host's patches, by the names of the weights in its model."""
    names = {key.removesuffix(".weight"): key for key in model.state_dict()}
    changed = (prefix + path for path in lora.changed)
    keys = {path: names[path] for path in changed if path in names}
    patches = comfy.lora.load_lora({prefix + key: tensor for key, tensor in tensors.items()}, keys)
    return {key: _exact(patch) for key, patch in patches.items()}


class RowDora(LoRAAdapter):
    """A DoRA whose magnitudes belong to rows: they are divided by the norms of the rows *with* the change.

    The host divides by those without it, which is not what was trained. Source: Liu et al. 2024, "DoRA",
    equation 5; PEFT ``tuners/lora/dora.py``.
    """

    def calculate_weight(
        self, weight: Tensor, key: str, strength: float, strength_model: float, offset: Any, function: Any,
        intermediate_dtype: torch.dtype = torch.float32, original_weight: Any = None,
    ) -> Tensor:  # fmt: skip
        """See the host."""
        up, down, alpha, mid, magnitude, reshape = self.weights
        plain = LoRAAdapter(self.loaded_keys, (up, down, alpha, mid, None, reshape))
        # At full strength: what is trained is the weight as a whole.
        moved = plain.calculate_weight(
            weight.clone(), key, 1.0, strength_model, offset, lambda change: change, intermediate_dtype
        )
        lengths = torch.linalg.vector_norm(moved.flatten(1), dim=1)
        gain = (
            comfy.model_management.cast_to_device(magnitude, weight.device, weight.dtype).flatten() / lengths
        )
        target = moved * gain.view(-1, *(1 for _ in weight.shape[1:]))
        return weight.add_(function(strength * (target - weight)))


def _exact(patch: Any) -> Any:
    """A patch of the host's, or ours in its place where the host's differs from what was trained."""
    if not isinstance(patch, LoRAAdapter) or patch.weights[4] is None:
        return patch
    rows = patch.weights[0].shape[0]
    return RowDora(patch.loaded_keys, patch.weights) if patch.weights[4].shape[0] == rows else patch


def _warn(file: LoraFile, lora: Lora, clip: Any) -> None:
    """Say what of a file has no effect."""
    if lora.unmatched:
        first = ", ".join(lora.unmatched[:SHOWN])
        more = f" and {len(lora.unmatched) - SHOWN} more" if len(lora.unmatched) > SHOWN else ""
        say(f"`{file.file}`: {len(lora.unmatched)} of its names have no effect: {first}{more}")
    taught = [word.text for word in lora.learned.words] + [f"token {id}" for id in lora.learned.known or {}]
    if clip is None and (lora.text_left or taught):
        left = [f"changes of {lora.text_left} layers"] if lora.text_left else []
        left += [f"the words {', '.join(taught)}"] if taught else []
        say(
            f"`{file.file}` also has {' and '.join(left)} for the text encoder, which are left out: wire "
            "a clip into this node to use them"
        )


def _told(file: LoraFile, lora: Lora) -> str:
    adapter = file.adapter
    rank = f", rank {adapter.rank}" if adapter.rank else ""
    return f"{adapter.dialect} {adapter.method}{rank}: {len(lora.changed)} weights"


# Words ---------------------------------------------------------------------------------------------------


class LearnedWords:
    """A tokenizer that answers with rows where learned words stand, as the host's own embeddings do.

    Everything else is the tokenizer's own.
    """

    def __init__(self, tokenizer: Any, rows: Mapping[str, Tensor]):
        self.tokenizer, self.rows = tokenizer, dict(rows)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.tokenizer, name)

    def __call__(self, text: str) -> dict[str, list]:
        """Ids of a text, between those of the start and the end; a tensor ``c`` in place of some."""
        start, *_, end = self.tokenizer("")["input_ids"]
        ids: list = []
        for piece in split_at(text, self.rows):
            ids += list(piece) if isinstance(piece, Tensor) else self.tokenizer(piece)["input_ids"][1:-1]
        return {"input_ids": [start, *ids, end]}


def _taught(clip: Any, file: str, learned: Learned, strength: float) -> tuple[Any, tuple[str, ...]]:
    """A clone of a CLIP that knows words, and these words."""
    clip = clip.clone()
    table = clip.cond_stage_model.state_dict().get(TOKENS)
    tokenizer = getattr(clip.tokenizer, "clip_g", None)
    if learned.width is None:
        return clip, ()
    if table is None or tokenizer is None or learned.width != table.shape[1]:
        width = "none" if table is None else table.shape[1]
        raise ValueError(
            f"`{file}` teaches words of {learned.width} features, and this text encoder has {width} to a "
            "token: wire the text encoder that the LoRA was trained with"
        )
    if learned.unnamed:
        say(
            f"`{file}` does not name its words; they are called {', '.join(learned.unnamed)} and start from "
            "nothing. Name them in words, with the word they were made from: [fernando] = dog"
        )
    try:
        rows = {word.text: rows_of(word, table, tokenizer.inv_vocab, strength) for word in learned.words}
    except ValueError as error:
        raise ValueError(f"`{file}`: {error}") from None
    inner = copy.copy(tokenizer)
    inner.tokenizer = LearnedWords(tokenizer.tokenizer, rows)
    clip.tokenizer = copy.copy(clip.tokenizer)
    clip.tokenizer.clip_g = inner
    _change_known(clip, file, learned, strength)
    return clip, tuple(rows)


def _change_known(clip: Any, file: str, learned: Learned, strength: float) -> None:
    """Patch the rows of tokens of the vocabulary that a file changes."""
    tokens = getattr(clip.tokenizer.clip_g.tokenizer, "tokens", None)  # of a table of some words only
    patches, absent = {}, []
    for id, row in (learned.known or {}).items():
        found = tokens.rows([id]) if tokens is not None else [id]
        if found is None:
            absent.append(str(id))
        else:
            patches[TOKENS, (0, found[0], 1)] = ("diff", (row[None],))
    clip.add_patches(patches, strength)
    if absent:
        say(f"`{file}` changes tokens that this text encoder does not have: {', '.join(absent)}")
