"""``convert``: files of one layout into files of another."""

from __future__ import annotations

import argparse
from pathlib import Path

import torch

from ..checkpoints.convert import convert
from ..checkpoints.identify import Part
from ..checkpoints.layout import Layout
from ..checkpoints.report import in_bytes
from ..checkpoints.save import PLACES

DTYPES = {
    "as-is": None,
    "fp32": torch.float32,
    "bf16": torch.bfloat16,
    "fp16": torch.float16,
    "fp8-e4m3": torch.float8_e4m3fn,
    "fp8-e5m2": torch.float8_e5m2,
}
"""What ``--dtype`` takes."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Say what ``run`` takes."""
    parser.add_argument(
        "sources",
        nargs="+",
        metavar="IN",
        help="a safetensors file or a diffusers folder; several for one file",
    )
    parser.add_argument("out", metavar="OUT", help="a .safetensors file, or a folder for a file of each part")
    parser.add_argument(
        "--layout", required=True, choices=[layout.value for layout in Layout], help="whose names to write"
    )
    parser.add_argument("--dtype", default="as-is", choices=list(DTYPES), help="precision (%(default)s)")
    parser.add_argument(
        "--part", choices=[part.value for part in PLACES], help="write this part only, of a file with several"
    )


def run(options: argparse.Namespace) -> int:
    """Write files in another layout or precision."""
    written = convert(
        options.sources,
        Path(options.out),
        layout=Layout(options.layout),
        dtype=DTYPES[options.dtype],
        wanted=Part(options.part) if options.part else None,
    )
    for path in written:
        print(f"{path}  {in_bytes(path.stat().st_size)}")
    return 0
