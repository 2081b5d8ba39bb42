"""Train the small cascade: ``python -m comfyui_cascade.training --folder DIR --part stage_a …``."""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import torch

from .small import PARTS, POOL_PICTURES, Recipe

MINUTES = {"stage_a": 9.0, "semantic": 14.0, "text": 3.0, "stage_b": 60.0, "stage_c": 60.0}
"""Of one core for the shipped weights."""


def main() -> None:
    """Read the arguments and train."""
    parser = argparse.ArgumentParser(prog="comfyui_cascade.training", description=__doc__)
    parser.add_argument("--folder", type=Path, required=True, help="checkpoints; a run goes on from them")
    parser.add_argument("--part", action="append", choices=PARTS, help="which parts, in order; default: all")
    parser.add_argument("--minutes", type=float, help="of each part, instead of the recipe's")
    parser.add_argument("--pictures", type=int, default=POOL_PICTURES, help="how many to draw")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--no-compile", action="store_true", help="do without a C++ compiler")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    torch.manual_seed(0)
    minutes = {name: arguments.minutes or MINUTES[name] for name in PARTS}

    def say(line: str) -> None:
        print(time.strftime("%H:%M:%S"), line, flush=True)

    recipe = Recipe(arguments.folder, minutes, say, arguments.pictures, not arguments.no_compile)
    for name in arguments.part or PARTS:
        say(f"{name}: training")
        PARTS[name](recipe)


if __name__ == "__main__":
    main()
