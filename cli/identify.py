"""``identify``: what files are, from their headers."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from ..checkpoints.folder import networks_in
from ..checkpoints.identify import in_units
from ..checkpoints.report import Report, in_bytes, report

COLUMNS = ("FILE", "WHAT", "NAMES", "PRECISION", "PARAMETERS", "SIZE", "DETAILS")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Say what ``run`` takes."""
    parser.add_argument(
        "files", nargs="+", metavar="FILE", help="a safetensors file, or a folder of diffusers or of files"
    )
    parser.add_argument("--json", action="store_true", help="print everything that is known, as JSON")


def run(options: argparse.Namespace) -> int:
    """Say what files are: part, layout, precision, sizes.

    Returns:
        1 if a file could not be read, else 0.
    """
    reports = [_report(path) for file in options.files for path in networks_in(file)]
    if options.json:
        found = [one.as_json() if isinstance(one, Report) else one for one in reports]
        print(json.dumps(found, indent=2))
    else:
        print("\n".join(_table(reports)))
    return int(any(isinstance(one, dict) for one in reports))


def _report(path: Path) -> Report | dict[str, str]:
    try:
        return report(path)
    except ValueError as error:
        return {"file": path.name, "error": str(error)}


def _table(reports: list[Report | dict[str, str]]) -> list[str]:
    """Lines with the columns under each other; a file that cannot be read has a sentence instead."""
    rows = [COLUMNS, *(_row(one) for one in reports if isinstance(one, Report))]
    widths = [max(len(row[i]) for row in rows) for i in range(len(COLUMNS) - 1)]
    lines = iter(
        "  ".join([*(cell.ljust(width) for cell, width in zip(row, widths, strict=False)), row[-1]]).rstrip()
        for row in rows
    )
    if len(rows) == 1:
        next(lines)
        return [one["error"] for one in reports if isinstance(one, dict)]
    return [next(lines), *(one["error"] if isinstance(one, dict) else next(lines) for one in reports)]


def _row(one: Report) -> tuple[str, ...]:
    return (
        one.file,
        one.what,
        one.layout,
        one.precision,
        in_units(one.parameters),
        in_bytes(one.bytes),
        one.details,
    )
