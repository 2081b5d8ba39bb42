"""How well pictures follow a ControlNet: ``python3 dev.py bench control --controlnet FILE``.

True pictures of fresh scenes give the hints. Pictures are then drawn from the scenes' prompts and the same
noise with the ControlNet and without it, and compared with what the hint holds. No judge takes part. Between
those, as the best that can be had, stand the true pictures' own latents, drawn by Stage B.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import torch
from comfyui_cascade.adapters.controlnet import ControlNet, load_controlnet
from comfyui_cascade.adapters.hints import canny_hint, inpaint_hint, super_resolution_hint
from comfyui_cascade.benchmarks.drawing import CFG, Sampling, cascade_in, decode, draw_latents, in_parts
from comfyui_cascade.pipeline import Cascade, Control
from comfyui_cascade.training.control import holes
from comfyui_cascade.training.draws import Draws
from comfyui_cascade.training.loop import sheet
from comfyui_cascade.training.picturebook import draw, fresh_scenes, prompt_of
from comfyui_cascade.training.workspace import to_images
from comfyui_cascade.weights import path as weights_path
from torch import Tensor
from torch.nn import functional

WITHIN = 3
"""Pixels of the 224 at which edges are found that an edge may be off; a Stage C cell covers 19 of them."""


def edge_agreement(pictures: Tensor, references: Tensor, within: int = WITHIN) -> float:
    """F1 of the edges of pictures against those of references, ``b 3 h w`` in [0, 1].

    An edge is right if the other picture has one within a few pixels. Precision is the share of the
    pictures' edges that are right, recall the share of the references' edges that are found; over all
    pictures together, so that one with few edges does not count like one with many.

    Returns:
        1 for equal edges, 0 for none in common, NaN where the references have none.
    """
    ours, theirs = (_edges(images) for images in (pictures, references))
    right, found = (a * _grown(b, within) for a, b in ((ours, theirs), (theirs, ours)))
    if not theirs.any():
        return float("nan")
    precision = (right.sum() / ours.sum().clamp(min=1)).item()
    recall = (found.sum() / theirs.sum()).item()
    return 2 * precision * recall / (precision + recall) if precision + recall else 0.0


def _edges(images: Tensor) -> Tensor:
    """1 on edges, at the size at which they are found."""
    square = functional.interpolate(images, (224, 224), mode="bilinear")
    return (canny_hint(square) > 0).float()


def _grown(edges: Tensor, by: int) -> Tensor:
    return functional.max_pool2d(edges, 2 * by + 1, stride=1, padding=by)


def kept_psnr(pictures: Tensor, references: Tensor, masks: Tensor) -> float:
    """Likeness, in dB, of what lies outside of holes.

    Args:
        pictures, references: ``b 3 h w`` in [0, 1].
        masks: ``b 1 h w``, 1 in holes.

    Returns:
        The mean over pictures that have something outside; infinite for equal ones.
    """
    kept = 1 - masks
    errors = ((pictures - references).square().mean(dim=1, keepdim=True) * kept).sum(dim=(1, 2, 3))
    cells = kept.sum(dim=(1, 2, 3))
    mean = errors[cells > 0] / cells[cells > 0]
    return (-10 * mean.log10()).mean().item()


def fidelity(pictures: Tensor, small: Tensor) -> float:
    """Likeness, in dB, of enlarged pictures, made small again, to what they were made from.

    Args:
        pictures: ``b 3 h w`` in [0, 1].
        small: ``b 3 h' w'``.
    """
    again = functional.interpolate(pictures, small.shape[-2:], mode="area")
    return kept_psnr(again, small, torch.zeros_like(small[:, :1]))


Measure = Callable[[Tensor], dict[str, float]]


def hint_of(kind: str, true: Tensor, cascade: Cascade) -> tuple[Tensor, Measure]:
    """What a ControlNet of a kind follows of true pictures ``b 3 h w``, and how pictures are measured.

    Raises:
        ValueError: nothing is measured for the kind.
    """
    whole = torch.zeros_like(true[:, :1])
    if kind == "canny":
        return canny_hint(true), lambda drawn: {"edge F1": edge_agreement(drawn, true)}
    if kind == "inpainting":
        masks = holes(Draws(1, range(len(true))), *true.shape[-2:])
        return inpaint_hint(true, masks), lambda drawn: {"kept, dB": kept_psnr(drawn, true, masks)}
    if kind == "super-resolution":
        small = functional.interpolate(true, scale_factor=0.5, mode="nearest")
        hint = super_resolution_hint(cascade.encode(small))
        return hint, lambda drawn: {
            "small again, dB": fidelity(drawn, small), "true, dB": kept_psnr(drawn, true, whole)
        }  # fmt: skip
    raise ValueError(f"nothing is measured for a ControlNet of the kind {kind}; canny, inpainting and "
                     "super-resolution are known")  # fmt: skip


def measure(
    cascade: Cascade,
    controlnet: ControlNet,
    count: int,
    cfg: float,
    sampling: Sampling,
    say: Callable[[str], None],
) -> tuple[dict[str, dict[str, float]], Tensor]:
    """Figures with the ControlNet, without it, and of the true latents; and all pictures, in these rows."""
    scenes = fresh_scenes(count)
    prompts = [prompt_of(scene) for scene in scenes]
    drawings = [torch.from_numpy(draw(scene, sampling.size).picture.copy()) for scene in scenes]
    true = to_images(torch.stack(drawings))
    hint, figures = hint_of(controlnet.config.kind, true, cascade)
    latents = cascade.encode(true)

    def steered(part: slice, on: bool) -> Tensor:
        seeded = replace(sampling, seed=sampling.seed + 1000 * part.start)
        controls = [Control(controlnet, hint[part])] if on else []
        drawn = draw_latents(cascade, prompts[part], cfg, seeded, controls=controls)
        return decode(cascade, drawn, prompts[part], seeded)

    rows = {
        "with it": lambda part: steered(part, True),
        "without it": lambda part: steered(part, False),
        "true latents": lambda part: decode(cascade, latents[part], prompts[part], sampling),
    }
    table, pictures = {}, [true]
    for name, make in rows.items():
        pictures.append(in_parts(make, count, lambda done, name=name: say(f"{name}: {done}")))
        table[name] = figures(pictures[-1])
    return table, torch.cat(pictures)


def main() -> int:
    """Read the arguments, measure, print; returns the exit status."""
    parser = argparse.ArgumentParser(prog="comfyui_cascade.benchmarks.control", description=__doc__)
    shipped = weights_path("stage_a").parent
    parser.add_argument("--controlnet", type=Path, required=True, help="a safetensors file")
    parser.add_argument("--folder", type=Path, default=shipped, help="of the cascade's files (%(default)s)")
    parser.add_argument("--count", type=int, default=24, help="pictures in a row (%(default)s)")
    parser.add_argument("--cfg", type=float, default=CFG, help="guidance of Stage C (%(default)s)")
    parser.add_argument("--json", type=Path, help="write the figures here as well")
    parser.add_argument("--pictures", type=Path, help="write all pictures here, a row for each kind")
    options = parser.parse_args()
    try:
        controlnet = load_controlnet(options.controlnet).float()
        table, pictures = measure(
            cascade_in(options.folder), controlnet, options.count, options.cfg, Sampling(),
            lambda line: print(line, file=sys.stderr),
        )  # fmt: skip
    except ValueError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    for name, figures in table.items():
        print(f"{name:>12}  " + "  ".join(f"{what} {value:.3f}" for what, value in figures.items()))
    if options.json:
        options.json.write_text(json.dumps(table, indent=2) + "\n", encoding="utf-8")
    if options.pictures:
        sheet(pictures.movedim(1, -1), options.count).save(options.pictures)
    return 0


if __name__ == "__main__":
    sys.exit(main())
