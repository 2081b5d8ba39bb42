"""Loss curves of training runs, from their TensorBoard logs, as one picture.

    python benchmarks/curves.py small_cascade docs/small_cascade_curves.png

Needs matplotlib and tensorboard; both are in the extra ``training``.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import matplotlib as mpl
import numpy as np

mpl.use("Agg")
from matplotlib import pyplot as plt
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

SMOOTHED = 15
"""Logged values that the drawn line averages."""


def losses(folder: Path) -> tuple[np.ndarray, np.ndarray]:
    """Steps and losses of a run; of steps that were taken twice, after a stop, the later ones."""
    found: dict[int, float] = {}
    for file in sorted(folder.glob("**/events.out.tfevents.*"), key=lambda path: path.stat().st_mtime):
        log = EventAccumulator(str(file), size_guidance={"scalars": 0}).Reload()
        if "loss" in log.Tags()["scalars"]:
            found.update((event.step, event.value) for event in log.Scalars("loss"))
    steps = np.array(sorted(found))
    return steps, np.array([found[step] for step in steps])


def smoothed(values: np.ndarray) -> np.ndarray:
    """A running mean of ``SMOOTHED`` values, shorter at the ends."""
    window = np.ones(min(SMOOTHED, len(values)))
    return np.convolve(values, window, "same") / np.convolve(np.ones(len(values)), window, "same")


def draw(base: Path, to: Path) -> list[str]:
    """Draw the curve of every run in ``base``; returns the runs' names."""
    runs = {log.parent.name: losses(log) for log in sorted(base.glob("*/log"))}
    runs = {name: curve for name, curve in runs.items() if len(curve[0])}
    columns = min(3, len(runs))
    rows = -(-len(runs) // columns)
    figure, axes = plt.subplots(rows, columns, figsize=(4 * columns, 2.8 * rows), squeeze=False)
    for axis in axes.flat[len(runs) :]:
        axis.axis("off")
    for axis, (name, (steps, values)) in zip(axes.flat, runs.items(), strict=False):
        axis.plot(steps, values, color="0.85", linewidth=0.8)
        axis.plot(steps, smoothed(values), color="tab:blue")
        axis.set(title=name, xlabel="step", ylabel="loss", yscale="log")
        axis.grid(alpha=0.3, which="both")
    figure.tight_layout()
    to.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(to, dpi=90)
    return list(runs)


def main() -> None:
    """Read the arguments and draw."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("base", type=Path, help="folder of the runs")
    parser.add_argument("to", type=Path, help="PNG file")
    options = parser.parse_args()
    print(*draw(options.base, options.to), sep="\n")


if __name__ == "__main__":
    main()
