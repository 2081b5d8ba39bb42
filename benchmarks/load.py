"""How much memory it takes to load a Stage C and to run its first step, beside ComfyUI's own loader.

    python -P benchmarks/load.py              # Stage C of 1 B parameters, files of bf16 and fp32
    python -P benchmarks/load.py --units 1 2  # another number of blocks, which ComfyUI's loader cannot read

Each measurement is a process of its own, watched from outside through ``/proc`` (so on Linux alone).
Resident memory has two kinds: ``anonymous`` is a process's own and can only be swapped; ``file`` is pages of
the mapped file, which the system can drop and read again. Both count towards the peak here, as a ratio to the
weights that the model holds when it is loaded; the machine's own cache of the file does not.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any, NamedTuple

import torch
from comfyui_cascade.checkpoints.identify import Part
from comfyui_cascade.checkpoints.layout import Layout
from comfyui_cascade.checkpoints.save import save
from comfyui_cascade.layers.trunk import Level, TrunkConfig
from comfyui_cascade.stage_c import StageC, StageCConfig
from torch import Tensor

WIDTH, LITE = 1536, (4, 12)
INTERVAL = 0.002  # seconds between two looks at a process
MB = 2**20


class Memory(NamedTuple):
    """Resident memory of a process in bytes."""

    total: int
    anonymous: int
    file: int


def resident(pid: int) -> Memory:
    """What a process has in memory now."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    fields = {name: value for name, _, value in (line.partition(":") for line in lines)}
    total, anonymous, file = (int(fields[name].split()[0]) * 1024 for name in ("VmRSS", "RssAnon", "RssFile"))
    return Memory(total, anonymous, file)


def weights(units: tuple[int, int]) -> dict[str, Tensor]:
    """A Stage C with random numbers, the same few thousand over and over."""
    down = tuple(Level(WIDTH, "CTA", depth, 1, 0) for depth in units)
    up = (Level(WIDTH, "CTA", units[1], 1, 0), Level(WIDTH, "CTA", units[0], 1, WIDTH))
    trunk = TrunkConfig(down, up, WIDTH, 64, ("sca", "crp"), 3, "pointwise", switch_level=(False,))
    with torch.device("meta"):
        network = StageC(StageCConfig(trunk, 16, 1280, 1280, 768, 4))
    noise = 0.02 * torch.randn(4096, generator=torch.Generator().manual_seed(0))
    return {
        name: noise.repeat(-(-one.numel() // 4096))[: one.numel()].view(one.shape)
        for name, one in network.state_dict().items()
    }


def watch(command: list[str]) -> tuple[dict[str, Memory], int]:
    """The peak of each phase that a process announces on its output, and the bytes of its weights."""
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    said = ["start"]
    reader = threading.Thread(target=lambda: said.extend(line.strip() for line in process.stdout))
    reader.start()
    peaks: dict[str, Memory] = {}
    while process.poll() is None:
        phase = said[-1]
        try:
            now = resident(process.pid)
        except (OSError, KeyError):  # it ended in between
            break
        peaks[phase] = Memory(*map(max, peaks.get(phase, now), now))
        time.sleep(INTERVAL)
    reader.join()
    if process.wait():
        raise SystemExit(f"{' '.join(command)} failed")
    return peaks, int(said[-1])


def measure(program: str, path: Path, weight_dtype: str) -> None:
    """Load and run one step in this process, saying aloud what comes next."""
    sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests" / "support"))
    from comfy_host import comfy_library

    host = comfy_library()
    print("idle", flush=True)
    time.sleep(0.2)
    print("load", flush=True)
    with torch.inference_mode():
        model = LOADERS[program](str(path), weight_dtype)
        print("step", flush=True)
        text = [[torch.zeros(1, 4, 1280), {"pooled_output": torch.zeros(1, 1280)}]]
        latents = {"samples": torch.zeros(1, 16, 4, 4)}
        host.common_ksampler(model, 1, 1, 1.0, "euler", "simple", text, text, latents)
    print(
        sum(one.numel() * one.element_size() for one in model.model.diffusion_model.parameters()), flush=True
    )


def ours(path: str, weight_dtype: str) -> Any:
    """By our loader."""
    from comfyui_cascade.nodes.host import load_model

    return load_model(path, Part.STAGE_C, weight_dtype)


def theirs(path: str, weight_dtype: str) -> Any:
    """By ComfyUI's."""
    import comfy.sd

    given = (
        {}
        if weight_dtype == "default"
        else {"dtype": {"fp32": torch.float32, "bf16": torch.bfloat16}[weight_dtype]}
    )
    return comfy.sd.load_diffusion_model(path, model_options=given)


LOADERS = {"ours": ours, "ComfyUI": theirs}

ROW = "{:<8} {:<6} {:<12} {:>8} {:>8} {:>7} {:>11} {:>8} {:>7}"


def report(program: str, path: Path, weight_dtype: str) -> None:
    """One row of the table."""
    command = [sys.executable, "-P", __file__, "--measure", program, str(path), weight_dtype]
    peaks, size = watch(command)
    idle, load, step = peaks["idle"], peaks["load"], peaks["step"]
    grown = Memory(*(after - before for after, before in zip(load, idle, strict=True)))
    print(
        ROW.format(
            program, path.stem, weight_dtype, size // MB, grown.total // MB, f"{grown.total / size:.2f}",
            grown.anonymous // MB, grown.file // MB, f"{(step.total - idle.total) / size:.2f}",
        ),
        flush=True,
    )  # fmt: skip


def main() -> None:
    """See above."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n\n")[0])
    parser.add_argument("--units", type=int, nargs=2, default=LITE, help="blocks of each level (%(default)s)")
    parser.add_argument("--files", nargs="+", default=["bf16", "fp32"], help="precisions of the files")
    parser.add_argument("--measure", nargs=3, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.measure:
        program, path, weight_dtype = options.measure
        measure(program, Path(path), weight_dtype)
        return
    stored = {"bf16": torch.bfloat16, "fp32": torch.float32}
    print(
        ROW.format("loader", "file", "weight_dtype", "weights", "load", "ratio", "anonymous", "file", "step")
    )
    programs = list(LOADERS) if tuple(options.units) == LITE else ["ours"]
    with tempfile.TemporaryDirectory() as folder:
        for name in options.files:
            path = Path(folder) / f"{name}.safetensors"
            save(path, Part.STAGE_C, weights(tuple(options.units)), layout=Layout.STABILITY,
                 dtype=stored[name], metadata={})  # fmt: skip
            for weight_dtype in ("default", *stored):
                for program in programs:
                    report(program, path, weight_dtype)
            path.unlink()


if __name__ == "__main__":
    main()
