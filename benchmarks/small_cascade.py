"""Measure the small cascade with the judges: ``python3 dev.py eval small``.

Each prompt says everything about its scene that a judge can check; the table gives the share of pictures
that show each attribute of those that their prompts assert. ``--grid`` draws pictures of the prompts below
instead, one seed each, for people to judge.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import platform
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from comfyui_cascade.benchmarks.drawing import CFG, SAMPLERS, Sampling, cascade_in, decode, draw_latents
from comfyui_cascade.benchmarks.evaluation import Diversity, Evaluation, Likeness
from comfyui_cascade.benchmarks.judge import HERE, Judge, digest_of, load_judge
from comfyui_cascade.benchmarks.verdicts import ATTRIBUTES, Tally
from comfyui_cascade.checkpoints.identify import Part
from comfyui_cascade.pipeline import Cascade
from comfyui_cascade.pipeline.settings import SCHEDULERS
from comfyui_cascade.weights import path as weights_path
from PIL import Image, ImageDraw, ImageFont

PROMPTS = (
    "a red house on the grass by day under a clear sky",
    "two yellow stars over the sea at night",
    "a crayon drawing of a green tree on the snow with snow falling",
    "a big purple whale on the sea at sunset",
    "three pink flowers in a meadow",
    "a small orange cat on the left on the beach at sunset",
    "a white rabbit to the left of a red mushroom on the grass",
    "a blue bird above a brown house in the snow",
    "a black car on the right in the rain",
    "a yellow duck on the water by day",
    "a crayon drawing of a red boat on the sea at night under a clear sky",
    "a purple rocket over the desert at night",
    "a flat picture of a blue robot in the middle on the sand by day",
    "two green apples on the grass",
    "a pink castle on a lawn at dusk with clouds",
    "a crayon picture of an orange kite above a blue tent on the sand",
)
"""Of the grid; picture i is drawn with seed i. The orange cat is a pair that training never showed."""

GRID_COLUMNS = 4
CAPTION = 44
"""Pixels under a picture of the grid for its prompt."""

Say = Callable[[str], None]


def latent_judge_for(cascade: Cascade, path: Path, say: Say) -> Judge | None:
    """The judge of latents, if it was trained for this cascade's semantic encoder."""
    try:
        judge, metadata = load_judge(path)
    except ValueError as error:
        say(f"Stage C is not judged alone: {error}")
        return None
    mine = digest_of(cascade.parts.network(Part.SEMANTIC_ENCODER))
    its = metadata.get("cascade.semantic_encoder")
    if mine != its:
        say(
            f"Stage C is not judged alone: {path.name} was trained for the semantic encoder {its}, and this "
            f"one is {mine}; train it anew with python -m comfyui_cascade.benchmarks.training latent_judge"
        )
        return None
    return judge


def report(evaluation: Evaluation, only: str) -> dict[str, Any]:
    """Everything measured, as plain values.

    Args:
        evaluation: the measurements.
        only: part of the names of the rows to measure; with one, figures beside the table are left out.

    Raises:
        ValueError: no row has such a name.
    """
    start, every = time.perf_counter(), evaluation.rows()
    rows = {name: measure() for name, measure in every.items() if only in name}
    if not rows:
        raise ValueError(f"no row's name holds {only!r}; the rows are {', '.join(every)}")
    found: dict[str, Any] = {
        "pictures": evaluation.count,
        "cfg": evaluation.cfg,
        "sampling": dataclasses.asdict(evaluation.sampling),
        "machine": f"{platform.processor() or platform.machine()}, {torch.get_num_threads()} threads",
        "torch": torch.__version__,
        "unknown_words": evaluation.unknown_words(),
        "rows": {name: dataclasses.asdict(row) for name, row in rows.items()},
    }
    if not only:
        found |= {
            "stage_a": dataclasses.asdict(evaluation.likeness(evaluation.round_trip)),
            "stage_b_and_a": dataclasses.asdict(evaluation.likeness(evaluation.redrawn)),
            "diversity": dataclasses.asdict(evaluation.diversity()),
            "seconds_a_picture": evaluation.seconds(),
        }
    return {**found, "minutes": (time.perf_counter() - start) / 60}


def table(found: Mapping[str, Any]) -> str:
    """What was measured, for people: percentages, a dash where no prompt asserts the attribute."""
    rows = {name: Tally(**row) for name, row in found["rows"].items()}
    width = max(map(len, rows))
    heads = [*ATTRIBUTES, "alignment", "all right"]
    lines = [" " * width + "".join(f"  {head}" for head in heads)]
    for name, row in rows.items():
        values = [*(row.shares.get(attribute) for attribute in ATTRIBUTES), row.alignment, row.all_right]
        cells = (
            f"{'-' if value is None else format(100 * value, '.1f'):>{len(head) + 2}}"
            for head, value in zip(heads, values, strict=True)
        )
        lines.append(name.ljust(width) + "".join(cells))
    lines += ["", f"Percent of {found['pictures']} pictures a row. " + _settings(found)]
    if found["unknown_words"]:
        lines.append(f"The text encoder knows no word for {', '.join(found['unknown_words'])}.")
    if "stage_a" in found:
        lines += _figures(found)
    return "\n".join(lines)


def _settings(found: Mapping[str, Any]) -> str:
    sampling = Sampling(**found["sampling"])
    width, height = sampling.size
    return (
        f"{sampling.steps_c} steps of {sampling.sampler_c}, {sampling.spacing_c} + {sampling.steps_b} of "
        f"{sampling.sampler_b}, {sampling.spacing_b}, {width}x{height} pixels, seed {sampling.seed}, "
        f"torch {found['torch']}, {found['machine']}."
    )


def _figures(found: Mapping[str, Any]) -> list[str]:
    lines = []
    for name, key in (("Stage A there and back", "stage_a"), ("B and A from true latents", "stage_b_and_a")):
        like = Likeness(**found[key])
        several = "" if like.ms_ssim is None else f", MS-SSIM {like.ms_ssim:.4f}"
        lines.append(
            f"{name}: PSNR {like.psnr:.2f} dB, SSIM {like.ssim:.4f}{several}, judge's features "
            f"{like.feature_distance:.4f} apart"
        )
    diversity = Diversity(**found["diversity"])
    for place, what in enumerate(("pixels (RMS)", "judge's features")):
        drawn, same, other = (
            getattr(diversity, name)[place] for name in ("drawn", "true_same", "true_other")
        )
        lines.append(
            f"Diversity in {what}: seeds of one prompt {drawn:.3f} apart; true pictures of one prompt "
            f"{same:.3f}, of different prompts {other:.3f}"
        )
    lines.append(f"One picture alone, guided: {found['seconds_a_picture']:.2f} s")
    return lines


def grid(cascade: Cascade, cfg: float, sampling: Sampling, say: Say) -> Image.Image:
    """The pictures of ``PROMPTS``, each with its prompt below, none left out."""
    width, height = sampling.size
    rows = -(-len(PROMPTS) // GRID_COLUMNS)
    page = Image.new("RGB", (GRID_COLUMNS * width, rows * (height + CAPTION)), "white")
    canvas, font = ImageDraw.Draw(page), ImageFont.load_default(13)
    for seed, prompt in enumerate(PROMPTS):
        one = replace(sampling, seed=seed)
        drawn = decode(cascade, draw_latents(cascade, [prompt], cfg, one), [prompt], one)[0]
        x, y = seed % GRID_COLUMNS * width, seed // GRID_COLUMNS * (height + CAPTION)
        page.paste(Image.fromarray(drawn.movedim(0, -1).mul(255).round().byte().numpy()), (x, y))
        canvas.multiline_text(
            (x + 4, y + height + 4), _wrapped(f"{seed}: {prompt}", font, width - 8), "black", font, spacing=3
        )
        say(f"grid: {seed + 1} of {len(PROMPTS)}")
    return page


def _wrapped(text: str, font: Any, width: int) -> str:
    lines = [""]
    for word in text.split():
        longer = f"{lines[-1]} {word}".strip()
        if font.getlength(longer) <= width:
            lines[-1] = longer
        else:
            lines.append(word)
    return "\n".join(lines)


def _size(text: str) -> tuple[int, int]:
    width, _, height = text.partition("x")
    if not (width.isdigit() and height.isdigit()) or int(width) % 8 or int(height) % 8:
        raise argparse.ArgumentTypeError(f"{text!r} is no size; give width x height in eights, as 256x256")
    return int(width), int(height)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="dev.py eval small", description=__doc__)
    parser.add_argument("--n", type=int, default=48, help="pictures in each row (%(default)s)")
    parser.add_argument("--json", action="store_true", help="print JSON")
    shipped = weights_path("stage_a").parent
    parser.add_argument("--weights", type=Path, default=shipped, help="folder of the parts (%(default)s)")
    parser.add_argument("--judges", type=Path, default=HERE, help="folder of the judges (%(default)s)")
    parser.add_argument("--cfg", type=float, default=CFG, help="guidance (%(default)s)")
    parser.add_argument("--steps-c", type=int, default=20, help="steps of Stage C (%(default)s)")
    parser.add_argument("--steps-b", type=int, default=10, help="steps of Stage B (%(default)s)")
    for stage in "cb":
        of = f"of Stage {stage.upper()} (%(default)s)"
        parser.add_argument(f"--sampler-{stage}", choices=SAMPLERS, default="ddim", help=of)
        parser.add_argument(f"--spacing-{stage}", choices=SCHEDULERS, default="cosine", help=of)
    parser.add_argument("--size", type=_size, default=(256, 256), metavar="WxH", help="pixels (256x256)")
    parser.add_argument("--seed", type=int, default=0, help="of the noise (%(default)s)")
    parser.add_argument("--only", default="", metavar="WORDS", help="measure only rows whose name holds this")
    parser.add_argument("--threads", type=int, help="of the CPU (all)")
    parser.add_argument("--grid", type=Path, metavar="FILE.png", help="draw the listed prompts instead")
    return parser


def main(arguments: list[str] | None = None) -> int:
    """Measure or draw; returns the exit status."""

    def say(line: str) -> None:
        print(line, file=sys.stderr, flush=True)

    options = _parser().parse_args(arguments)
    if options.threads:
        torch.set_num_threads(options.threads)
    sampling = Sampling(
        options.steps_c, options.steps_b, options.sampler_b, options.size, options.seed, options.sampler_c,
        options.spacing_c, options.spacing_b,
    )  # fmt: skip
    try:
        cascade = cascade_in(options.weights)
        if options.grid:
            grid(cascade, options.cfg, sampling, say).save(options.grid)
            print(*(f"{seed}: {prompt}" for seed, prompt in enumerate(PROMPTS)), sep="\n")
            return 0
        judge, _ = load_judge(options.judges / "judge.safetensors")
        latent_judge = latent_judge_for(cascade, options.judges / "latent_judge.safetensors", say)
        evaluation = Evaluation(cascade, judge, latent_judge, options.n, options.cfg, sampling, say)
        found = report(evaluation, options.only)
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print(json.dumps(found, indent=2) if options.json else table(found))
    return 0


if __name__ == "__main__":
    sys.exit(main())
