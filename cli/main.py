"""The first word on the command line, and what becomes of errors: one line each, never a traceback."""

from __future__ import annotations

import argparse
import io
import sys

from . import convert, generate, identify

PROGRAM = "python -m comfyui_cascade"


def main(arguments: list[str] | None = None) -> int:
    """Run one command; returns the exit status."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")  # a console may not know every sign of a file's name
    parser = argparse.ArgumentParser(
        prog=PROGRAM, description="Draw with Stable Cascade; tell and convert its files."
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="generate|identify|convert")
    for module in (generate, identify, convert):
        name = module.__name__.rpartition(".")[2]
        summary = (module.run.__doc__ or "").partition("\n")[0]
        command = commands.add_parser(name, help=summary, description=summary)
        module.add_arguments(command)
        command.set_defaults(run=module.run)
    options = parser.parse_args(arguments)
    try:
        return options.run(options)
    except (ValueError, OSError) as error:
        print(f"error: {error.strerror or error if isinstance(error, OSError) else error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("Stopped.", file=sys.stderr)
        return 130
