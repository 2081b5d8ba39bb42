"""Sizes for a new picture, from its proportions and its area or longer side.

What weights were trained on is not in their files. What is known of the released ones and of the small
cascade is told apart by the compression, which is.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import product

from .geometry import SMALLEST_IMAGE, STAGE_B_MULTIPLE, STAGE_C_COMPRESSION, stage_b_size, stage_c_size

ASPECTS: dict[str, tuple[int, int]] = {
    "1:1 square": (1, 1),
    "5:4 landscape": (5, 4),
    "4:3 landscape": (4, 3),
    "3:2 landscape": (3, 2),
    "5:3 landscape": (5, 3),
    "16:9 landscape": (16, 9),
    "2:1 landscape": (2, 1),
    "21:9 landscape": (21, 9),
    "4:5 portrait": (4, 5),
    "3:4 portrait": (3, 4),
    "2:3 portrait": (2, 3),
    "3:5 portrait": (3, 5),
    "9:16 portrait": (9, 16),
    "1:2 portrait": (1, 2),
    "9:21 portrait": (9, 21),
}
"""Width and height, by what they are called."""

MULTIPLE = 64
"""Pixels that both sides are multiples of: Stage B's four levels then halve them without a rest."""

AREA_TOLERANCE = 1.35
"""Factor in the area that a size may be off what was trained: sides are rounded, and no picture suffers."""

RATIO_TOLERANCE = 1.05
"""The same, of the longer side over the shorter one."""


@dataclass(frozen=True, slots=True)
class Trained:
    """What pictures a Stage C was trained on.

    Attributes:
        compression: pixels per cell along a side.
        cells: of one picture, width times height.
        ratio: of the longer side to the shorter one, at most.
    """

    compression: float
    cells: int
    ratio: float

    @property
    def area(self) -> float:
        """Pixels of one picture."""
        return self.cells * self.compression**2

    @property
    def side(self) -> int:
        """Pixels along a side of a square one."""
        return round(math.sqrt(self.area))


RELEASED = Trained(STAGE_C_COMPRESSION, 24 * 24, 6.0)
"""Source: Stability ``configs/training/finetune_c_3b.yaml``: 768 pixels at 32 to a cell, ratios up to 1:6."""

SMALL = Trained(64 / 3, 12 * 12, 5 / 3)
"""The small cascade; see ``weights/CARD.md``: 256x256, 320x192 and 192x320 pixels."""


def trained_at(compression: float) -> Trained:
    """What a Stage C of this compression was trained on, as far as is known: the cells of the nearest one.

    >>> trained_at(21.3333).side, trained_at(42.67).side
    (256, 1024)
    """
    nearest = min((RELEASED, SMALL), key=lambda known: abs(math.log(compression / known.compression)))
    return Trained(compression, nearest.cells, nearest.ratio)


def size_of_area(aspect: tuple[int, int], area: float, multiple: int = MULTIPLE) -> tuple[int, int]:
    """The size ``(w, h)`` nearest to proportions and an area; proportions count twice as much.

    Args:
        aspect: width and height, in any unit.
        area: in pixels.
        multiple: of both sides, itself a multiple of what Stage B needs.

    >>> size_of_area((16, 9), 1024 * 1024)
    (1344, 768)
    >>> size_of_area((4, 3), 256 * 256)
    (256, 192)
    """
    ratio = aspect[0] / aspect[1]
    sides = math.sqrt(area * ratio), math.sqrt(area / ratio)

    def off(size: tuple[int, int]) -> float:
        width, height = size
        return 2 * abs(math.log(width / height / ratio)) + abs(math.log(width * height / area))

    return min(product(*(_around(side, multiple) for side in sides)), key=off)


def size_of_side(aspect: tuple[int, int], longer: float, multiple: int = MULTIPLE) -> tuple[int, int]:
    """The size ``(w, h)`` of proportions whose longer side is given, both sides rounded to the multiple.

    >>> size_of_side((2, 3), 1536)
    (1024, 1536)
    """
    scale = longer / max(aspect)
    least = math.ceil(SMALLEST_IMAGE / multiple)
    width, height = (max(least, round(side * scale / multiple)) * multiple for side in aspect)
    return width, height


def _around(side: float, multiple: int) -> set[int]:
    """The multiples below and above, none too small for Stage B."""
    least = math.ceil(SMALLEST_IMAGE / multiple)
    wholes = math.floor(side / multiple), math.ceil(side / multiple)
    return {max(least, whole) * multiple for whole in wholes}


def described(size: tuple[int, int], compression: float) -> str:
    """A size and its latents, on three lines.

    Raises:
        ValueError: it is too small for Stage B.

    >>> print(described((1024, 832), 42.67))
    1024x832 pixels, 0.85 megapixels
    Stage C: 24x20 cells of 16 channels
    Stage B: 256x208 cells of 4 channels
    """
    width, height = size
    c_width, c_height = stage_c_size(width, height, compression)
    b_width, b_height = stage_b_size(width, height)
    return (
        f"{width}x{height} pixels, {width * height / 1e6:.2g} megapixels\n"
        f"Stage C: {c_width}x{c_height} cells of 16 channels\n"
        f"Stage B: {b_width}x{b_height} cells of 4 channels"
    )


def doubts(size: tuple[int, int], trained: Trained) -> list[str]:
    """What about a size is outside of what weights were trained on, in sentences; nothing if it is inside.

    >>> doubts((1344, 768), RELEASED)
    []
    >>> print(*doubts((2048, 2048), RELEASED))
    The weights were trained at about 1024x1024 pixels, and this has 4 times the area: things may repeat.
    """
    width, height = size
    said = []
    times, ratio = width * height / trained.area, max(width, height) / min(width, height)
    if max(times, 1 / times) > AREA_TOLERANCE:
        effect = "things may repeat" if times > 1 else "things may be cut off or melt together"
        said.append(
            f"The weights were trained at about {trained.side}x{trained.side} pixels, and this has "
            f"{times:.2g} times the area: {effect}."
        )
    if ratio > trained.ratio * RATIO_TOLERANCE:
        said.append(
            f"The weights were trained on pictures up to {trained.ratio:.3g} times as long as wide, and this "
            f"is {ratio:.3g} times: things may repeat along it."
        )
    if any(side % STAGE_B_MULTIPLE for side in size):
        said.append(f"Stage B draws multiples of {STAGE_B_MULTIPLE} pixels: the picture will be larger.")
    return said
