"""Train the small cascade, export it, draw with it and judge it.

``python -m comfyui_cascade.training train --folder DIR`` trains every part, ``export`` writes the files
that ship, ``draw`` makes a sheet of pictures for prompts, ``judge`` measures how often pictures show what
was asked.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from pathlib import Path

import torch

from ..weights import path as weights_path
from .small import PARTS, POOL_PICTURES, Recipe

MINUTES = {"stage_a": 8.0, "semantic": 23.0, "text": 2.5, "stage_b": 54.0, "stage_c": 54.0, "judge": 18.0}
"""Of one core for the shipped weights."""

SHEET_COLUMNS = 4


def say(line: str) -> None:
    """Print a line with the time."""
    print(time.strftime("%H:%M:%S"), line, flush=True)


def train(arguments: argparse.Namespace, recipe: Recipe) -> None:
    """Train the parts asked for, or all."""
    for name in arguments.part or PARTS:
        say(f"{name}: training")
        PARTS[name](recipe)


def export(arguments: argparse.Namespace, recipe: Recipe) -> None:
    """Write the parts that have a checkpoint, as the files that ship."""
    from .export import export as write

    sizes = write(recipe, arguments.weights)
    for part, size in sizes.items():
        say(f"{part}: {size / 2**20:.2f} MiB")
    say(f"{sum(sizes.values()) / 2**20:.2f} MiB in {arguments.weights}")


def draw(arguments: argparse.Namespace, recipe: Recipe) -> None:
    """Draw a sheet of pictures."""
    from .show import draw_prompts, sheet

    pictures = draw_prompts(arguments.weights, arguments.prompt, seed=arguments.seed, cfg=arguments.cfg)
    sheet(pictures, SHEET_COLUMNS).save(arguments.to)
    say(f"{len(pictures)} pictures in {arguments.to}")


def judge(arguments: argparse.Namespace, recipe: Recipe) -> None:
    """Train the judge, or take its checkpoint, and print a table of scores."""
    from .judge import train_judge
    from .scores import scores

    table = scores(train_judge(recipe), arguments.weights, arguments.count, arguments.cfg, arguments.seed)
    names = list(next(iter(table.values())))
    print(f"{'':32}" + "".join(f"{name:>8}" for name in names))
    for case, row in table.items():
        print(f"{case:32}" + "".join(f"{row[name]:8.3f}" for name in names))


VERBS: dict[str, Callable[[argparse.Namespace, Recipe], None]] = {
    "train": train, "export": export, "draw": draw, "judge": judge,
}  # fmt: skip


def main() -> None:
    """Read the arguments and do what the verb says."""
    parser = argparse.ArgumentParser(prog="comfyui_cascade.training", description=__doc__)
    parser.add_argument("verb", nargs="?", choices=VERBS, default="train")
    parser.add_argument(
        "--folder", type=Path, default=Path("small_cascade"), help="checkpoints; a run goes on from them"
    )
    parser.add_argument("--part", action="append", choices=PARTS, help="which parts, in order; default: all")
    parser.add_argument("--minutes", type=float, help="of each part, instead of the recipe's")
    parser.add_argument("--pictures", type=int, default=POOL_PICTURES, help="how many to draw")
    parser.add_argument("--threads", type=int, default=1)
    shipped = weights_path("stage_a").parent
    parser.add_argument(
        "--weights", type=Path, default=shipped, help="exported files; default: those that ship"
    )
    parser.add_argument("--prompt", action="append", default=[], help="what to draw; may be given again")
    parser.add_argument("--to", type=Path, default=Path("sheet.png"), help="where to draw")
    parser.add_argument("--count", type=int, default=64, help="pictures to judge in each case")
    parser.add_argument("--seed", type=int, default=0, help="of drawing")
    parser.add_argument("--cfg", type=float, default=3.0, help="guidance of Stage C")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    torch.manual_seed(0)
    minutes = {name: MINUTES[name] if arguments.minutes is None else arguments.minutes for name in MINUTES}
    recipe = Recipe(arguments.folder, minutes, say, arguments.pictures)
    VERBS[arguments.verb](arguments, recipe)


if __name__ == "__main__":
    main()
