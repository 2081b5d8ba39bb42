"""What ``generate`` can be told on the command line."""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from ..latents.geometry import SMALLEST_IMAGE, STAGE_B_MULTIPLE
from ..pipeline.cascade import FEATHER, SIZE
from ..pipeline.parts import PRECISIONS
from ..pipeline.settings import DENOISE_OF_PICTURE, NOISES, SAMPLERS, SCHEDULERS

PARTS = (
    "stage_a", "stage_b", "stage_c", "text_encoder", "image_encoder", "semantic_encoder", "image_adapter",
)  # fmt: skip
LARGEST_SIDE = 16384
ENDS = {"prior": ("Stage C", 20, 4.0), "decoder": ("Stage B", 10, 1.0)}
"""How options of a stage end, its name, its steps and its guidance."""


class Followed(NamedTuple):
    """What a ControlNet follows: a picture to make a hint of, or a hint that is ready."""

    file: Path
    ready: bool


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Say what ``run`` takes."""
    parser.add_argument("prompt", help="what the picture shows")
    parser.add_argument("--negative", default="", metavar="TEXT", help="what it does not show")
    parser.add_argument(
        "--out", type=Path, default=Path("cascade.png"), metavar="FILE.png",
        help="where it is written (%(default)s); several get _0, _1 … before the suffix",
    )  # fmt: skip
    parser.add_argument(
        "--size", type=_size, metavar="WIDTHxHEIGHT",
        help=f"pixels, multiples of {STAGE_B_MULTIPLE} ({SIZE[0]}x{SIZE[1]}, or the size of --image)",
    )  # fmt: skip
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="of the noise (%(default)s)")
    parser.add_argument(
        "--num-images", type=_positive, default=1, metavar="N", help="pictures of one seed (%(default)s)"
    )
    for end, (name, steps, cfg) in ENDS.items():
        _add_stage(parser.add_argument_group(f"{name}, the {end}"), end, steps, cfg)
    more = parser.add_argument_group("both stages")
    more.add_argument(
        "--rescale", type=float, default=0.0, metavar="X", help="take back contrast of the guidance, 0 to 1"
    )
    more.add_argument("--noise", choices=NOISES, default="batch", help="whose it is (%(default)s)")
    _add_pictures(parser.add_argument_group("pictures to start from and to look at"))
    _add_controls(parser.add_argument_group("ControlNets of Stage C, and what they follow"))
    _add_files(parser.add_argument_group("files of your own, in place of the small cascade's"))


def _add_stage(group: argparse._ArgumentGroup, end: str, steps: int, cfg: float) -> None:
    group.add_argument(f"--steps-{end}", type=int, default=steps, metavar="N", help="(%(default)s)")
    group.add_argument(
        f"--guidance-{end}", type=float, default=cfg, metavar="X", help="1 for none (%(default)s)"
    )
    group.add_argument(
        f"--sampler-{end}", default="euler", metavar="NAME", help=f"{', '.join(SAMPLERS)} (%(default)s)"
    )
    group.add_argument(
        f"--scheduler-{end}", default="simple", metavar="NAME", help=f"{', '.join(SCHEDULERS)} (%(default)s)"
    )
    usual = f"1, or {DENOISE_OF_PICTURE} with --image alone" if end == "prior" else "1"
    group.add_argument(
        f"--denoise-{end}", type=float, metavar="X", help=f"how much is drawn anew, 0 to 1 ({usual})"
    )


def _add_pictures(group: argparse._ArgumentGroup) -> None:
    group.add_argument("--image", type=Path, metavar="FILE", help="start from this picture")
    group.add_argument(
        "--mask", type=Path, metavar="FILE", help="draw --image anew only where this picture is white"
    )
    group.add_argument(
        "--feather", type=int, default=FEATHER, metavar="N",
        help="pixels over which the mask falls off (%(default)s)",
    )  # fmt: skip
    group.add_argument(
        "--image-prompt", type=_weighted("weight"), action="append", default=[], metavar="FILE:WEIGHT",
        help="show Stage C this picture beside the prompt; may be given more than once",
    )  # fmt: skip
    group.add_argument(
        "--style-image", type=_weighted("scale"), action="append", default=[], metavar="FILE:SCALE",
        help="let the image adapter look at this picture; may be given more than once",
    )  # fmt: skip


def _add_controls(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--controlnet", type=_weighted("strength"), action="append", default=[], metavar="FILE:STRENGTH",
        help="may be given more than once, each with a picture of its own, in the same order",
    )  # fmt: skip
    group.add_argument(
        "--control-image", type=lambda text: Followed(Path(text), False), action="append", default=[],
        dest="followed", metavar="FILE",
        help="what it follows: canny its edges, inpainting what is around --control-mask, super-resolution "
        "all of it at twice its size, other kinds the picture as it is",
    )  # fmt: skip
    group.add_argument(
        "--control-hint", type=lambda text: Followed(Path(text), True), action="append", dest="followed",
        metavar="FILE", help="in place of --control-image: a hint that is ready, such as drawn white edges",
    )  # fmt: skip
    group.add_argument(
        "--control-mask", type=Path, action="append", default=[], metavar="FILE",
        help="white in the hole of an inpainting --control-image",
    )  # fmt: skip


def _add_files(group: argparse._ArgumentGroup) -> None:
    for part in PARTS:
        group.add_argument(f"--{part.replace('_', '-')}", type=Path, metavar="FILE")
    group.add_argument(
        "--tokenizer",
        type=Path,
        metavar="FOLDER",
        help="CLIP's vocabulary, for a --text-encoder with all of it",
    )
    group.add_argument(
        "--lora", type=_weighted("strength"), action="append", default=[], metavar="FILE:STRENGTH",
        help="may be given more than once",
    )  # fmt: skip
    group.add_argument("--device", default="cpu", help="as torch calls it, such as cuda (%(default)s)")
    group.add_argument(
        "--dtype", choices=PRECISIONS, help="what the stages compute in (fp32 on a CPU, else bf16)"
    )


# What options may say ------------------------------------------------------------------------------------


def _size(text: str) -> tuple[int, int]:
    width, _, height = text.lower().partition("x")
    try:
        sides = int(width), int(height)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is no size; write it as 256x256") from None
    if any(side % STAGE_B_MULTIPLE or not SMALLEST_IMAGE <= side <= LARGEST_SIDE for side in sides):
        nearest = [
            min(max(round(side / STAGE_B_MULTIPLE) * STAGE_B_MULTIPLE, SMALLEST_IMAGE), LARGEST_SIDE)
            for side in sides
        ]
        raise argparse.ArgumentTypeError(
            f"{text} is no size that both stages can draw: sides are multiples of {STAGE_B_MULTIPLE} from "
            f"{SMALLEST_IMAGE} to {LARGEST_SIDE}, such as {nearest[0]}x{nearest[1]}"
        )
    return sides


def _positive(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is no number of pictures; give one from 1")
    return int(text)


def _weighted(what: str) -> Callable[[str], tuple[Path, float]]:
    """Of an option like FILE:0.8; without a number it is 1."""

    def read(text: str) -> tuple[Path, float]:
        file, colon, number = text.rpartition(":")
        if not colon:
            return Path(text), 1.0
        try:
            value = float(number)
        except ValueError:
            return Path(text), 1.0  # a colon in the path, as after the letter of a drive
        if not file or not math.isfinite(value):
            raise argparse.ArgumentTypeError(f"{text!r}: write the file, a colon and a {what}, as FILE:0.8")
        return Path(file), value

    return read
