"""``generate``: pictures of a prompt, without ComfyUI."""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

from tqdm import tqdm

from .. import __version__
from ..latents.geometry import SMALLEST_IMAGE, STAGE_B_MULTIPLE
from ..pipeline.cascade import FEATHER, SIZE, Cascade, load
from ..pipeline.parts import PRECISIONS
from ..pipeline.picture import numbered, read_mask, read_picture, save_picture
from ..pipeline.settings import DENOISE_OF_PICTURE, NOISES, SAMPLERS, SCHEDULERS, Sampling, Settings

PARTS = ("stage_a", "stage_b", "stage_c", "text_encoder", "image_encoder", "semantic_encoder")
LARGEST_SIDE = 16384
ENDS = {"prior": ("Stage C", 20, 4.0), "decoder": ("Stage B", 10, 1.0)}
"""How options of a stage end, its name, its steps and its guidance."""


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


def run(options: argparse.Namespace) -> int:
    """Draw pictures of a prompt, the same as the graph draws, without ComfyUI."""
    out = _writable(options.out)
    settings = _settings(options)
    picture = read_picture(options.image) if options.image else None
    mask = read_mask(options.mask) if options.mask else None
    shown = [(read_picture(file), weight) for file, weight in options.image_prompt]
    cascade = load(
        files={part: getattr(options, part) for part in PARTS if getattr(options, part)},
        loras=options.lora, tokenizer=options.tokenizer, device=options.device, precision=options.dtype,
    )  # fmt: skip
    _tell_unknown(cascade, options.prompt, options.negative)
    with Bars() as bars, _enough_memory():
        pictures = cascade.generate(
            options.prompt, options.negative, size=options.size, count=options.num_images, settings=settings,
            picture=picture, mask=mask, feather=options.feather, images=shown, progress=bars,
        )  # fmt: skip
    for number, (drawn, path) in enumerate(zip(pictures, numbered(out, len(pictures)), strict=True)):
        save_picture(drawn, path, _parameters(options, settings, drawn.shape, number))
        print(path)
    return 0


class Bars:
    """A bar of progress for each stage, on standard error."""

    def __init__(self):
        self.stage = ""
        self.bar: tqdm | None = None

    def __enter__(self) -> Bars:
        return self

    def __exit__(self, *_: object) -> None:
        if self.bar is not None:
            self.bar.close()

    def __call__(self, stage: str, step: int, steps: int) -> None:
        """See ``pipeline.cascade.Progress``."""
        if self.bar is None or stage != self.stage:
            self.__exit__()
            self.stage, self.bar = stage, tqdm(desc=stage, total=steps, unit="step", file=sys.stderr)
        self.bar.update(step - self.bar.n)


@contextmanager
def _enough_memory() -> Iterator[None]:
    """Turn torch's errors about memory into a sentence."""
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        if not isinstance(error, MemoryError) and "memory" not in str(error):
            raise
        raise ValueError(
            "there is not enough memory for these pictures: give a smaller --size or fewer --num-images"
        ) from None


def _settings(options: argparse.Namespace) -> Settings:
    """What the options say of sampling.

    Raises:
        ValueError: an option is out of range; the sentence begins with it.
    """
    redrawn = DENOISE_OF_PICTURE if options.image and not options.mask else 1.0
    stages = {}
    for end, usual in (("prior", redrawn), ("decoder", 1.0)):
        given = {
            name: getattr(options, f"{name}_{end}") for name in ("steps", "guidance", "sampler", "scheduler")
        }
        denoise = getattr(options, f"denoise_{end}")
        try:
            stages[end] = Sampling(*given.values(), usual if denoise is None else denoise)
        except ValueError as error:
            raise ValueError(f"{ENDS[end][0]}: {error}") from None
    if options.mask and not options.image:
        raise ValueError("--mask says where --image is drawn anew: give --image as well")
    if options.feather < 0:
        raise ValueError(f"--feather is {options.feather}; give a number of pixels from 0")
    return Settings(options.seed, stages["prior"], stages["decoder"], options.rescale, options.noise)


def _tell_unknown(cascade: Cascade, *prompts: str) -> None:
    unknown = [word for prompt in prompts for word in cascade.text(prompt).unknown]
    if unknown:
        words = ", ".join(dict.fromkeys(unknown))
        print(f"This text encoder does not know, and left out: {words}", file=sys.stderr)


def _parameters(options: argparse.Namespace, settings: Settings, shape: Any, number: int) -> dict[str, Any]:
    """What is written into a picture: everything that made it."""
    files = {part: options_file.name for part in PARTS if (options_file := getattr(options, part))}
    more = {
        "image": options.image and options.image.name, "mask": options.mask and options.mask.name,
        "feather": options.feather if options.mask else None, "files": files,
        "loras": [[path.name, strength] for path, strength in options.lora],
        "image_prompts": [[path.name, weight] for path, weight in options.image_prompt],
    }  # fmt: skip
    return {
        "program": f"ComfyUI-Cascade {__version__}", "prompt": options.prompt, "negative": options.negative,
        "width": shape[-1], "height": shape[-2], "picture": number, "pictures": options.num_images,
        **asdict(settings), **{name: value for name, value in more.items() if value},
    }  # fmt: skip


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


def _writable(path: Path) -> Path:
    if path.is_dir() or path.suffix.lower() != ".png":
        raise ValueError(f"--out is `{path}`; give the path of a file that ends in .png")
    if not path.absolute().parent.is_dir():
        raise ValueError(f"--out is `{path}`, and there is no folder `{path.parent}`; make it first")
    return path
