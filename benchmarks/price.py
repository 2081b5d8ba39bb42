"""What approximations cost: ``python3 dev.py bench price``.

The small cascade in ComfyUI, with the nodes' own functions. Everything begins with the same noise, so that
``error`` is the root mean square difference of latents from the first row's, as a share of their spread.

``haste``: Stage C at its own size; ``operations`` are those of the products of the whole run as a share of
the first row's, and ``alignment`` is what the judge of latents finds right. ``tiles``: Stage B at twice its
size; ``seams`` is how much neighbouring pixels differ across the borders of tiles, as a multiple of how much
they do there in the picture drawn whole. ``large``: Stage C at its own size and ``--times`` as large;
``things`` is how many the judge of pictures finds in a picture, and ``count`` the share of pictures with as
many as the prompt asks for.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import torch
from comfyui_cascade.benchmarks.analytic import relative
from comfyui_cascade.benchmarks.drawing import CFG
from comfyui_cascade.benchmarks.hosted import Hosted
from comfyui_cascade.benchmarks.judge import HERE, Judge, load_judge, read, seen_of
from comfyui_cascade.benchmarks.small_cascade import latent_judge_for
from comfyui_cascade.benchmarks.speed import operations
from comfyui_cascade.benchmarks.verdicts import tally, verdict
from comfyui_cascade.checkpoints.identify import Part
from comfyui_cascade.latents.geometry import STAGE_B_COMPRESSION, stage_b_size, stage_c_size
from comfyui_cascade.latents.windows import windows
from comfyui_cascade.samplers.guidance import Guidance
from comfyui_cascade.samplers.schedule import STAGE_C_SHIFT, shift_of_size
from comfyui_cascade.training.picturebook import Scene, draw, fresh_scenes, prompt_of
from comfyui_cascade.training.workspace import to_images
from comfyui_cascade.weights import path as weights_path
from torch import Tensor

OWN = 256
"""Side of the pictures that the small cascade was trained on."""

STEPS_C, STEPS_B = 20, 10
FEWEST_KEYS = 256
OVERLAPS = (0, 64, 128)
"""Pixels."""

Row = dict[str, float]
Say = Callable[[str], None]


def haste(
    small: Hosted, scenes: Sequence[Scene], cfg: float, judge: Judge | None, say: Say
) -> dict[str, Row]:
    """Rows of ways to make Stage C's steps cheaper."""
    host, exact = small.host, small.model(Part.STAGE_C)
    ways = {
        "exact": (exact, Guidance(cfg)),
        "deep blocks every 2nd step": (host.reusing(exact, 2, 0.1, 0.9), Guidance(cfg)),
        "deep blocks every 3rd step": (host.reusing(exact, 3, 0.1, 0.9), Guidance(cfg)),
        "guided from 0.9 to 0.2": (exact, Guidance(cfg, start=0.9, end=0.2)),
        "guided from 1 to 0.5": (exact, Guidance(cfg, end=0.5)),
        **{
            f"weights in {name}": (small.model(Part.STAGE_C, name), Guidance(cfg))
            for name in ("bf16", "fp8_e4m3fn", "fp8_e5m2")
        },
    }
    prompts = [prompt_of(scene) for scene in scenes]
    width, height = stage_c_size(OWN, OWN, small.cascade.parts.compression)
    rows, latents = {}, {}
    for name, (model, guidance) in ways.items():

        def run(name: str = name, model: object = model, guidance: Guidance = guidance) -> Tensor:
            start = torch.zeros(len(prompts), 16, height, width)
            latents[name] = small.draw(model, prompts, start, STEPS_C, guidance=guidance)
            return latents[name]

        row = {"operations": float(operations(run)), "error": relative(latents[name], latents["exact"])}
        if judge is not None:
            pairs = zip(read(judge, latents[name]), scenes, strict=True)
            row["alignment"] = tally([verdict(reading, scene) for reading, scene in pairs]).alignment
        rows[name] = row
        say(name)
    whole = rows["exact"]["operations"]
    return {name: {**row, "operations": row["operations"] / whole} for name, row in rows.items()}


def tiles(small: Hosted, scenes: Sequence[Scene], say: Say) -> dict[str, Row]:
    """Rows of Stage B in tiles of its own size, beside Stage B whole."""
    side, prompts = 2 * OWN, [prompt_of(scene) for scene in scenes]
    true = to_images(torch.stack([torch.tensor(draw(scene, (side, side)).picture) for scene in scenes]))
    prior, model = small.cascade.encode(true), small.model(Part.STAGE_B)
    width, height = stage_b_size(side, side)
    tile = OWN // STAGE_B_COMPRESSION

    def run(model: object) -> Tensor:
        start = torch.zeros(len(scenes), 4, height, width)
        return small.draw(model, prompts, start, STEPS_B, prior=prior)

    def pictures(latents: Tensor) -> Tensor:
        return small.cascade.decode(latents).clamp(0, 1)

    whole = run(model)
    drawn = pictures(whole)
    rows = {"whole": {"error": 0.0, "PSNR": float("inf"), "seams": 1.0}}
    config = small.cascade.parts.config(Part.STAGE_B)
    fold = config.patch_size * 2 ** (len(config.trunk.down) - 1)
    for overlap in OVERLAPS:
        latents = run(small.host.in_windows(model, tile, overlap // STAGE_B_COMPRESSION))
        found = windows(width, tile, overlap // STAGE_B_COMPRESSION, fold)
        borders = {edge * STAGE_B_COMPRESSION for one in found for edge in (one.start, one.stop)}
        inside = sorted(borders - {0, side})
        tiled = pictures(latents)
        rows[f"tiles of {OWN}, overlap {overlap}"] = {
            "error": relative(latents, whole),
            "PSNR": -10 * (tiled - drawn).square().mean().log10().item(),
            "seams": jumps(tiled, inside) / jumps(drawn, inside),
        }
        say(f"overlap {overlap}")
    return rows


def jumps(pictures: Tensor, places: Sequence[int]) -> float:
    """Mean difference of the pixels on both sides of some columns, and of the same rows."""
    after = torch.tensor(places)
    both = [
        (pictures.index_select(axis, after) - pictures.index_select(axis, after - 1)) for axis in (-1, -2)
    ]
    return sum(change.abs().mean().item() for change in both) / 2


def large(
    small: Hosted, scenes: Sequence[Scene], cfg: float, judge: Judge, larger: Sequence[int], say: Say
) -> dict[str, Row]:
    """Rows of ways to draw pictures that are some times as large as those of training."""
    host, exact, stage_b = small.host, small.model(Part.STAGE_C), small.model(Part.STAGE_B)
    prompts = [prompt_of(scene) for scene in scenes]

    def stage_c(model: object, side: int) -> Tensor:
        width, height = stage_c_size(side, side, small.cascade.parts.compression)
        return small.draw(model, prompts, torch.zeros(len(prompts), 16, height, width), STEPS_C, cfg=cfg)

    def picture(part: slice, latents: Tensor, side: int) -> Tensor:
        width, height = stage_b_size(side, side)
        start, own = torch.zeros(len(prompts[part]), 4, height, width), latents[part]
        made = small.draw(stage_b, prompts[part], start, 5, "UniPC", "beta", prior=own)
        return seen_of(small.cascade.decode(made).clamp(0, 1))

    guide = stage_c(exact, OWN)
    cells = guide.shape[-1]
    rows = {}
    for times in (1, *larger):
        side = times * OWN
        shifted = host.with_schedule(exact, shift_of_size(STAGE_C_SHIFT, (times * cells,) * 2, cells), False)
        ways = {"plain": exact}
        if times > 1:
            ways |= {
                "shift by size": shifted,
                "guided": host.with_large_forms(exact, guide, 1.0, 0.6),
                "guided, shift by size": host.with_large_forms(shifted, guide, 1.0, 0.6),
            }
        if (times * cells) ** 2 > FEWEST_KEYS:
            ways["fewer keys"] = host.with_fewer_keys(exact, FEWEST_KEYS)
        plain = None
        for name, model in ways.items():
            latents = stage_c(model, side)
            plain = latents if plain is None else plain
            each = 8 // times**2 or 1
            seen = torch.cat([
                picture(slice(start, start + each), latents, side)
                for start in range(0, len(scenes), each)
            ])  # fmt: skip
            readings = read(judge, seen)
            told = tally([verdict(*pair) for pair in zip(readings, scenes, strict=True)])
            rows[f"{side} pixels, {name}"] = {
                "error": relative(latents, plain),
                "things": sum(len(reading.things) for reading in readings) / len(readings),
                "asked": sum(group.count for scene in scenes for group in scene.groups) / len(scenes),
                "count": told.shares["count"],
                "alignment": told.alignment,
            }
            say(f"{side} pixels, {name}")
    return rows


def table(rows: Mapping[str, Row]) -> str:
    """For people."""
    figures = list(dict.fromkeys(name for row in rows.values() for name in row))
    width = max(map(len, rows))
    lines = [" " * width + "".join(f"{name:>12}" for name in figures)]
    for name, row in rows.items():
        cells = (f"{row[figure]:12.3f}" if figure in row else f"{'-':>12}" for figure in figures)
        lines.append(name.ljust(width) + "".join(cells))
    return "\n".join(lines)


CASES = ("haste", "tiles", "large")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="dev.py bench price", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    shipped = weights_path("stage_a").parent
    parser.add_argument("--cases", nargs="+", choices=CASES, default=CASES, help="(all)")
    parser.add_argument(
        "--n", type=int, default=16, help="pictures in `haste`, four times as many as elsewhere (%(default)s)"
    )
    parser.add_argument("--times", type=int, nargs="+", default=[2], help="sizes in `large` (%(default)s)")
    parser.add_argument("--cfg", type=float, default=CFG, help="guidance of Stage C (%(default)s)")
    parser.add_argument("--weights", type=Path, default=shipped, help="folder of the parts (%(default)s)")
    parser.add_argument("--judges", type=Path, default=HERE, help="folder of the judges (%(default)s)")
    parser.add_argument("--threads", type=int, help="of the CPU (all)")
    parser.add_argument("--json", action="store_true", help="print JSON")
    return parser


def main(arguments: list[str] | None = None) -> int:
    """Measure and print; returns the exit status."""

    def say(line: str) -> None:
        print(line, file=sys.stderr, flush=True)

    options = _parser().parse_args(arguments)
    if options.threads:
        torch.set_num_threads(options.threads)
    small, scenes = Hosted(options.weights), fresh_scenes(options.n)
    found = {}
    try:
        if "haste" in options.cases:
            judge = latent_judge_for(small.cascade, options.judges / "latent_judge.safetensors", say)
            found["haste"] = haste(small, scenes, options.cfg, judge, say)
        few = scenes[: max(1, options.n // 4)]
        if "tiles" in options.cases:
            found["tiles"] = tiles(small, few, say)
        if "large" in options.cases:
            judge, _ = load_judge(options.judges / "judge.safetensors")
            found["large"] = large(small, few, options.cfg, judge, options.times, say)
    except ValueError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    if options.json:
        print(json.dumps(found, indent=2))
        return 0
    print("\n\n".join(f"{case}\n{table(rows)}" for case, rows in found.items()))
    return 0


if __name__ == "__main__":
    sys.exit(main())
