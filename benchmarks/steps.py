"""How exact each solver is with each spacing of few steps: ``python3 dev.py bench steps``.

Cases: ``gaussian`` and ``mixture`` have a clean estimate in closed form; ``stage_c`` and ``stage_b`` are the
small cascade, with guidance as it ships. Columns are evaluations of the network, not steps: Heun's count
twice.

Errors are shares of the data's spread. ``gaussian`` is the exact distance of what a solver draws from the
data. The others compare with 1,000 steps of DPM++ from the same noise, which only means something for solvers
that add none. For the others ``mixture`` has the distance from true data and ``stage_c`` the judge's
alignment.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from comfyui_cascade.benchmarks.analytic import Gaussian, Mixture, relative
from comfyui_cascade.benchmarks.drawing import CFG
from comfyui_cascade.benchmarks.drawn_steps import DrawnB, DrawnC
from comfyui_cascade.benchmarks.judge import HERE
from comfyui_cascade.samplers.schedule import STAGE_B_SHIFT, STAGE_C_SHIFT
from comfyui_cascade.samplers.solvers import EVALUATIONS, RANDOM, SOLVERS, Solver
from comfyui_cascade.samplers.spacing import SPACINGS, exponential
from comfyui_cascade.weights import path as weights_path
from torch import Tensor

EXACT_STEPS = 1000
STEPS = (2, 3, 4, 5, 6, 8, 10, 15, 20, 30, 50)
COMPARED = [name for name in SOLVERS if name != "DDPM of diffusers"]
SPACED = [name for name in SPACINGS if name not in ("simple", "lcm")]
"""Without one that is all but equal to another, and one that is for a distilled Stage C."""

CASES = ("gaussian", "mixture", "stage_c", "stage_b")
Say = Callable[[str], None]
Row = dict[str, Any]


def steps_for(solver: str, evaluations: int) -> int:
    """Steps that a solver takes with so many evaluations; the last step of each takes one."""
    each = EVALUATIONS.get(solver, 1)
    return (evaluations - 1) // each + 1


def levels(spacing: str, solver: str, evaluations: int, shift: float) -> Tensor:
    """The noise levels of a run."""
    return SPACINGS[spacing](steps_for(solver, evaluations), shift, 1.0, 0.0)


def gaussian(evaluations: Sequence[int], measure: Callable) -> list[Row]:
    """Rows of Gaussian data."""
    data = Gaussian.like_pictures()
    return measure(
        evaluations, STAGE_C_SHIFT, lambda name, solver, sigmas: {"error": data.error(solver, sigmas)}
    )


def mixture(evaluations: Sequence[int], measure: Callable) -> list[Row]:
    """Rows of data that fall into kinds."""
    data = Mixture()
    exact = data.draw(SOLVERS["DPM++ 3M"], exponential(EXACT_STEPS, STAGE_C_SHIFT))

    def found(name: str, solver: Solver, sigmas: Tensor) -> dict[str, float]:
        drawn = data.draw(solver, sigmas)
        path = {} if name in RANDOM else {"error": relative(drawn, exact)}
        return {**path, "distance": data.distance(drawn)}

    return measure(evaluations, STAGE_C_SHIFT, found)


def measured(solvers: Sequence[str], spacings: Sequence[str], say: Say) -> Callable:
    """What goes through solvers, spacings and evaluations, and asks for the figures of each."""

    def measure(evaluations: Sequence[int], shift: float, found: Callable) -> list[Row]:
        rows = []
        for solver in solvers:
            for spacing in spacings:
                by = {
                    n: found(solver, SOLVERS[solver], levels(spacing, solver, n, shift)) for n in evaluations
                }
                rows.append({"solver": solver, "spacing": spacing, "evaluations": by})
                say(f"{solver}, {spacing}")
        return rows

    return measure


def table(rows: Sequence[Row], figure: str) -> str:
    """One figure of the rows, for people."""
    counts = list(rows[0]["evaluations"])
    lines = [f"{'':14}{'':13}" + "".join(f"{count:>8}" for count in counts)]
    for row in rows:
        values = [row["evaluations"][count].get(figure) for count in counts]
        if any(value is not None for value in values):
            cells = "".join("       -" if value is None else f"{value:8.4f}" for value in values)
            lines.append(f"{row['solver']:14}{row['spacing']:13}{cells}")
    return "\n".join(lines)


def plot(found: dict[str, list[Row]], path: Path) -> None:
    """Draw the best spacing of each solver, a panel for each case."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(1, len(found), figsize=(5 * len(found), 4), squeeze=False)
    for axis, (case, rows) in zip(axes.flat, found.items(), strict=True):
        for solver in COMPARED:
            own = [row for row in rows if row["solver"] == solver]
            if not own or any("error" not in value for value in own[0]["evaluations"].values()):
                continue
            best = min(own, key=lambda row: sum(value["error"] for value in row["evaluations"].values()))
            errors = {count: value["error"] for count, value in best["evaluations"].items()}
            axis.plot(list(errors), list(errors.values()), marker=".", label=f"{solver}, {best['spacing']}")
        axis.set(title=case, xlabel="evaluations", ylabel="error", xscale="log", yscale="log")
        counts = list(rows[0]["evaluations"])
        axis.set_xticks(counts, map(str, counts))
        axis.minorticks_off()
        axis.grid(alpha=0.3, which="both")
        axis.legend(fontsize=7)
    figure.tight_layout()
    figure.savefig(path, dpi=90)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="dev.py bench steps", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument("--cases", nargs="+", choices=CASES, default=CASES, help="(all)")
    parser.add_argument("--solvers", nargs="+", choices=COMPARED, default=COMPARED, help="(all)")
    parser.add_argument("--spacings", nargs="+", choices=list(SPACINGS), default=SPACED, help="(%(default)s)")
    parser.add_argument("--evaluations", nargs="+", type=int, default=STEPS, help="(%(default)s)")
    parser.add_argument("--n", type=int, default=32, help="pictures of the small cascade (%(default)s)")
    parser.add_argument(
        "--exact-steps", type=int, default=EXACT_STEPS, help="of the small cascade's best path (%(default)s)"
    )
    parser.add_argument("--cfg", type=float, default=CFG, help="guidance of Stage C (%(default)s)")
    shipped = weights_path("stage_a").parent
    parser.add_argument("--weights", type=Path, default=shipped, help="folder of the parts (%(default)s)")
    parser.add_argument("--lora", type=Path, help="a LoRA for Stage C, such as one that is distilled")
    parser.add_argument("--judges", type=Path, default=HERE, help="folder of the judges (%(default)s)")
    parser.add_argument("--plot", type=Path, metavar="FILE.png", help="draw the errors too")
    parser.add_argument("--threads", type=int, help="of the CPU (all)")
    return parser


def main(arguments: list[str] | None = None) -> int:
    """Measure and print; returns the exit status."""

    def say(line: str) -> None:
        print(line, file=sys.stderr, flush=True)

    options = _parser().parse_args(arguments)
    if options.threads:
        torch.set_num_threads(options.threads)
    measure = measured(options.solvers, options.spacings, say)

    def stage_c(evaluations: Sequence[int], measure: Callable) -> list[Row]:
        drawn = DrawnC(
            options.weights, options.judges, options.n, options.cfg, options.exact_steps, say, options.lora
        )
        return measure(evaluations, STAGE_C_SHIFT, drawn.figures)

    def stage_b(evaluations: Sequence[int], measure: Callable) -> list[Row]:
        drawn = DrawnB(options.weights, options.n, options.exact_steps, say)
        return measure(evaluations, STAGE_B_SHIFT, drawn.figures)

    cases = {"gaussian": gaussian, "mixture": mixture, "stage_c": stage_c, "stage_b": stage_b}
    found = {case: cases[case](options.evaluations, measure) for case in options.cases}
    if options.plot:
        plot(found, options.plot)
    if options.json:
        print(json.dumps(found, indent=2))
        return 0
    for case, rows in found.items():
        figures = dict.fromkeys(
            name for row in rows for value in row["evaluations"].values() for name in value
        )
        for figure in figures:
            print(f"\n{case}: {figure}\n{table(rows, figure)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
