"""Files of one layout into files of another: any direction, one part or several.

Weights stay in the mapped files until each is written, so that converting holds about one of them.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from .diffusers_config import FILE, FILES, FOLDERS, diffusers_config
from .folder import networks_in, read_checkpoint
from .header import Header
from .identify import NAMES, Part, describe, find_parts, identify
from .layout import Layout, shapes
from .open import NETWORKS, read_weights
from .recorded import joined_metadata, metadata_of
from .save import PLACES, save, save_all

SUFFIX = ".safetensors"


@dataclass(frozen=True, slots=True)
class Held:
    """One part of a checkpoint: its weights under our names, and its own metadata."""

    weights: Mapping[str, Tensor]
    metadata: Mapping[str, str]


def convert(
    sources: Iterable[str | Path],
    out: str | Path,
    *,
    layout: Layout,
    dtype: torch.dtype | None,
    wanted: Part | None = None,
) -> list[Path]:
    """Write the parts in some checkpoints in another layout.

    Args:
        sources: files, networks' folders or pipelines' folders; several parts in ComfyUI's layout go
            into one file.
        out: a ``.safetensors`` file, or a folder that gets a file for each part. In diffusers' layout
            the folder is what ``from_pretrained`` opens.
        layout, dtype: see ``save``.
        wanted: the only part to write; None for all.

    Returns:
        The files written.

    Raises:
        ValueError: a source holds nothing to convert, or it does not go into ``out``.
        OSError: a file cannot be written.
    """
    return write_parts(_gather(sources, wanted), out, layout, dtype)


def write_parts(
    parts: Mapping[Part, Held], out: str | Path, layout: Layout, dtype: torch.dtype | None
) -> list[Path]:
    """Write some parts; see ``convert``."""
    out = Path(out)
    if out.suffix == SUFFIX:
        _to_file(out, parts, layout, dtype)
        return [out]
    if out.suffix in (".ckpt", ".pt", ".pth", ".bin") or out.is_file():
        raise ValueError(f"`{out.name}` is no place to write to: give a {SUFFIX} file or a folder")
    if layout is Layout.COMFYUI and len(parts) > 1:
        raise ValueError(
            f"ComfyUI has {len(parts)} parts in one file: give a {SUFFIX} file instead of the folder "
            f"`{out.name}`"
        )
    return [
        path
        for part, held in parts.items()
        for path in _to_folder(out, part, held, layout, dtype, alone=len(parts) == 1)
    ]


def _gather(sources: Iterable[str | Path], wanted: Part | None) -> dict[Part, Held]:
    parts: dict[Part, Held] = {}
    for source in sources:
        for path in networks_in(source):
            header = read_checkpoint(path)
            found = [part for part in find_parts(header.shapes) if part in PLACES]
            if not found:
                raise ValueError(_nothing_in(header))
            for part in found:
                if wanted not in (None, part):
                    continue
                if part in parts:
                    raise ValueError(
                        f"`{header.file}` is {NAMES[part]}, and there is one already: leave one out"
                    )
                parts[part] = Held(read_weights(part, header), metadata_of(part.value, header.metadata))
    if not parts:
        asked = NAMES[wanted] if wanted else "no part"
        raise ValueError(f"there is nothing to convert, because these files do not hold {asked}")
    return parts


def _nothing_in(header: Header) -> str:
    what = describe(identify(header.shapes), header.shapes)
    known = ", ".join(NAMES[part] for part in PLACES)
    return f"`{header.file}` is {what}, and convert takes {known}, or several of them in one file"


def _to_file(out: Path, parts: Mapping[Part, Held], layout: Layout, dtype: torch.dtype | None) -> None:
    if len(parts) == 1:
        ((part, held),) = parts.items()
        save(out, part, held.weights, layout=layout, dtype=dtype, metadata=held.metadata)
    elif layout is Layout.COMFYUI:
        metadata = joined_metadata({part.value: held.metadata for part, held in parts.items()})
        save_all(out, {part: held.weights for part, held in parts.items()}, dtype=dtype, metadata=metadata)
    else:
        names = ", ".join(part.value for part in parts)
        raise ValueError(
            f"only ComfyUI's layout has several parts in one file ({names}): give a folder instead of "
            f"`{out.name}`, or choose one part"
        )


def _to_folder(
    out: Path, part: Part, held: Held, layout: Layout, dtype: torch.dtype | None, alone: bool
) -> list[Path]:
    """Write one part into a folder; a network that diffusers has gets a folder of its own."""
    if layout is not Layout.DIFFUSERS or part not in FOLDERS:
        path = out / f"{part.value}{SUFFIX}"
        _save_into(out, path, part, held, layout, dtype)
        return [path]
    sizes = NETWORKS[part][1].from_shapes(shapes(held.weights), held.metadata)
    config = diffusers_config(part, sizes)
    folder = out if alone else out / FOLDERS[part]
    path = folder / FILES.get(part, FILE)
    _save_into(folder, path, part, held, layout, dtype)
    described = folder / "config.json"
    described.write_text(json.dumps(config, indent=2, default=str) + "\n", encoding="utf-8")
    return [path, described]


def _save_into(
    folder: Path, path: Path, part: Part, held: Held, layout: Layout, dtype: torch.dtype | None
) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    try:
        save(path, part, held.weights, layout=layout, dtype=dtype, metadata=held.metadata)
    except BaseException:
        with contextlib.suppress(OSError):  # it is not empty, and stays
            folder.rmdir()
        raise
