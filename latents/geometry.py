"""How large the latents of a picture are.

Stage A and B work on a quarter of the picture's side. Stage C works on 1/compression of it, and this side
may be any number of cells.
"""

from __future__ import annotations

import math

STAGE_C_COMPRESSION = 42.67
"""Pixels per Stage C cell along a side at which the released weights were trained: 1024 pixels, 24 cells."""

STAGE_B_COMPRESSION = 4
"""Pixels per Stage A and B cell along a side."""

STAGE_B_MULTIPLE = 8
"""Pictures are sized to multiples of this: Stage B needs an even number of cells."""

SMALLEST_IMAGE = 64
"""Pixels; below, Stage B's four levels have no cell left."""

COMPRESSION_TOLERANCE = 1.25
"""Beyond this factor from the trained compression, pictures repeat or smear."""


def stage_c_size(width: int, height: int, compression: float = STAGE_C_COMPRESSION) -> tuple[int, int]:
    """Size of the Stage C latents of a picture, rounded up.

    Args:
        width, height: of the picture, in pixels.
        compression: pixels per cell along a side.

    Returns:
        ``(w, h)`` in cells; the latents are ``b 16 h w``.

    Raises:
        ValueError: the compression is not positive, or the picture too small for Stage B.

    Source: Stability ``inference/utils.py``, ``calculate_latent_sizes``.

    >>> stage_c_size(1024, 1024)
    (24, 24)
    >>> stage_c_size(1536, 640)
    (36, 15)
    """
    _check(width, height)
    if compression <= 0:
        raise ValueError(
            f"the compression is {compression}; it has to be positive, 42.67 is the released one"
        )
    # A hair is taken off, so that 256 / 21.3333 is 12 cells and not 13.
    return tuple(max(1, math.ceil(side / compression - 1e-3)) for side in (width, height))


def stage_b_size(width: int, height: int) -> tuple[int, int]:
    """Size of the Stage B latents of a picture, ``(w, h)`` in cells, even and rounded up.

    Raises:
        ValueError: the picture is too small for Stage B.

    >>> stage_b_size(1024, 832)
    (256, 208)
    >>> stage_b_size(100, 100)
    (26, 26)
    """
    _check(width, height)
    return tuple(2 * math.ceil(side / STAGE_B_MULTIPLE) for side in (width, height))


def _check(width: int, height: int) -> None:
    if min(width, height) < SMALLEST_IMAGE:
        raise ValueError(
            f"the picture is {width}x{height} pixels; Stage B needs at least {SMALLEST_IMAGE} along each side"
        )


def compression_of(stage_b_cells: int, stage_c_cells: int) -> float:
    """Pixels per Stage C cell along a side, from both latents' lengths along it."""
    return stage_b_cells * STAGE_B_COMPRESSION / stage_c_cells


def far_from_trained(compression: float, trained: float) -> bool:
    """Whether a compression is so far from the trained one that pictures suffer."""
    return max(compression / trained, trained / compression) > COMPRESSION_TOLERANCE


def compression_of_small(trained: float, downscale: int) -> float:
    """Pixels to a Stage C cell at which super-resolution encodes the small picture.

    Args:
        trained: compression of the semantic encoder.
        downscale: pixels to its cell, without any stretching.

    Returns:
        The second for released weights, as in Stability ``modules/controlnet.py``; the first for others.
    """
    return float(downscale) if trained == STAGE_C_COMPRESSION else trained
