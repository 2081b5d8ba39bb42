"""Train parts of a cascade.

``python -m comfyui_cascade.training small`` trains the small cascade that ships, ``run RECIPE.toml`` any
other part by a file of settings, ``export`` writes a trained small cascade as the files that ship. A run
that was stopped, by a limit of minutes or by force, goes on when the same command is given again.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from pathlib import Path

import torch
from tqdm import tqdm

from ..weights import path as weights_path
from .loop import Run, train
from .parts import task_of
from .settings import read_settings
from .small import STAGES, export, train_small


def say(line: str) -> None:
    """Print a line above the progress bar."""
    tqdm.write(line, file=sys.stderr)


def _small(options: argparse.Namespace) -> None:
    """Train the small cascade from nothing, or go on with it."""
    train_small(STAGES[options.stage], options.base, options.minutes, options.device, say)


def _run(options: argparse.Namespace) -> None:
    """Train one part by a file of settings."""
    settings = read_settings(options.recipe)
    folder = options.base / options.recipe.stem
    run = Run(settings, options.base, folder, options.minutes, options.device, say)
    done = train(run, task_of(settings.part))
    for path in done.files.values():
        say(f"written: {path}")


def _export(options: argparse.Namespace) -> None:
    """Write a trained small cascade in bf16, as it ships."""
    sizes = export(options.base, options.to)
    for part, size in sizes.items():
        say(f"{part.value}: {size / 2**20:.2f} MiB")
    say(f"{sum(sizes.values()) / 2**20:.2f} MiB in {options.to}")


VERBS: dict[str, Callable[[argparse.Namespace], None]] = {"small": _small, "run": _run, "export": _export}


def main() -> int:
    """Read the arguments and do what the verb says; returns the exit status."""
    parser = argparse.ArgumentParser(prog="comfyui_cascade.training", description=__doc__)
    verbs = parser.add_subparsers(dest="verb", required=True)
    for name, verb in VERBS.items():
        one = verbs.add_parser(name, help=verb.__doc__, description=verb.__doc__)
        one.add_argument(
            "--base", type=Path, default=Path("small_cascade"), help="folder of runs and caches (%(default)s)"
        )
        if name != "export":
            one.add_argument("--minutes", type=float, help="stop after so many minutes of training")
            one.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto")
            one.add_argument("--threads", type=int, help="of the CPU (all)")
    verbs.choices["small"].add_argument("--stage", choices=STAGES, default="all")
    verbs.choices["run"].add_argument("recipe", type=Path, help="a TOML file; see training/recipes")
    shipped = weights_path("stage_a").parent
    verbs.choices["export"].add_argument("--to", type=Path, default=shipped, help="folder (%(default)s)")
    options = parser.parse_args()
    if getattr(options, "threads", None):
        torch.set_num_threads(options.threads)
    try:
        VERBS[options.verb](options)
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("stopped; the same command goes on from the last checkpoint", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
