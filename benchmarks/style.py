"""How much of a style a LoRA brings: ``python3 dev.py bench style --lora FILE``.

The same prompts are drawn from the same noise with more and more of the LoRA, and compared with true pictures
of other scenes in the style. No judge takes part. Two distances, to the style and, as its opposite, to
pictures without it:

- palette: how far colours would have to move, as a share of black to white;
- gram: how different the correlations of the semantic encoder's features are, which know strokes and edges.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable
from pathlib import Path

import torch
from comfyui_cascade.benchmarks.drawing import CFG, Sampling, cascade_in, decode, draw_latents, in_parts
from comfyui_cascade.checkpoints.identify import Part
from comfyui_cascade.pipeline import Cascade
from comfyui_cascade.training.loop import sheet
from comfyui_cascade.training.picturebook import draw, fresh_scenes, prompt_of
from comfyui_cascade.training.picturebook.styles import STYLES
from comfyui_cascade.training.workspace import to_images
from comfyui_cascade.weights import path as weights_path
from torch import Tensor, nn

DIRECTIONS = 16
"""Along which colours are compared."""

QUANTILES = 256


def palette_distance(pictures: Tensor, references: Tensor) -> float:
    """Sliced Wasserstein distance of the colours of two sets of pictures ``b 3 h w`` in [0, 1].

    0 for equal palettes, whatever is where; 1 between black and white. Source: Rabin et al. 2011,
    "Wasserstein barycenter and its application to texture mixing".
    """
    directions = torch.randn(3, DIRECTIONS, generator=torch.Generator().manual_seed(0)).abs()
    directions = directions / directions.sum(dim=0)  # from black to white each is 1 long
    places = torch.linspace(0, 1, QUANTILES)

    def along(images: Tensor) -> Tensor:
        colours = images.float().movedim(1, -1).reshape(-1, 3) @ directions
        ordered = colours.sort(dim=0).values
        return ordered[(places * (len(ordered) - 1)).long()]

    return (along(pictures) - along(references)).abs().mean().item()


@torch.inference_mode()
def gram_distance(encoder: nn.Module, pictures: Tensor, references: Tensor) -> float:
    """Relative distance of the mean Gram matrices of two sets of pictures, over a network's first layers.

    Args:
        encoder: whose ``backbone`` is a sequence of layers.
        pictures, references: ``b 3 h w`` in [0, 1].

    Returns:
        0 for equal ones, about 1 for those that have nothing in common. Source: Gatys et al. 2016, "Image
        style transfer using convolutional neural networks", equations 3 to 5.
    """
    ours, theirs = (_grams(encoder, images) for images in (pictures, references))
    apart = [(a - b).norm() / torch.sqrt(a.norm() * b.norm()) for a, b in zip(ours, theirs, strict=True)]
    return torch.stack(apart).mean().item()


def _grams(encoder: nn.Module, images: Tensor) -> list[Tensor]:
    kept: list[Tensor] = []
    layers = list(encoder.backbone.children())[: max(2, len(encoder.backbone) // 2)]
    hooks = [
        layer.register_forward_hook(lambda module, inputs, output: kept.append(output)) for layer in layers
    ]
    try:
        encoder(images)
    finally:
        for hook in hooks:
            hook.remove()
    flat = (features.float().flatten(2) for features in kept)
    return [(f @ f.transpose(1, 2) / f.shape[-1]).mean(dim=0) for f in flat]


Row = dict[str, float]


def measure(
    weights: Path, lora: Path, style: str, strengths: list[float], count: int, cfg: float,
    say: Callable[[str], None],
) -> tuple[list[Row], Tensor]:  # fmt: skip
    """Distances at each strength, and the pictures of all, strength by strength."""
    scenes = fresh_scenes(2 * count)
    drawn, others = scenes[:count], scenes[count:]
    prompts, sampling = [prompt_of(scene) for scene in drawn], Sampling()
    plain = [draw(scene, sampling.size).picture for scene in others]
    true = {
        name: torch.stack([to_images(torch.from_numpy(change(picture).copy())) for picture in plain])
        for name, change in (("style", STYLES[style]), ("plain", lambda picture: picture))
    }
    rows, pictures = [], []
    for strength in strengths:
        cascade = cascade_in(weights, [(lora, strength)])

        def made(part: slice, cascade: Cascade = cascade) -> Tensor:
            latents = draw_latents(cascade, prompts[part], cfg, sampling)
            return decode(cascade, latents, prompts[part], sampling)

        images = in_parts(made, count, lambda done, strength=strength: say(f"strength {strength}: {done}"))
        row, encoder = {"strength": strength}, cascade.parts.network(Part.SEMANTIC_ENCODER)
        for name, reference in true.items():
            row[f"palette to {name}"] = palette_distance(images, reference)
            row[f"gram to {name}"] = gram_distance(encoder, images, reference)
        rows.append(row)
        pictures.append(images)
    return rows, torch.cat(pictures)


def main(arguments: list[str] | None = None) -> int:
    """Measure and print; returns the exit status."""
    parser = argparse.ArgumentParser(
        prog="dev.py bench style", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    shipped = weights_path("stage_a").parent
    parser.add_argument(
        "--lora", type=Path, default=shipped / "lora_cyanotype.safetensors", help="(%(default)s)"
    )
    parser.add_argument("--style", choices=STYLES, default="cyanotype", help="it should bring (%(default)s)")
    parser.add_argument("--weights", type=Path, default=shipped, help="folder of the parts (%(default)s)")
    parser.add_argument("--strengths", nargs="+", type=float, default=[0.0, 0.5, 1.0], help="(%(default)s)")
    parser.add_argument("--n", type=int, default=16, help="pictures (%(default)s)")
    parser.add_argument("--cfg", type=float, default=CFG, help="guidance of Stage C (%(default)s)")
    parser.add_argument("--sheet", type=Path, metavar="FILE.png", help="write the pictures, a row a strength")
    parser.add_argument("--json", action="store_true", help="print JSON")
    options = parser.parse_args(arguments)

    def say(line: str) -> None:
        print(line, file=sys.stderr, flush=True)

    rows, pictures = measure(
        options.weights, options.lora, options.style, options.strengths, options.n, options.cfg, say
    )
    if options.sheet:
        sheet(pictures.movedim(1, -1), options.n).save(options.sheet)
    if options.json:
        print(json.dumps(rows, indent=2))
        return 0
    print("  ".join(f"{name:>16}" for name in rows[0]))
    for row in rows:
        print("  ".join(f"{value:16.4f}" for value in row.values()))
    return 0


if __name__ == "__main__":
    sys.exit(main())
