"""The pictures that ControlNets of Stage C follow, made as the reference made them in training.

Source: Stability ``modules/controlnet.py``, the ``*Filter`` classes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

CANNY_SIDE = 224
"""Pixels along each side at which the reference looks for edges, whatever the picture's shape."""

CANNY_LOW, CANNY_HIGH = 100, 200
"""The reference's thresholds, of the gradient of 8-bit pixels."""

MOST_FACES = 4

FACE_CELL = 32
"""Pixels to a cell of the map of faces, along a side."""


def canny_hint(
    images: Tensor, low: float = CANNY_LOW, high: float = CANNY_HIGH, side: int = CANNY_SIDE
) -> Tensor:
    """Edges of pictures, by OpenCV's Canny.

    The reference finds them in a square of 224 pixels and enlarges it: soft grey lines, not thin white ones.

    Args:
        images: ``b 3 h w`` in [0, 1].
        low, high: gradients of 8-bit pixels; an edge begins above ``high`` and goes on above ``low``.
        side: of the square; 0 for the picture's own size, which gives finer lines than in training.

    Returns:
        ``b 1 h w`` in [0, 1].

    Raises:
        ValueError: OpenCV is not installed.
    """
    # Here and not above: a broken OpenCV must not take everything else down.
    try:
        import cv2
    except ImportError as error:
        raise ValueError(
            f"finding edges needs OpenCV, which cannot be loaded ({error}); install it into ComfyUI's Python "
            "by pip install opencv-python-headless"
        ) from error
    height, width = images.shape[-2:]
    small = functional.interpolate(images.float(), (side or height, side or width), mode="bilinear")
    pixels = (small * 255).clamp(0, 255).to(torch.uint8).movedim(1, -1).contiguous().cpu().numpy()
    edges = torch.stack([torch.from_numpy(cv2.Canny(picture, low, high)) for picture in pixels])
    lines = edges[:, None].float().div(255).to(images.device)
    return functional.interpolate(lines, (height, width), mode="bilinear")


def with_borders(images: Tensor, masks: Tensor, sides: Sequence[int]) -> tuple[Tensor, Tensor]:
    """Pictures and masks with borders that are to be painted.

    Args:
        images: ``b c h w``.
        masks: ``b 1 h w``, 1 where something is to be painted.
        sides: pixels to add on the left, top, right and bottom.

    Returns:
        Both, larger; the borders of the pictures repeat their edges, the masks are 1 there.
    """
    left, top, right, bottom = sides
    around = (left, right, top, bottom)
    return functional.pad(images, around, mode="replicate"), functional.pad(masks, around, value=1.0)


def inpaint_hint(images: Tensor, masks: Tensor, threshold: float = 0.5) -> Tensor:
    """Pictures with white holes, and where the holes are.

    Args:
        images: ``b 3 h w`` in [0, 1].
        masks: ``b 1 h w``, of any size; a hole is where they are above ``threshold``.

    Returns:
        ``b 4 h w``: red, green, blue and the mask, 1 in holes.
    """
    holes = functional.interpolate(masks.float(), images.shape[-2:], mode="bilinear") > threshold
    holes = holes.to(images).expand(len(images), -1, -1, -1)
    return torch.cat([images * (1 - holes) + holes, holes], dim=1)


def super_resolution_hint(latents: Tensor, scale: int = 2) -> Tensor:
    """Stage C latents of a small picture for the cells of one ``scale`` times larger.

    Args:
        latents: ``b c h w``.
        scale: how often each cell repeats along a side.
    """
    return functional.interpolate(latents, scale_factor=scale, mode="nearest")


@dataclass(frozen=True, slots=True)
class Face:
    """A face in a picture.

    Attributes:
        box: left, top, right and bottom in shares of the picture's sides.
        embedding: of its identity, ``c``; of any length, unit length counts.
    """

    box: tuple[float, float, float, float]
    embedding: Tensor


def identity_hint(faces: Sequence[Face], width: int, height: int) -> Tensor:
    """A map of who is where: each face's embedding in the cells of its box, zeros elsewhere.

    Args:
        faces: of one picture; the first four count, and later ones lie over earlier ones.
        width, height: of the picture to draw, in pixels.

    Returns:
        ``1 c h/32 w/32``.

    Raises:
        ValueError: there is no face, or their embeddings differ in length.
    """
    lengths = {len(face.embedding) for face in faces}
    if len(lengths) != 1:
        given = f"embeddings of {sorted(lengths)} features" if faces else "no face"
        raise ValueError(f"an identity hint was given {given}, and faces of one encoder are expected")
    rows, columns = max(1, height // FACE_CELL), max(1, width // FACE_CELL)
    cells = torch.zeros(1, lengths.pop(), rows, columns)
    for face in faces[:MOST_FACES]:
        left, right = _cells(face.box[0], face.box[2], width, columns)
        top, bottom = _cells(face.box[1], face.box[3], height, rows)
        unit = functional.normalize(face.embedding.float().cpu(), dim=0)
        cells[0, :, top:bottom, left:right] = unit[:, None, None]
    return cells


def _cells(start: float, end: float, length: int, count: int) -> tuple[int, int]:
    """First and last cell of a range along a side; at least one cell."""
    first = min(max(0, round(start * length / FACE_CELL)), count - 1)
    return first, max(first + 1, min(round(end * length / FACE_CELL), count))


def as_colours(hint: Tensor) -> Tensor:
    """A hint of any channels as a picture, ``b 3 h w`` in [0, 1]: its first three channels, spread."""
    shown = (hint[:, :3] if hint.shape[1] >= 3 else hint[:, :1].expand(-1, 3, -1, -1)).float()
    low, high = shown.amin(dim=(1, 2, 3), keepdim=True), shown.amax(dim=(1, 2, 3), keepdim=True)
    return (shown - low) / (high - low).clamp(min=1e-6)


def lit(faces: Sequence[Face], images: Tensor) -> Tensor:
    """A picture ``b h w c`` that is dark outside of faces."""
    height, width = images.shape[1:3]
    light = torch.full((1, height, width, 1), 0.3, device=images.device)
    for face in faces:
        left, right = (min(max(round(face.box[i] * width), 0), width) for i in (0, 2))
        top, bottom = (min(max(round(face.box[i] * height), 0), height) for i in (1, 3))
        light[:, top:bottom, left:right] = 1
    return images * light
