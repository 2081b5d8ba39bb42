"""Weights to a safetensors file, under the names of any program that reads Stable Cascade.

A file is written beside its place and renamed when it is whole, so that a crash or a full disk leaves what
was there before. Tensors are cast and written one by one: beyond what it is given, saving holds about one.

Source: the safetensors format, https://github.com/huggingface/safetensors#format.
"""

from __future__ import annotations

import json
import os
import secrets
import struct
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

import torch
from torch import Tensor

from .identify import NAMES, Part
from .layout import Layout, from_native, to_native
from .scaled import Scaled, is_scaled, stored_in, with_scales

DTYPES = {
    torch.float64: "F64",
    torch.float32: "F32",
    torch.float16: "F16",
    torch.bfloat16: "BF16",
    torch.float8_e4m3fn: "F8_E4M3",
    torch.float8_e5m2: "F8_E5M2",
    torch.int64: "I64",
    torch.int32: "I32",
    torch.int16: "I16",
    torch.int8: "I8",
    torch.uint8: "U8",
    torch.bool: "BOOL",
}
"""Name in a safetensors header of each precision that may be written."""

NARROW = (torch.float16, torch.float8_e4m3fn, torch.float8_e5m2)
"""Precisions that end long before the others do."""

PLACES = {
    Part.STAGE_B: "model.diffusion_model.",
    Part.STAGE_C: "model.diffusion_model.",
    Part.STAGE_A: "vae.",
    Part.SEMANTIC_ENCODER: "vae.encoder.",
    Part.PREVIEWER: "vae.previewer.",
    Part.TEXT_ENCODER: "text_encoder.clip_g.transformer.",
    Part.IMAGE_ENCODER: "clip_l_vision.",
}
"""Prefix of each part in a file of ComfyUI's that holds several."""

Pieces = Mapping[str, tuple[Scaled, ...]]
"""For each name in a file the tensors that lie in it one after the other."""


def save(
    path: str | Path,
    part: Part,
    state: Mapping[str, Tensor],
    *,
    layout: Layout,
    dtype: torch.dtype | None,
    metadata: Mapping[str, str],
) -> None:
    """Write one part of the cascade to a file of its own.

    Args:
        path: of the file; what is there is replaced once the new file is whole.
        part: what the weights are, one of ``PLACES``.
        state: the weights under our names, or any other layout's; on any device.
        layout: whose names the file gets. ComfyUI wants the diffusion models alone under a prefix.
        dtype: precision of every float in the file, None for each as it is. One of eight bits holds the
            matrices only; all else stays as it is.
        metadata: the file's notes; ``format`` is added.

    Raises:
        ValueError: the part cannot be saved, or a weight does not fit the precision.
        OSError: the file cannot be written, as on a full disk; the sentence names it.
    """
    _require_known(part)
    prefix = PLACES[part] if layout is Layout.COMFYUI and part in (Part.STAGE_B, Part.STAGE_C) else ""
    pieces = _pieces(state, layout, dtype)
    _write(path, {prefix + name: piece for name, piece in pieces.items()}, dtype, metadata)


def save_all(
    path: str | Path,
    parts: Mapping[Part, Mapping[str, Tensor]],
    *,
    dtype: torch.dtype | None,
    metadata: Mapping[str, str],
) -> None:
    """Write several parts to one file, as ComfyUI's checkpoints hold them.

    Args:
        path, dtype, metadata: see ``save``.
        parts: the weights of each part, under our names or any other layout's.

    Raises:
        ValueError: parts that are never in one file, or a weight that does not fit the precision.
        OSError: the file cannot be written.
    """
    for part in parts:
        _require_known(part)
    places = [PLACES[part] for part in parts]
    clashing = [part for part in parts if places.count(PLACES[part]) > 1]
    if Part.STAGE_A in parts and not clashing:
        clashing = [part for part in parts if PLACES[part].startswith("vae.")]
    if len(clashing) > 1:
        raise ValueError(
            f"{NAMES[clashing[0]]} and {NAMES[clashing[1]]} do not go into one file, because ComfyUI would "
            "look for both in one place: write two files, one with Stage C and its semantic encoder, one "
            "with Stage B and its Stage A"
        )
    pieces = {
        PLACES[part] + name: piece
        for part, state in parts.items()
        for name, piece in _pieces(state, Layout.COMFYUI, dtype).items()
    }
    _write(path, pieces, dtype, metadata)


def save_tensors(
    path: str | Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str] | None = None
) -> None:
    """Write any tensors under their own names; equal tensors and metadata give equal bytes.

    Args:
        path: see ``save``; folders on the way are made.
        tensors: on any device.
        metadata: the file's notes; ``format`` is added.

    Raises:
        OSError: the file cannot be written.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    _write(path, {name: (Scaled(tensor),) for name, tensor in tensors.items()}, None, metadata or {})


def _pieces(state: Mapping[str, Tensor], layout: Layout, dtype: torch.dtype | None) -> Pieces:
    """Weights under a layout's names, with eight-bit ones brought back to size unless kept as they are."""
    native = to_native(state)
    if dtype is not None:
        return from_native(with_scales(native), layout)
    if layout is Layout.STABILITY and is_scaled(name for name in native if ".attn.to_" in name):
        raise ValueError(
            "attention projections that are stored in eight bits with a factor each do not go into one "
            "tensor, as Stability's layout has them: choose bf16, fp16 or fp32, or another layout"
        )
    return from_native({name: Scaled(tensor) for name, tensor in native.items()}, layout)


def _require_known(part: Part) -> None:
    if part not in PLACES:
        known = ", ".join(NAMES[one] for one in PLACES)
        raise ValueError(f"{NAMES[part]} cannot be saved; what can is {known}")


def _write(path: str | Path, pieces: Pieces, dtype: torch.dtype | None, metadata: Mapping[str, str]) -> None:
    stored = {name: _stored(piece, dtype) for name, piece in pieces.items()}
    order = sorted(pieces, key=lambda name: -stored[name].itemsize)  # keeps every tensor aligned
    header = _header(pieces, stored, order, {**metadata, "format": "pt"})
    with _replacing(Path(path)) as file:
        file.write(struct.pack("<Q", len(header)) + header)
        for name in order:
            for scaled in pieces[name]:
                file.write(_bytes(cast(name, scaled, stored[name])))


def _stored(piece: tuple[Scaled, ...], dtype: torch.dtype | None) -> torch.dtype:
    """The precision in the file of tensors that lie together."""
    return stored_in(piece[0].tensor, dtype)


def _header(
    pieces: Pieces, stored: Mapping[str, torch.dtype], order: list[str], metadata: Mapping[str, str]
) -> bytes:
    entries: dict[str, object] = {"__metadata__": dict(metadata)}
    begin = 0
    for name in order:
        tensors = [scaled.tensor for scaled in pieces[name]]
        shape = list(tensors[0].shape)
        if len(tensors) > 1:
            shape[0] = sum(tensor.shape[0] for tensor in tensors)
        end = begin + sum(tensor.numel() for tensor in tensors) * stored[name].itemsize
        entries[name] = {"dtype": DTYPES[stored[name]], "shape": shape, "data_offsets": [begin, end]}
        begin = end
    text = json.dumps(entries, separators=(",", ":")).encode()
    return text + b" " * (-len(text) % 8)


def cast(name: str, scaled: Scaled, dtype: torch.dtype) -> Tensor:
    """A weight in another precision.

    Raises:
        ValueError: it does not fit.
    """
    if scaled.tensor.dtype == dtype and scaled.scale is None:
        return scaled.tensor
    result = scaled.to(dtype)
    if dtype in NARROW and not _finite(result) and _finite(scaled.tensor):
        largest = scaled.to(torch.float32).abs().max().item()
        raise ValueError(
            f"{name} holds values up to {largest:.4g}, and {DTYPES[dtype]} ends at "
            f"{torch.finfo(dtype).max:.4g}: choose bf16, which holds them"
        )
    return result


def _finite(tensor: Tensor) -> bool:
    return bool((tensor.float() if tensor.dtype.itemsize == 1 else tensor).isfinite().all())


def _bytes(tensor: Tensor) -> memoryview:
    flat = tensor.detach().cpu().contiguous().reshape(-1)
    return memoryview(flat.view(torch.uint8).numpy())


@contextmanager
def _replacing(path: Path) -> Iterator[BinaryIO]:
    """A new file that takes a path's place once it is whole; nothing of it stays when it is not."""
    beside = path.with_name(f"{path.name}.{secrets.token_hex(4)}.part")
    try:
        with beside.open("xb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        beside.replace(path)
    except OSError as error:
        raise OSError(
            error.errno,
            f"`{path.name}` could not be written ({error.strerror}); nothing was changed: free some space "
            "or choose another folder",
        ) from error
    finally:
        beside.unlink(missing_ok=True)
