"""The text encoder as the host's CLIP, and the image encoder as its CLIP_VISION.

Both run in the host's own classes; here they get the sizes of any file, and a table of words that may hold
only some of CLIP's.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import comfy.sd
import comfy.utils
import folder_paths
from comfy.clip_vision import ClipVisionModel
from comfy.sdxl_clip import (
    StableCascadeClipG,
    StableCascadeClipGTokenizer,
    StableCascadeClipModel,
    StableCascadeTokenizer,
)
from comfy.supported_models_base import ClipTarget

from ...checkpoints.identify import Part
from ...conditioning.image import ImageEncoderConfig
from ...conditioning.text import END_ID, START_ID, TextEncoderConfig, Tokens
from .files import noted, notes_in, read_part
from .messages import say
from .precision import DEFAULT, dtype_of

WORD_END = "</w>"
"""How CLIP's vocabulary marks the last token of a word."""


class WordRows:
    """CLIP's tokenizer, answering with rows of a table instead of CLIP's ids.

    Words that the table lacks are left out, as they were in training, and collected.
    """

    def __init__(self, clip: Any, tokens: Tokens):
        self.clip, self.tokens = clip, tokens
        self.spelling = {id: text for text, id in clip.get_vocab().items()}
        self.unknown: list[str] = []

    def __call__(self, text: str) -> dict[str, list[int]]:
        """Rows of a text, between the start and the end token's."""
        start, end = self.tokens.rows([START_ID, END_ID])
        rows: list[int] = []
        for word in self._words(self.clip(text)["input_ids"][1:-1]):
            known = self.tokens.rows(word)
            if known is None:
                self.unknown.append("".join(self.spelling[id] for id in word).removesuffix(WORD_END))
            else:
                rows += known
        return {"input_ids": [start, *rows, end]}

    def _words(self, ids: Sequence[int]) -> list[list[int]]:
        words: list[list[int]] = [[]]
        for id in ids:
            words[-1].append(id)
            if self.spelling[id].endswith(WORD_END):
                words.append([])
        return [word for word in words if word]

    def decode(self, rows: Sequence[int], **options: Any) -> str:
        """The text of rows, as CLIP's tokenizer writes it."""
        return self.clip.decode([self.tokens.token_ids[row] for row in rows], **options)


class SmallTokenizer(StableCascadeClipGTokenizer):
    """The host's tokenizer over a table of some words; weights and ``embedding:`` are the host's work."""

    def __init__(self, tokens: Tokens, width: int, **host: Any):
        super().__init__(**host)
        self.tokenizer = WordRows(self.tokenizer, tokens)
        self.embedding_size = width
        self.start_token, self.end_token = self.tokenizer("")["input_ids"]
        self.pad_token = self.end_token
        self.inv_vocab = {row: self.tokenizer.spelling[id] for row, id in enumerate(tokens.token_ids)}

    def tokenize_with_weights(self, text: str, *args: Any, **kwargs: Any) -> list:
        """See the host; says which words of the text are not in the table."""
        self.tokenizer.unknown.clear()
        batches = super().tokenize_with_weights(text, *args, **kwargs)
        unknown = list(dict.fromkeys(self.tokenizer.unknown))
        if unknown:
            say(f"This text encoder does not know, and left out: {', '.join(unknown)}")
        return batches


class NotingTokenizer(StableCascadeTokenizer):
    """The host's pair of tokenizers, with what its file noted among the weights that the host saves."""

    def __init__(self, embedding_directory: Any = None, tokenizer_data: Mapping[str, Any] | None = None):
        super().__init__(embedding_directory=embedding_directory, tokenizer_data=tokenizer_data or {})
        self.notes = (tokenizer_data or {}).get("cascade_notes", {})

    def state_dict(self) -> dict[str, Any]:
        """See the host, whose saving nodes drop our metadata."""
        return super().state_dict() | noted(self.notes, "clip_g.")


class AnySizeText(StableCascadeClipG):
    """The host's text encoder, for a table and a projection of any size."""

    def __init__(self, config: TextEncoderConfig, tokens: Tokens, **host: Any):
        super().__init__(**host)
        make = {"dtype": host.get("dtype"), "device": host.get("device")}
        transformer, layers = self.transformer, self.operations
        transformer.set_input_embeddings(layers.Embedding(config.vocabulary, config.width, **make))
        transformer.text_projection = layers.Linear(config.width, config.c_pooled, bias=False, **make)
        start, end = tokens.rows([START_ID, END_ID])
        self.special_tokens = {"start": start, "end": end, "pad": end}


def load_text_encoder(path: str | Path, weight_dtype: str = DEFAULT, disable_dynamic: bool = False) -> Any:
    """A CLIP from the file of a text encoder.

    Args:
        path: a safetensors file, of the encoder alone or with more in it, or a folder of transformers.
        weight_dtype: one of ``precision.CHOICES``. It computes in fp32 whatever its weights are kept in.
        disable_dynamic: what the host passes when it needs weights it can change in place.

    Raises:
        ValueError: the file holds something else, or not all of it.
    """
    contents = read_part(path, Part.TEXT_ENCODER)
    config: TextEncoderConfig = contents.config
    tokens = Tokens(contents.recorded.token_ids, config.positions)
    words: dict[str, Any] = {
        "clip_g_max_length": config.positions,
        "cascade_notes": {Part.TEXT_ENCODER.value: notes_in(contents.header)},
    }
    if tokens.token_ids is not None:
        words["clip_g_tokenizer_class"] = partial(SmallTokenizer, tokens, config.width)
    target = ClipTarget(NotingTokenizer, StableCascadeClipModel)
    clip = comfy.sd.CLIP(
        target,
        embedding_directory=folder_paths.get_folder_paths("embeddings"),
        tokenizer_data=words,
        parameters=comfy.utils.calculate_parameters(contents.weights),
        state_dict=[dict(contents.weights)],
        model_options={
            "clip_g_class": partial(AnySizeText, config, tokens),
            "clip_g_model_config": _host_text_config(config),
            "dtype": dtype_of(weight_dtype, contents.weights),
        },
        disable_dynamic=disable_dynamic,
    )
    clip.patcher.cached_patcher_init = (_patcher, (path, weight_dtype))
    return clip


def _patcher(path: str | Path, weight_dtype: str, disable_dynamic: bool = False) -> Any:
    return load_text_encoder(path, weight_dtype, disable_dynamic).patcher


def _host_text_config(config: TextEncoderConfig) -> dict[str, int]:
    """Our sizes under the names that the host, after transformers, gives them."""
    return {
        "hidden_size": config.width,
        "intermediate_size": config.c_hidden,
        "num_attention_heads": config.heads,
        "num_hidden_layers": config.depth,
        "max_position_embeddings": config.positions,
    }


def load_image_encoder(path: str | Path) -> Any:
    """A CLIP_VISION from the file of an image encoder.

    Raises:
        ValueError: the file holds something else, or not all of it.
    """
    contents = read_part(path, Part.IMAGE_ENCODER)
    config: ImageEncoderConfig = contents.config
    vision = ClipVisionModel(
        {
            "model_type": "clip_vision_model",
            "hidden_act": "quick_gelu",
            "hidden_size": config.width,
            "intermediate_size": config.c_hidden,
            "num_attention_heads": config.heads,
            "num_hidden_layers": config.depth,
            "num_channels": 3,
            "image_size": config.image_size,
            "patch_size": config.patch_size,
            "projection_dim": config.channels,
            "image_mean": list(config.mean),
            "image_std": list(config.std),
        }
    )
    vision.load_sd(dict(contents.weights))
    return vision
