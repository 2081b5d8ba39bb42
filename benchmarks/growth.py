"""How the time of a step grows with the picture and the batch: ``python3 dev.py bench growth``.

Sides double from 256 pixels until a step takes longer than ``--longest`` seconds or ``--size`` is reached.
The exponent is the slope of log time over log cells between the last two: 1 where a cell costs the same in
every picture, 2 where cells attending to cells cost most.
"""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from comfyui_cascade.benchmarks.contestants import SIZES, stage
from comfyui_cascade.benchmarks.speed import DTYPES, seconds

SMALLEST, LARGEST_BATCH = 256, 16
Row = dict[str, Any]


def exponent(points: Sequence[tuple[float, float]]) -> float | None:
    """Slope of log time over log size between the two largest; None for fewer than two."""
    if len(points) < 2:
        return None
    (size, time), (larger, longer) = sorted(points)[-2:]
    return math.log(longer / time) / math.log(larger / size)


def measure(name: str, options: argparse.Namespace) -> list[Row]:
    """Rows of growing pictures at batch 1, then of growing batches of the smallest."""
    rows: list[Row] = []
    cases = [(SMALLEST * 2**i, 1) for i in range(20) if SMALLEST * 2**i <= options.size]
    batches = [(SMALLEST, 2**i) for i in range(1, 20) if 2**i <= LARGEST_BATCH]
    made = stage(name, SMALLEST, 1, DTYPES[options.dtype], options.device)
    for grown in (cases, batches):
        for pixels, batch in grown:
            call = replace(made, pixels=pixels, batch=batch).ours()
            first = seconds(call, options.device)
            # What took long is not repeated: the first call's extra work is nothing beside it.
            taken = first if first > 2 else min(seconds(call, options.device) for _ in range(3))
            rows.append({"stage": name, "pixels": pixels, "batch": batch, "seconds": taken})
            if taken > options.longest:
                break
    return rows


def exponents(rows: Sequence[Row]) -> dict[str, float | None]:
    """Of one stage's rows: over the cells of a picture, and over the batch."""
    return {
        "cells": exponent([(row["pixels"] ** 2, row["seconds"]) for row in rows if row["batch"] == 1]),
        "batch": exponent([(row["batch"], row["seconds"]) for row in rows if row["pixels"] == SMALLEST]),
    }


def draw(found: dict[str, list[Row]], to: Path) -> None:
    """Time over the side of the picture, as a picture; needs matplotlib."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    figure, axis = plt.subplots(figsize=(6, 4))
    for name, rows in found.items():
        grown = [row for row in rows if row["batch"] == 1]
        axis.plot([r["pixels"] for r in grown], [r["seconds"] for r in grown], marker="o", label=name)
    axis.set(xlabel="side of the picture in pixels", ylabel="seconds of a step")
    axis.set_xscale("log", base=2)
    axis.set_yscale("log", base=2)
    axis.xaxis.set_major_formatter("{x:g}")
    axis.yaxis.set_major_formatter("{x:g}")
    axis.grid(alpha=0.3)
    axis.legend()
    figure.tight_layout()
    figure.savefig(to, dpi=90)


def main() -> None:
    """See above."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n\n")[0])
    parser.add_argument("--stages", nargs="+", choices=list(SIZES), default=["stage_c", "stage_b", "stage_a"])
    parser.add_argument("--size", type=int, default=4096, help="largest side of the picture (%(default)s)")
    parser.add_argument("--longest", type=float, default=10, help="seconds of a step (%(default)s)")
    parser.add_argument("--dtype", choices=list(DTYPES), default="fp32")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--plot", type=Path, help="PNG file for a plot")
    parser.add_argument("--json", action="store_true", help="print rows as JSON instead of a table")
    options = parser.parse_args()
    found: dict[str, list[Row]] = {}
    with torch.inference_mode():
        for name in options.stages:
            found[name] = measure(name, options)
            if not options.json:
                for row in found[name]:
                    print("{stage:<14} {pixels:>6} batch {batch:>3} {seconds:>9.3f} s".format(**row))
                told = {
                    key: "-" if value is None else f"{value:.2f}"
                    for key, value in exponents(found[name]).items()
                }
                print(
                    f"{name:<14} time grows with cells^{told['cells']} and batch^{told['batch']}", flush=True
                )
    if options.plot:
        draw(found, options.plot)
    if options.json:
        each = {name: exponents(rows) for name, rows in found.items()}
        print(
            json.dumps(
                {"rows": [row for rows in found.values() for row in rows], "exponents": each}, indent=1
            )
        )


if __name__ == "__main__":
    main()
