"""Pictures of any size, brought to sizes that latents can have."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor
from torch.nn import functional

from .geometry import SMALLEST_IMAGE, STAGE_B_MULTIPLE

Way = Literal["crop", "pad", "stretch", "canvas"]
Place = Literal["center", "left", "right", "top", "bottom"]
Fill = Literal["edge", "grey"]
WAYS, PLACES, FILLS = get_args(Way), get_args(Place), get_args(Fill)

GREY = 0.5


@dataclass(frozen=True, slots=True)
class Fit:
    """How a picture is brought to a size.

    Attributes:
        given: size of the picture, ``(w, h)`` like all sizes here.
        scaled: its size after scaling.
        size: of the result.
        left, top: columns and rows between the corners of the result and of the scaled picture; negative
            where the picture is cut.
    """

    given: tuple[int, int]
    scaled: tuple[int, int]
    size: tuple[int, int]
    left: int
    top: int

    @property
    def right(self) -> int:
        """Columns between the right borders of the picture and of the result; negative where it is cut."""
        return self.size[0] - self.scaled[0] - self.left

    @property
    def bottom(self) -> int:
        """Rows between the lower borders of the picture and of the result; negative where it is cut."""
        return self.size[1] - self.scaled[1] - self.top

    def __str__(self) -> str:
        """What is done, in words."""
        said = [f"{_by(self.given)} pixels"]
        if self.scaled != self.given:
            said.append(f"scaled to {_by(self.scaled)}")
        sides = {"left": self.left, "top": self.top, "right": self.right, "bottom": self.bottom}
        for verb, sign in (("cut", -1), ("filled", 1)):
            changed = [f"{abs(n)} {_unit(side)} {side}" for side, n in sides.items() if n * sign > 0]
            if changed:
                said.append(f"{verb} by {', '.join(changed)}")
        return f"{', '.join(said)}: {_by(self.size)}" if len(said) > 1 else f"{said[0]}, as they were"


def _by(size: tuple[int, int]) -> str:
    return f"{size[0]}x{size[1]}"


def _unit(side: str) -> str:
    return "on the" if side in ("left", "right") else "at the"


def plan(
    given: tuple[int, int],
    wanted: tuple[int, int] = (0, 0),
    way: Way = "crop",
    place: Place = "center",
    multiple: int = STAGE_B_MULTIPLE,
) -> Fit:
    """How to bring a picture to a size whose sides are multiples of a number.

    Args:
        given: size of the picture, ``(w, h)`` in pixels.
        wanted: size of the result; 0 for a side that follows from the other and the proportions, and 0 for
            both to keep the picture's scale, which is then cut or filled to the next multiples.
        way: "crop" scales the picture to cover the result and cuts, "pad" scales it to fit inside and
            fills, "stretch" changes its proportions, "canvas" leaves its scale and cuts or fills.
        place: the side at which the picture stays whole, or at which it is put.
        multiple: of both sides, itself a multiple of what Stage B needs.

    Raises:
        ValueError: the result would be too small for Stage B, or the multiple does not suit it.

    >>> print(plan((1000, 700), multiple=64))
    1000x700 pixels, cut by 20 on the left, 30 at the top, 20 on the right, 30 at the bottom: 960x640
    """
    if multiple < STAGE_B_MULTIPLE or multiple % STAGE_B_MULTIPLE:
        raise ValueError(
            f"sides were to be multiples of {multiple}, but Stage B needs multiples of {STAGE_B_MULTIPLE}: "
            f"choose {max(1, round(multiple / STAGE_B_MULTIPLE)) * STAGE_B_MULTIPLE}"
        )
    size = tuple(_snap(side, multiple, way, any(wanted)) for side in _sides(given, wanted))
    if min(size) < SMALLEST_IMAGE:
        raise ValueError(
            f"a picture of {_by(given)} pixels would become {_by(size)}, and Stage B needs at least "
            f"{SMALLEST_IMAGE} along each side: give a larger width and height"
        )
    scaled = _scaled(given, size, way, any(wanted))
    left = _offset(size[0] - scaled[0], {"left": 0.0, "right": 1.0}.get(place, 0.5))
    top = _offset(size[1] - scaled[1], {"top": 0.0, "bottom": 1.0}.get(place, 0.5))
    return Fit(given, scaled, size, left, top)


def _sides(given: tuple[int, int], wanted: tuple[int, int]) -> tuple[float, float]:
    """The size asked for, before it is brought to multiples."""
    width, height = wanted
    if width and height:
        return width, height
    scale = width / given[0] or height / given[1] or 1.0
    return width or given[0] * scale, height or given[1] * scale


def _snap(side: float, multiple: int, way: Way, asked: bool) -> int:
    """The next multiple; without a size asked for, the one that cutting or filling leads to."""
    count = side / multiple
    if asked or way in ("stretch", "canvas"):
        return max(1, round(count)) * multiple
    return int(-(-count // 1) if way == "pad" else max(1, count // 1)) * multiple


def _scaled(given: tuple[int, int], size: tuple[int, int], way: Way, asked: bool) -> tuple[int, int]:
    if way == "stretch":
        return size
    ratios = [side / old for side, old in zip(size, given, strict=True)]
    scale = {"crop": max(ratios), "pad": min(ratios), "canvas": 1.0}[way]
    # A picture that needs no scaling to be cut or filled is not blurred by a little of it.
    if not asked and (scale < 1 if way == "crop" else scale > 1):
        scale = 1.0
    fits = max if way == "crop" else min
    if way == "canvas" or scale == 1.0:
        return given
    return tuple(fits(side, round(old * scale)) for side, old in zip(size, given, strict=True))


def _offset(spare: int, share: float) -> int:
    return int(spare * share)


def apply(fit: Fit, images: Tensor, fill: Fill = "edge") -> Tensor:
    """Pictures brought to a size.

    Args:
        fit: from ``plan``.
        images: ``b c h w``, of the size that the plan was made for.
        fill: "edge" goes on with the colours at the border, which leaves no line that an encoder would see;
            "grey" fills evenly.

    Returns:
        ``b c h w`` of the new size. A picture that is not scaled keeps its pixels exactly.
    """
    width, height = fit.scaled
    if images.shape[-2:] != (height, width):
        images = functional.interpolate(images, (height, width), mode="bilinear", antialias=True)
    sides = (fit.left, fit.right, fit.top, fit.bottom)
    images = functional.pad(images, [min(0, side) for side in sides])
    margins = [max(0, side) for side in sides]
    if not any(margins):
        return images
    if fill == "grey":
        return functional.pad(images, margins, value=GREY)
    return functional.pad(images, margins, mode="replicate")


def margin(fit: Fit) -> Tensor:
    """A mask of what was filled, 1 there and 0 on the picture, ``1 h w``."""
    mask = torch.zeros(1, 1, *fit.scaled[::-1])
    sides = (fit.left, fit.right, fit.top, fit.bottom)
    return functional.pad(mask, sides, value=1.0)[0]
