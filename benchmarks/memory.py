"""How much memory a call of each stage takes beyond its weights: ``python3 dev.py bench memory``.

Each measurement is a process of its own, with random weights of released sizes. On a CPU it is the growth of
resident memory (so on Linux alone), on a GPU what torch had allocated. ``whole`` is one call as it is,
``tiles`` is Stage A in tiles, ``parts`` is Stage B with its MLPs computed in strips. ``error`` is the largest
difference from ``whole``, relative to the largest value.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from comfyui_cascade.benchmarks.contestants import SIZES, Call, Stage, stage
from comfyui_cascade.benchmarks.speed import AGREE, DTYPES, error
from comfyui_cascade.stage_a import StageA, decode_in_tiles, encode_in_tiles
from comfyui_cascade.stage_a.tiles import ratio
from safetensors.torch import load_file, save_file

MB = 2**20
TILE = 256  # latent cells
WIDE_VALUES = 2**24
Row = dict[str, Any]


def in_tiles(made: Stage) -> Call:
    """Stage A in tiles."""
    network, given = made.network(), made.inputs()[0]
    assert isinstance(network, StageA)
    batch, channels, height, width = given.shape
    cell, config = ratio(network.config), network.config
    if channels == 3:
        out = given.new_empty(batch, config.channels, height // cell, width // cell)
        return lambda: encode_in_tiles(config, network.encode, given, TILE, out)
    out = given.new_empty(batch, 3, height * cell, width * cell)
    return lambda: decode_in_tiles(config, network.decode, given, TILE, out)


WAYS: dict[str, Callable[[Stage], Call]] = {
    "whole": lambda made: made.ours(),
    "tiles": in_tiles,
    "parts": lambda made: made.ours(wide_values=WIDE_VALUES),
    "native": lambda made: made.native(),
    "diffusers": lambda made: made.diffusers(),
}


def ways(name: str, against: list[str]) -> list[str]:
    """How a stage can be called; ``whole`` first."""
    lean = "tiles" if isinstance(SIZES[name], type(SIZES["stage_a"])) else "parts"
    return ["whole", lean, *against]


def resident(field: str) -> int:
    """Bytes of memory of this process: ``VmRSS`` now, ``VmHWM`` at most."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(field))


def peak(call: Call, device: str) -> tuple[int, torch.Tensor, float]:
    """Bytes beyond those before the call, what it gave, and its seconds."""
    start = time.perf_counter()
    if device == "cpu":
        Path("/proc/self/clear_refs").write_text("5")  # forget the highest so far
        before = resident("VmRSS")
        result = call()
        return resident("VmHWM") - before, result, time.perf_counter() - start
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    result = call()
    torch.cuda.synchronize()
    return torch.cuda.max_memory_allocated() - before, result, time.perf_counter() - start


def measure(options: argparse.Namespace) -> None:
    """One way of one stage in this process: prints bytes and seconds, and leaves what came out in a file."""
    name, way, to = options.measure
    with torch.inference_mode():
        made = stage(name, options.size, options.batch, DTYPES[options.dtype], options.device)
        used, result, seconds = peak(WAYS[way](made), options.device)
    save_file({"result": result.float().cpu().contiguous()}, to)
    print(json.dumps({"bytes": used, "seconds": seconds}))


def rows(name: str, options: argparse.Namespace, against: list[str]) -> list[Row]:
    """Every way of a stage."""
    found: list[Row] = []
    with tempfile.TemporaryDirectory() as folder:
        for way in ways(name, against):
            to = str(Path(folder) / f"{way}.safetensors")
            program = [sys.executable, "-P", "-m", "comfyui_cascade.benchmarks.memory"]
            same = [f"--{key}={getattr(options, key)}" for key in ("size", "batch", "dtype", "device")]
            done = subprocess.run(
                [*program, "--measure", name, way, to, *same], stdout=subprocess.PIPE, text=True, check=False
            )
            row: Row = {"stage": name, "pixels": options.size, "dtype": options.dtype, "way": way}
            if done.returncode:
                found.append(row | {"failed": done.returncode, "agrees": way != "whole"})
                continue
            row |= json.loads(done.stdout.splitlines()[-1])
            whole, result = (
                load_file(Path(folder) / f"{one}.safetensors")["result"] for one in ("whole", way)
            )
            row["error"] = error(result, whole)
            row["agrees"] = row["error"] <= (
                1e-5 if way in ("tiles", "parts") and options.dtype == "fp32" else AGREE[options.dtype]
            )
            row["of_whole"] = row["bytes"] / (found[0]["bytes"] if found else row["bytes"])
            found.append(row)
    return found


TABLE = "{stage:<14} {pixels:>6} {dtype:<5} {way:<10} {mb:>9} {of_whole:>9} {seconds:>8} {error:>8}"


def table(row: Row) -> str:
    """A row to read."""
    if "failed" in row:
        return "{stage:<14} {pixels:>6} {dtype:<5} {way:<10} ended with {failed}".format(**row)
    shown = {
        "mb": f"{row['bytes'] / MB:.0f}", "of_whole": f"{row['of_whole']:.2f}",
        "seconds": f"{row['seconds']:.2f}", "error": f"{row['error']:.1e}",
    }  # fmt: skip
    return TABLE.format(**(row | shown)) + ("" if row["agrees"] else "  DIFFERS")


def main() -> None:
    """See above."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n\n")[0])
    parser.add_argument("--against", default="native", help="native, diffusers or both, with a comma between")
    parser.add_argument(
        "--stages", nargs="+", choices=list(SIZES), default=["stage_a", "stage_a_encode", "stage_b"]
    )
    parser.add_argument("--size", type=int, default=1024, help="side of the picture (%(default)s)")
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--dtype", choices=list(DTYPES), default="fp32")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--json", action="store_true", help="print rows as JSON instead of a table")
    parser.add_argument("--measure", nargs=3, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.measure:
        measure(options)
        return
    against = list(filter(None, options.against.split(",")))
    if not options.json:
        head = {key: key for key in ("stage", "pixels", "dtype", "way", "seconds", "error")}
        print(TABLE.format(**head, mb="MB", of_whole="of whole"))
    every: list[Row] = []
    for name in options.stages:
        made = rows(name, options, against)
        every += made
        if not options.json:
            print(*map(table, made), sep="\n", flush=True)
    if options.json:
        print(json.dumps({"device": options.device, "rows": every}, indent=1))
    if not all(row["agrees"] for row in every):
        raise SystemExit("results differ: see the rows above")


if __name__ == "__main__":
    main()
