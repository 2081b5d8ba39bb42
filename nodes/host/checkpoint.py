"""Several parts at once: those of an all-in-one file, and those that a person picked to work together."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from ...checkpoints.fit import Piece, check_fit
from ...checkpoints.folder import read_checkpoint
from ...checkpoints.identify import LOADERS, NAMES, Part, describe, find_parts, identify
from .clip import load_image_encoder, load_text_encoder
from .files import SMALL, path_of, read_part
from .missing import Missing
from .model import load_model
from .vae import load_semantic_encoder, load_stage_a

SOCKETS = ("model", "clip", "vae", "clip_vision")
"""What an all-in-one file may give, in the order in which the host's loader gives it."""


def load_checkpoint(path: str | Path, weight_dtype: str) -> tuple[Any, Any, Any, Any]:
    """MODEL, CLIP, VAE and CLIP_VISION of a file; where it has none, what says so when it is used.

    Args:
        path: a safetensors file.
        weight_dtype: of the diffusion model and the text encoder; one of ``precision.CHOICES``.

    Raises:
        ValueError: the file holds none of them, or not all of one.
    """
    header = read_checkpoint(path)
    found = find_parts(header.shapes)
    loads: dict[str, tuple[tuple[Part, Callable[[], Any]], ...]] = {
        "model": (
            (Part.STAGE_C, lambda: load_model(path, Part.STAGE_C, weight_dtype)),
            (Part.STAGE_B, lambda: load_model(path, Part.STAGE_B, weight_dtype)),
        ),
        "clip": ((Part.TEXT_ENCODER, lambda: load_text_encoder(path, weight_dtype)),),
        "vae": (
            (Part.STAGE_A, lambda: load_stage_a(path)),
            (Part.SEMANTIC_ENCODER, lambda: _coder(path, found)),
        ),
        "clip_vision": ((Part.IMAGE_ENCODER, lambda: load_image_encoder(path)),),
    }
    wanted = [part for parts in loads.values() for part, _ in parts]
    if not set(wanted) & set(found):
        what = describe(identify(header.shapes), header.shapes)
        raise ValueError(
            f"`{header.file}` is {what}, and a checkpoint with parts of Stable Cascade was expected; choose "
            "one, such as stable_cascade_stage_c.safetensors"
        )
    model, clip, vae, vision = (
        next((load() for part, load in loads[socket] if part in found), None)
        or Missing(_lacking([part for part, _ in loads[socket]], header.file))
        for socket in SOCKETS
    )
    return model, clip, vae, vision


def _coder(path: str | Path, found: Mapping[Part, str]) -> Any:
    return load_semantic_encoder(path, path if Part.PREVIEWER in found else None)


def _lacking(parts: list[Part], file: str) -> str:
    nouns = " and no ".join(NAMES[part].partition(" ")[2] for part in parts)
    nodes = " or ".join(LOADERS[part] for part in parts)
    return f"`{file}` holds no {nouns}: load one with {nodes} and wire it here instead"


NO_ENCODER = (
    "no semantic encoder was picked in Load Pipeline (Cascade): pick one, or load it with "
    f"{LOADERS[Part.SEMANTIC_ENCODER]}"
)


def load_pipeline(picked: Mapping[Part, str], weight_dtype: str) -> tuple[Any, Any, Any, Any, Any]:
    """Stage C, Stage B, Stage A, text encoder and semantic encoder, each on its socket.

    Args:
        picked: a choice of a loader's for each part; a semantic encoder and a previewer may be missing.
        weight_dtype: of the diffusion models and the text encoder; one of ``precision.CHOICES``.

    Raises:
        ValueError: a file holds something else, or the parts do not fit each other.
    """
    paths = {part: path_of(part, choice) for part, choice in picked.items()}
    check_fit({part: _piece(part, choice, paths[part]) for part, choice in picked.items()})
    encoder = paths.get(Part.SEMANTIC_ENCODER)
    return (
        load_model(paths[Part.STAGE_C], Part.STAGE_C, weight_dtype),
        load_model(paths[Part.STAGE_B], Part.STAGE_B, weight_dtype),
        load_stage_a(paths[Part.STAGE_A]),
        load_text_encoder(paths[Part.TEXT_ENCODER], weight_dtype),
        load_semantic_encoder(encoder, paths.get(Part.PREVIEWER)) if encoder else Missing(NO_ENCODER),
    )


def _piece(part: Part, choice: str, path: str) -> Piece:
    contents = read_part(path, part)
    return Piece(choice, contents.config, contents.recorded, choice == SMALL)
