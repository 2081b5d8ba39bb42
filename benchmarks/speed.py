"""Time of one step of each stage beside ComfyUI's and diffusers': ``python3 dev.py bench speed``.

Released sizes, random weights. The programs take turns, so that what else the machine does falls on all of
them; the table has medians. ``limit`` is the time in which this machine multiplies as much in one large
matrix product, measured in the same run; no program can be faster. ``error`` is the largest difference from
ours, relative to the largest value.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable
from typing import Any

import torch
from comfyui_cascade.benchmarks.contestants import COMPILED, RIVALS, SIZES, Call, stage
from torch.utils.flop_counter import FlopCounterMode, sdpa_flop_count

PIXELS = {"stage_c": 1024, "stage_b": 512, "stage_a": 512, "stage_a_encode": 512}
"""Of a picture, where no size is asked for: what takes seconds on a small machine."""

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
AGREE = {"fp32": 1e-3, "bf16": 0.3, "fp16": 0.05}
"""Largest error at which two programs count as the same; random weights spread rounding over many blocks."""

Row = dict[str, Any]


def seconds(call: Callable[[], Any], device: str) -> float:
    """Of one call, to its end."""
    if device != "cpu":
        torch.cuda.synchronize()
    start = time.perf_counter()
    call()
    if device != "cpu":
        torch.cuda.synchronize()
    return time.perf_counter() - start


def matmul_peak(dtype: torch.dtype, device: str) -> float:
    """Floating-point operations a second of a product of the size of Stage C's; the best of a few.

    One is enough where it takes seconds, as bf16 does on a CPU without units for it.
    """
    rows, inner = (1322, 2048) if device == "cpu" else (8192, 8192)
    a = torch.randn(rows, inner, device=device).to(dtype)
    b = torch.randn(inner, inner, device=device).to(dtype)
    times = [seconds(lambda: a @ b, device)]
    while len(times) < 8 and times[0] < 2:
        times.append(seconds(lambda: a @ b, device))
    return 2 * rows * inner * inner / min(times)


def operations(call: Call) -> int:
    """Floating-point operations of the products, convolutions and attention in a call."""

    def attended(q: tuple, k: tuple, v: tuple, *_: Any, **__: Any) -> int:
        return sdpa_flop_count(q, k, v)

    # The attention of CPUs is missing among those that torch counts.
    attention = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu
    counter = FlopCounterMode(display=False, custom_mapping={attention: attended})
    with counter:
        call()
    return counter.get_total_flops()


def error(found: torch.Tensor, expected: torch.Tensor) -> float:
    """Largest difference, relative to the largest value."""
    return ((found.float() - expected.float()).abs().max() / expected.float().abs().max()).item()


def measure(
    name: str,
    pixels: int,
    batch: int,
    dtype: str,
    device: str,
    against: tuple[str, ...],
    repeats: int,
    peak: float,
) -> list[Row]:
    """Rows of one stage, ours first; ``peak`` is what ``matmul_peak`` gave."""
    calls = stage(name, pixels, batch, DTYPES[dtype], device).calls(against)
    results = {program: call() for program, call in calls.items()}
    taken: dict[str, list[float]] = {program: [] for program in calls}
    for _ in range(repeats):
        for program, call in calls.items():
            taken[program].append(seconds(call, device))
    limit = operations(calls["ours"]) / peak
    ours = statistics.median(taken["ours"])
    rows = []
    for program, each in taken.items():
        median, difference = statistics.median(each), error(results[program], results["ours"])
        rows.append(
            {
                "stage": name, "pixels": pixels, "batch": batch, "dtype": dtype, "program": program,
                "seconds": median, "fastest": min(each), "ratio": median / ours, "of_limit": limit / median,
                "error": difference, "agrees": difference <= AGREE[dtype],
            }
        )  # fmt: skip
    return rows


TABLE = (
    "{stage:<14} {pixels:>6} {batch:>5} {dtype:<5} {program:<10}"
    " {seconds:>8} {ratio:>6} {of_limit:>8} {error:>8}"
)


def table(row: Row) -> str:
    """A row to read; the ratio is how many times as long as ours it takes."""
    shown = {
        "seconds": f"{row['seconds']:.3f}", "ratio": f"{row['ratio']:.2f}",
        "of_limit": f"{row['of_limit']:.0%}", "error": f"{row['error']:.1e}",
    }  # fmt: skip
    return TABLE.format(**(row | shown)) + ("" if row["agrees"] else "  DIFFERS")


def main() -> None:
    """See above."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n\n")[0])
    parser.add_argument(
        "--against",
        default="native,diffusers",
        help="other programs, with commas between; `compiled` is ours by torch.compile",
    )
    parser.add_argument("--stages", nargs="+", choices=list(SIZES), default=["stage_c", "stage_b", "stage_a"])
    parser.add_argument("--size", type=int, help="side of the picture in pixels")
    parser.add_argument("--batch", type=int, help="by default 2 for Stage C and B, and 1 for Stage A")
    parser.add_argument(
        "--dtype", choices=list(DTYPES), help="by default the one this machine multiplies fastest"
    )
    parser.add_argument("--repeats", type=int, default=3, help="turns of each program (%(default)s)")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--json", action="store_true", help="print rows as JSON instead of a table")
    options = parser.parse_args()
    against = tuple(filter(None, options.against.split(",")))
    known = (*RIVALS, COMPILED)
    if unknown := set(against) - set(known):
        parser.error(f"there is no program {', '.join(sorted(unknown))}: choose from {', '.join(known)}")
    compared = (options.dtype,) if options.dtype else ("fp32", "bf16")
    with torch.inference_mode():
        peaks = {name: matmul_peak(DTYPES[name], options.device) for name in compared}
        dtype = options.dtype or max(peaks, key=peaks.__getitem__)
        if not options.json:
            told = ", ".join(f"{peak / 1e12:.2f} TFLOP/s in {name}" for name, peak in peaks.items())
            print(f"{torch.get_num_threads()} threads, {options.device}, torch {torch.__version__}: {told}")
            head = {key: key for key in ("stage", "pixels", "batch", "dtype", "program", "seconds", "ratio")}
            print(TABLE.format(**head, of_limit="of limit", error="error"))
        rows = []
        for name in options.stages:
            batch = options.batch or (1 if name.startswith("stage_a") else 2)
            pixels = options.size or PIXELS.get(name, 1024)
            made = measure(name, pixels, batch, dtype, options.device, against, options.repeats, peaks[dtype])
            rows += made
            if not options.json:
                print(*map(table, made), sep="\n", flush=True)
    if options.json:
        print(json.dumps({"matmul": peaks, "device": options.device, "rows": rows}, indent=1))
    if not all(row["agrees"] for row in rows):
        raise SystemExit("the programs do not agree: see the rows above")


if __name__ == "__main__":
    main()
