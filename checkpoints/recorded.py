"""What shapes cannot tell about a network, and what files of ours therefore say in their metadata."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, TypeVar, get_args

Prediction = Literal["noise", "velocity", "clean"]

RELEASED_COMPRESSION = 42.67
"""Pixels per Stage C cell along a side; the released weights, which record nothing, were trained at it."""

_OF_PART = re.compile(
    r"cascade\.(stage_a|stage_b|stage_c|semantic_encoder|previewer|text_encoder|image_encoder)\.(.+)"
)
"""An entry of one part, in a file that holds several: ``cascade.stage_c.head_dim``."""

Value = TypeVar("Value")


def metadata_of(part: str, metadata: Mapping[str, str]) -> dict[str, str]:
    """What a file's metadata says of one of its parts, under the names that a file of its own has."""
    own: dict[str, str] = {}
    shared: dict[str, str] = {}
    for key, value in metadata.items():
        match = _OF_PART.fullmatch(key)
        if match is None:
            shared[key] = value
        elif match.group(1) == part:
            own[f"cascade.{match.group(2)}"] = value
    return shared | own


def joined_metadata(parts: Mapping[str, Mapping[str, str]]) -> dict[str, str]:
    """The metadata of a file that holds several parts, from the metadata of each.

    Entries of ours name their part. Of other entries that differ the first part's stays.
    """
    joined: dict[str, str] = {}
    for part, metadata in parts.items():
        for key, value in metadata.items():
            name = key.removeprefix("cascade.")
            joined.setdefault(key if name == key else f"cascade.{part}.{name}", value)
    return joined


@dataclass(frozen=True, slots=True)
class LatentRgb:
    """A linear preview: colour = latents · factors + bias.

    Attributes:
        factors: for each latent channel its share of red, green and blue.
        bias: red, green and blue of a zero latent.
    """

    factors: tuple[tuple[float, float, float], ...]
    bias: tuple[float, float, float]


@dataclass(frozen=True, slots=True)
class Recorded:
    """The ``cascade.*`` entries of a file's metadata; what is absent has the released weights' value.

    Attributes:
        part: which part of the cascade the file says it is.
        prediction: what the network predicts.
        compression: pixels per Stage C cell along a side in training.
        head_dim: channels of an attention head; None for 64.
        strides: of the semantic encoder, stem first; None for EfficientNetV2-S.
        token_ids: the CLIP id of each row of a small table of words; None for the whole vocabulary.
        latent_rgb: a linear preview of the latents.
    """

    part: str | None = None
    prediction: Prediction = "noise"
    compression: float = RELEASED_COMPRESSION
    head_dim: int | None = None
    strides: tuple[int, ...] | None = None
    token_ids: tuple[int, ...] | None = None
    latent_rgb: LatentRgb | None = None

    @classmethod
    def from_metadata(cls, metadata: Mapping[str, str] | None, file: str = "the file") -> Recorded:
        """Read the entries.

        Raises:
            ValueError: an entry makes no sense; the sentence names it, what it holds and what it should.
        """

        def entry(name: str, read: Callable[[str], Value], wanted: str, absent: Value) -> Value:
            text = (metadata or {}).get(f"cascade.{name}")
            if text is None:
                return absent
            try:
                return read(text)
            except (ValueError, TypeError, KeyError, OverflowError, RecursionError):
                raise ValueError(
                    f"{file} says cascade.{name} = {text[:60]!r}, and {wanted} was expected; "
                    "correct its metadata"
                ) from None

        return cls(
            part=(metadata or {}).get("cascade.part"),
            prediction=entry("prediction", _prediction, "noise, velocity or clean", "noise"),
            compression=entry("compression", _compression, "a number from 4 to 128", RELEASED_COMPRESSION),
            head_dim=entry("head_dim", _positive, "a whole number above 0", None),
            strides=entry("strides", _strides, "a list of ones and twos", None),
            token_ids=entry("token_ids", _token_ids, "a list of different CLIP token ids", None),
            latent_rgb=entry("latent_rgb", _latent_rgb, 'three "bias" and rows of three "factors"', None),
        )


def _require(sensible: bool) -> None:
    if not sensible:
        raise ValueError


def _prediction(text: str) -> Prediction:
    _require(text in get_args(Prediction))
    return text  # type: ignore[return-value]


def _compression(text: str) -> float:
    value = float(text)
    _require(4 <= value <= 128)
    return value


def _positive(text: str) -> int:
    value = int(text)
    _require(value > 0)
    return value


def _whole(text: str) -> tuple[int, ...]:
    values = json.loads(text)
    _require(isinstance(values, list) and all(type(value) is int for value in values))
    return tuple(values)


def _strides(text: str) -> tuple[int, ...]:
    values = _whole(text)
    _require(len(values) > 1 and set(values) <= {1, 2})
    return values


def _token_ids(text: str) -> tuple[int, ...]:
    values = _whole(text)
    _require(bool(values) and min(values) >= 0 and len(set(values)) == len(values))
    return values


def _triple(values: Any) -> tuple[float, float, float]:
    red, green, blue = (float(value) for value in values)
    return red, green, blue


def _latent_rgb(text: str) -> LatentRgb:
    values = json.loads(text)
    factors = tuple(_triple(row) for row in values["factors"])
    _require(bool(factors))
    return LatentRgb(factors, _triple(values["bias"]))
