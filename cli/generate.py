"""``generate``: pictures of a prompt, without ComfyUI."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

from torch import Tensor
from tqdm import tqdm

from .. import __version__
from ..pipeline import (
    Cascade,
    Control,
    Sampling,
    Settings,
    load,
    load_controlnet,
    read_mask,
    read_picture,
    save_picture,
)
from ..pipeline.control import INPAINTING
from ..pipeline.picture import numbered
from ..pipeline.settings import DENOISE_OF_PICTURE
from .generate_options import ENDS, PARTS, add_arguments

__all__ = ["add_arguments", "run"]


def run(options: argparse.Namespace) -> int:
    """Draw pictures of a prompt, the same as the graph draws, without ComfyUI."""
    out = _writable(options.out)
    settings = _settings(options)
    _check_pictures(options)
    picture = read_picture(options.image) if options.image else None
    mask = read_mask(options.mask) if options.mask else None
    shown, styles = (
        [(read_picture(file), weight) for file, weight in given]
        for given in (options.image_prompt, options.style_image)
    )
    cascade = load(
        files={part: getattr(options, part) for part in PARTS if getattr(options, part)},
        loras=options.lora, tokenizer=options.tokenizer, device=options.device, precision=options.dtype,
    )  # fmt: skip
    _tell_unknown(cascade, options.prompt, options.negative)
    with Bars() as bars, _enough_memory():
        pictures = cascade.generate(
            options.prompt, options.negative, size=options.size, count=options.num_images, settings=settings,
            picture=picture, mask=mask, feather=options.feather, images=shown, styles=styles,
            controls=_controls(cascade, options), progress=bars,
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

    def __call__(self, stage: str, step: int, steps: int, estimate: Tensor) -> None:
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
    return Settings(options.seed, stages["prior"], stages["decoder"], options.rescale, options.noise)


def _check_pictures(options: argparse.Namespace) -> None:
    """Make sure that pictures come with what they are for.

    Raises:
        ValueError: one lacks the other.
    """
    if options.mask and not options.image:
        raise ValueError("--mask says where --image is drawn anew: give --image as well")
    if options.feather < 0:
        raise ValueError(f"--feather is {options.feather}; give a number of pixels from 0")
    if options.image_adapter and not options.style_image:
        raise ValueError("--image-adapter looks at pictures: give --style-image as well")
    networks, followed = len(options.controlnet), len(options.followed)
    if (followed or options.control_mask) and not networks:
        given = "--control-image says what" if followed else "--control-mask says where"
        raise ValueError(f"{given} a ControlNet follows: give --controlnet as well")
    if networks != followed:
        raise ValueError(
            f"--controlnet is given {networks} times and --control-image or --control-hint {followed} times: "
            "give each ControlNet the picture that it follows, in the same order"
        )


def _controls(cascade: Cascade, options: argparse.Namespace) -> list[Control]:
    """The ControlNets, each with what it follows.

    Raises:
        ValueError: a file holds no ControlNet, or a picture or mask is none for its kind.
    """
    masks, found = list(options.control_mask), []
    for (file, strength), (followed, ready) in zip(options.controlnet, options.followed, strict=True):
        network, picture = load_controlnet(file), read_picture(followed)
        if ready:
            found.append(Control(network, picture, strength))
            continue
        holed = network.config.kind == INPAINTING and masks
        mask = read_mask(masks.pop(0)) if holed else None
        found.append(cascade.control(network, picture, strength, mask=mask))
    if masks:
        raise ValueError(
            f"--control-mask `{masks[0]}` is the hole of an inpainting ControlNet's --control-image, and no "
            "such ControlNet is left for it: leave it out, or give the ControlNet"
        )
    return found


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
        "style_images": [[path.name, scale] for path, scale in options.style_image],
        "controlnets": [
            [path.name, strength, followed.file.name]
            for (path, strength), followed in zip(options.controlnet, options.followed, strict=True)
        ],
        "control_masks": [path.name for path in options.control_mask],
    }  # fmt: skip
    return {
        "program": f"ComfyUI-Cascade {__version__}", "prompt": options.prompt, "negative": options.negative,
        "width": shape[-1], "height": shape[-2], "picture": number, "pictures": options.num_images,
        **asdict(settings), **{name: value for name, value in more.items() if value},
    }  # fmt: skip


def _writable(path: Path) -> Path:
    if path.is_dir() or path.suffix.lower() != ".png":
        raise ValueError(f"--out is `{path}`; give the path of a file that ends in .png")
    if not path.absolute().parent.is_dir():
        raise ValueError(f"--out is `{path}`, and there is no folder `{path.parent}`; make it first")
    return path
