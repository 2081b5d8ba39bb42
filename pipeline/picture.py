"""Pictures from files, into files, and as the networks see them; pictures are ``b 3 h w`` in [0, 1]."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageOps, UnidentifiedImageError
from PIL.PngImagePlugin import PngInfo
from torch import Tensor
from torch.nn import functional

from ..conditioning.image import ImageEncoderConfig
from ..latents.fit import apply, plan
from ..latents.geometry import STAGE_B_MULTIPLE

MULTIPLE = 64
"""Pixels; pictures to start from are cut to multiples of it, which both stages like."""

PARAMETERS = "cascade"
"""The text chunk of a PNG that says how it was drawn, as JSON."""


def read_picture(path: str | Path) -> Tensor:
    """A picture from a file, ``1 3 h w``; the right way up, and without what shines through.

    Raises:
        ValueError: there is no picture in the file.
    """
    return _pixels(path, "RGB").movedim(-1, 1)


def read_mask(path: str | Path) -> Tensor:
    """A mask from a picture, ``1 h w``: 1 where it is white.

    Raises:
        ValueError: see ``read_picture``.
    """
    return _pixels(path, "L")


def _pixels(path: str | Path, mode: str) -> Tensor:
    try:
        with Image.open(path) as image:
            upright = ImageOps.exif_transpose(image).convert(mode)
    except FileNotFoundError:
        raise ValueError(f"there is no `{path}`; give the path of a picture") from None
    except (UnidentifiedImageError, OSError, ValueError) as error:
        raise ValueError(
            f"`{path}` cannot be read as a picture ({error}); give a PNG, JPEG or WebP file"
        ) from None
    return torch.from_numpy(np.asarray(upright, dtype=np.float32) / 255)[None]


def save_picture(picture: Tensor, path: str | Path, parameters: Mapping[str, Any] | None = None) -> Path:
    """Write a picture as PNG, whole or not at all.

    Values are cut off to whole steps, as ComfyUI's Save Image does it.

    Args:
        picture: ``3 h w`` or ``1 3 h w``.
        path: of the file; one that is there is replaced.
        parameters: of how it was drawn, written into the file.
    """
    path = Path(path)
    pixels = picture.reshape(3, *picture.shape[-2:]).movedim(0, -1).numpy()
    chunks = PngInfo()
    if parameters:
        chunks.add_text(PARAMETERS, json.dumps(parameters))
    handle, name = tempfile.mkstemp(prefix=f".{path.stem}-", suffix=".part", dir=path.parent)
    unfinished = Path(name)
    try:
        with os.fdopen(handle, "wb") as file:
            image = Image.fromarray(np.clip(255.0 * pixels, 0, 255).astype(np.uint8))
            image.save(file, format="PNG", pnginfo=chunks, compress_level=4)
        unfinished.chmod(0o666 & ~_umask())
        unfinished.replace(path)
    finally:
        unfinished.unlink(missing_ok=True)
    return path


def _umask() -> int:
    """What new files of this process are denied; the system only tells while it is set."""
    mask = os.umask(0)
    os.umask(mask)
    return mask


def read_parameters(path: str | Path) -> dict[str, Any]:
    """How a picture was drawn, from its file; {} where it does not say."""
    with Image.open(path) as image:
        return json.loads(getattr(image, "text", {}).get(PARAMETERS, "{}"))


def numbered(path: str | Path, count: int) -> list[Path]:
    """Files for some pictures: the path itself for one, else with _0, _1, … before its suffix."""
    path = Path(path)
    if count == 1:
        return [path]
    return [path.with_name(f"{path.stem}_{i}{path.suffix}") for i in range(count)]


def fitted(
    picture: Tensor, mask: Tensor | None, size: tuple[int, int] | None
) -> tuple[Tensor, Tensor | None]:
    """A picture and its mask, cut to a size that both stages can draw.

    Args:
        picture: ``1 3 h w``.
        mask: ``1 h w``.
        size: ``(w, h)``; None for the next multiples of ``MULTIPLE`` below the picture's.

    Raises:
        ValueError: the mask is of another size than the picture, or the picture is too small.
    """
    given = (picture.shape[-1], picture.shape[-2])
    if mask is not None and mask.shape[-2:] != picture.shape[-2:]:
        raise ValueError(
            f"the picture is {given[0]}x{given[1]} pixels and the mask {mask.shape[-1]}x{mask.shape[-2]}: "
            "make the mask on the picture"
        )
    multiple = STAGE_B_MULTIPLE if size else MULTIPLE
    cut = partial(apply, plan(given, size or (0, 0), "crop", multiple=multiple))
    return cut(picture), None if mask is None else cut(mask[:, None])[:, 0]


def stretched(pictures: Tensor, width: int, height: int) -> Tensor:
    """Pictures of another size, their proportions given up."""
    if pictures.shape[-2:] == (height, width):
        return pictures
    return functional.interpolate(pictures, (height, width), mode="bilinear", antialias=True)


def put_back(drawn: Tensor, kept: Tensor, mask: Tensor) -> Tensor:
    """What was drawn where a mask is 1, and the kept picture to the bit where it is 0.

    Args:
        drawn: ``b 3 h w``.
        kept: ``1 3 h w``.
        mask: ``1 h w``, of this size.

    Source: ComfyUI ``comfy_extras/nodes_mask.py``, ImageCompositeMasked.
    """
    over = functional.interpolate(mask[:, None], size=drawn.shape[-2:], mode="bilinear")
    return over * drawn + (torch.ones_like(over) - over) * kept


def for_clip(pictures: Tensor, config: ImageEncoderConfig) -> Tensor:
    """Pictures as ComfyUI shows them to CLIP: their middle square, in steps of 1/255, standardised.

    Source: ComfyUI ``comfy/clip_model.py``, ``clip_preprocess``.
    """
    size = config.image_size
    if pictures.shape[-2:] != (size, size):
        scale = size / min(pictures.shape[-2:])
        sides = [round(scale * side) for side in pictures.shape[-2:]]
        pictures = functional.interpolate(pictures, sides, mode="bicubic", antialias=True)
        top, left = ((side - size) // 2 for side in sides)
        pictures = pictures[..., top : top + size, left : left + size]
    steps = (255.0 * pictures).clamp(0, 255).round() / 255.0
    mean, spread = (pictures.new_tensor(values).view(3, 1, 1) for values in (config.mean, config.std))
    return (steps - mean) / spread
