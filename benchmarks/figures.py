"""The figures of docs/method.md, drawn by the cascade that ships: a part of ``python3 dev.py pictures``."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import matplotlib as mpl
import torch
from comfyui_cascade.benchmarks.drawing import CFG, Sampling, cascade_in, decode, draw_latents
from comfyui_cascade.checkpoints.identify import Part
from comfyui_cascade.pipeline import Cascade
from comfyui_cascade.samplers.schedule import logsnr_of_time
from comfyui_cascade.stage_a.model import STAGE_B_SCALE
from comfyui_cascade.weights import path as weights_path
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor
from torch.nn import functional

mpl.use("Agg")
from matplotlib import pyplot as plt

PROMPT = "a red boat on the sea at sunset"
SEED = 1
SHOWN_C, SHOWN_B = (1, 2, 4, 8, 13, 20), (1, 2, 3, 5, 7, 10)
"""Steps whose estimates are shown, of 20 and of 10."""

SIDE, LABEL = 192, 20
"""Pixels of a picture in a figure, and under it for its words."""


def previewed(latents: Tensor, rows: Sequence[Sequence[float]], bias: Sequence[float]) -> Tensor:
    """Latents ``1 c h w`` as colours ``1 3 h w``, by the linear map in a file's metadata."""
    return torch.einsum("bchw,cd->bdhw", latents, torch.tensor(rows)) + torch.tensor(bias).view(1, 3, 1, 1)


def sheet(rows: Sequence[Sequence[tuple[str, Tensor]]]) -> Image.Image:
    """Labelled pictures ``1 3 h w`` in [0, 1], in rows; small ones are enlarged with their cells kept."""
    page = Image.new("RGB", (SIDE * max(map(len, rows)), (SIDE + LABEL) * len(rows)), "white")
    canvas, font = ImageDraw.Draw(page), ImageFont.load_default(12)
    for row, pictures in enumerate(rows):
        for column, (label, picture) in enumerate(pictures):
            pixels = functional.interpolate(picture, (SIDE, SIDE), mode="nearest")[0].clamp(0, 1)
            place = (column * SIDE, row * (SIDE + LABEL))
            page.paste(Image.fromarray(pixels.movedim(0, -1).mul(255).round().byte().numpy()), place)
            canvas.text((place[0] + 4, place[1] + SIDE + 2), label, "black", font)
    return page


def draw_schedule(path: Path) -> None:
    """LogSNR over time, for both shifts."""
    times = torch.linspace(0, 1, 400)
    figure, axis = plt.subplots(figsize=(6, 3.2))
    for shift, name in ((1.0, "shift 1: training, and Stage B"), (2.0, "shift 2: Stage C")):
        axis.plot(times, logsnr_of_time(times, shift), label=name)
    axis.set(xlabel="time t (1 is noise)", ylabel="logSNR")
    axis.grid(alpha=0.3)
    axis.legend()
    figure.tight_layout()
    figure.savefig(path, dpi=90)


@torch.inference_mode()
def draw_run(cascade: Cascade, folder: Path) -> None:
    """One picture, stage by stage and step by step."""
    sampling = Sampling(seed=SEED)
    estimates_c: list[Tensor] = []
    estimates_b: list[Tensor] = []
    semantic = draw_latents(cascade, [PROMPT], CFG, sampling, lambda *told: estimates_c.append(told[-1]))
    picture = decode(cascade, semantic, [PROMPT], sampling, lambda *told: estimates_b.append(told[-1]))
    colours = [cascade.parts.recorded(part).latent_rgb for part in (Part.STAGE_C, Part.STAGE_B)]
    latents = (semantic, estimates_b[-1] / STAGE_B_SCALE)
    cells = [previewed(z, c.factors, c.bias) / 2 + 0.5 for z, c in zip(latents, colours, strict=True)]
    stages = [
        (f"Stage C: 16 x {semantic.shape[-2]} x {semantic.shape[-1]}", cells[0]),
        ("its preview", cascade.preview(semantic)),
        (f"Stage B: 4 x {cells[1].shape[-2]} x {cells[1].shape[-1]}", cells[1]),
        (f"Stage A: 3 x {picture.shape[-2]} x {picture.shape[-1]}", picture),
    ]
    sheet([stages]).save(folder / "stages.png")
    steps = [
        [(f"Stage C, step {n}", cascade.preview(estimates_c[n - 1])) for n in SHOWN_C],
        [(f"Stage B, step {n}", cascade.decode(estimates_b[n - 1])) for n in SHOWN_B],
    ]
    sheet(steps).save(folder / "steps.png")


def main() -> None:
    """Read the arguments and draw."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("folder", type=Path, help="where the figures go")
    parser.add_argument("--weights", type=Path, default=weights_path("stage_a").parent, help="of the cascade")
    options = parser.parse_args()
    options.folder.mkdir(parents=True, exist_ok=True)
    draw_schedule(options.folder / "schedule.png")
    draw_run(cascade_in(options.weights), options.folder)


if __name__ == "__main__":
    main()
