#!/usr/bin/env python3
"""One command per chore, from a fresh clone on, with Python 3.10 or newer and nothing else installed.

    python3 dev.py demo --prompt "a red boat on the sea" --out boat.png
    python3 dev.py serve --port 8188
    python3 dev.py test -k schedule
    python3 dev.py check
    python3 dev.py weights lite --dir ~/ComfyUI
    python3 dev.py train small --minutes 5
    python3 dev.py eval small
    python3 dev.py bench steps
    python3 dev.py pictures
    python3 dev.py docs
    python3 dev.py locales

The first run makes .venv and fetches a ComfyUI into .comfyui, both git-ignored and safe to delete.
COMFYUI_PATH names another ComfyUI to use instead; it runs with .venv all the same.
"""

from __future__ import annotations

import argparse
import contextlib
import errno
import importlib.util
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple


def _make_importable(package: str) -> None:
    """A package beside this file, by its path: with the root on sys.path, ours would hide other packages."""
    folder = Path(__file__).resolve().parent / package
    spec = importlib.util.spec_from_file_location(package, folder / "__init__.py")
    sys.modules[package] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(sys.modules[package])


_make_importable("development")

from development import chromium
from development.environment import BASE, ROOT, set_up, venv_program
from development.progress import Problem, Steps
from development.server import Comfy, check_port, free_port
from development.workflow import find_node, set_widget

WORKFLOW = ROOT / "workflows" / "text_to_image.json"
FOR_ONE_RUN = ("--disable-api-nodes", "--database-url", "sqlite:///:memory:")
# Modules in benchmarks/
BENCHES = ("control", "growth", "load", "memory", "price", "speed", "steps", "style")


def _demo_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--prompt", help="what to draw")
    parser.add_argument("--negative", help="what to keep out of the picture")
    parser.add_argument("--seed", type=int, help="same seed, same picture")
    parser.add_argument("--width", type=int, help="pixels")
    parser.add_argument("--height", type=int, help="pixels")
    parser.add_argument(
        "--out", type=Path, default=Path("cascade.png"), help="the PNG to write (%(default)s)"
    )


def _demo(options: argparse.Namespace, step: Steps) -> int:
    """Draw a picture: what the workflow file says, but for the values given here."""
    workflow = _read_workflow(options)
    out = options.out.resolve()
    if out.is_dir() or not out.parent.is_dir():
        raise Problem(f"--out is {options.out}: give the path of a PNG file in a folder that exists.")
    tree = set_up(step)
    with Comfy(tree, free_port(), step, FOR_ONE_RUN) as comfy:
        step(f"Run {WORKFLOW.relative_to(ROOT)}")
        out.write_bytes(comfy.draw(workflow)[-1])
        step("Stop ComfyUI")
    step.say("Done")
    print(out)
    return 0


def _pictures_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--help-pages", nargs="*", metavar="NODE", help="only those of these nodes, or of all"
    )


def _pictures(options: argparse.Namespace, step: Steps) -> int:
    """Draw every picture anew: of README.md, workflows, help pages, the tutorial, method.md, the registry."""
    from development import help as help_pages
    from development import pictures

    tree = set_up(step)
    chromium.ensure(step)
    if options.help_pages is not None:
        help_pages.draw_all(tree, step, FOR_ONE_RUN, options.help_pages)
        return 0
    with Comfy(tree, free_port(), step, FOR_ONE_RUN) as comfy:
        pictures.draw_all(comfy, step)
    help_pages.draw_all(tree, step, FOR_ONE_RUN)
    step("Draw the icon and the banner of the registry")
    brand = [ROOT / "development" / "brand.py", ROOT / "docs" / "prompts", ROOT / "docs" / "registry"]
    subprocess.run([venv_program("python"), *brand], check=True)
    step("Draw the figures of docs/method.md")
    failed = _module("benchmarks.figures", str(ROOT / "docs" / "method"))
    step("Take the screenshots of docs/tutorial.md")
    return failed or _pytest("tests/browser/test_tutorial.py", "--pictures")


def _locales(_: argparse.Namespace, step: Steps) -> int:
    """Write locales/en from the nodes, and say what the translations have to follow."""
    from development import locales

    folder = ROOT / "locales" / "en"
    with Comfy(set_up(step), free_port(), step, FOR_ONE_RUN) as comfy:
        nodes = {name: node for name, node in comfy.object_info().items() if name.startswith("Cascade")}
    if not nodes:
        raise Problem(f"ComfyUI could not load the pack, so nothing is written: read {comfy.log}.")
    texts = locales.english(nodes)
    changes = locales.changes(locales.read(folder), texts)
    locales.write(folder, texts)
    step("\n".join(["English is written", *changes]))
    return 0


def _read_workflow(options: argparse.Namespace) -> dict[str, Any]:
    if not WORKFLOW.is_file():
        raise Problem(f"{WORKFLOW} is missing: restore it from git.")
    workflow = json.loads(WORKFLOW.read_text(encoding="utf-8"))
    widgets = [
        ({"title": "Prompt"}, "text", options.prompt),
        ({"title": "Negative prompt"}, "text", options.negative),
        ({"type": "CascadeSampler"}, "seed", options.seed),
        ({"type": "CascadeEmptyLatents"}, "width", options.width),
        ({"type": "CascadeEmptyLatents"}, "height", options.height),
    ]
    for node, name, value in widgets:
        if value is not None:
            set_widget(find_node(workflow, **node), name, value)
    return workflow


def _serve_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--port", type=int, default=8188, help="port to listen on (%(default)s)")


def _serve(options: argparse.Namespace, step: Steps) -> int:
    """Run ComfyUI with the pack until Ctrl-C."""
    check_port(options.port)
    tree = set_up(step)
    previews = ("--preview-method", "auto")
    with Comfy(tree, options.port, step, previews) as comfy, contextlib.suppress(KeyboardInterrupt):
        step(f"ComfyUI is at {comfy.url} with models in {BASE / 'models'}; Ctrl-C stops it")
        with comfy.log.open(encoding="utf-8", errors="replace") as log:
            while comfy.listens():
                print(log.read(), end="", flush=True)
                time.sleep(0.5)
        raise Problem(f"ComfyUI stopped by itself: read {comfy.log} for the reason.")
    step("ComfyUI is stopped")
    return 0


def _no_arguments(parser: argparse.ArgumentParser) -> None:
    pass


def _test(options: argparse.Namespace, step: Steps) -> int:
    """Run every test on a real ComfyUI; --slow adds those of minutes and gigabytes, the rest is pytest's."""
    set_up(step)
    chromium.ensure(step)
    step("Run the tests")
    return _pytest(*options.rest)


def _pytest(*arguments: str) -> int:
    # The script and not -m: the root must stay off sys.path, where our nodes/ would hide ComfyUI's nodes.py.
    command = [venv_program("pytest"), *arguments]
    return subprocess.run(command, cwd=ROOT, env={**os.environ, "PYTHONSAFEPATH": "1"}).returncode


def _check(_: argparse.Namespace, step: Steps) -> int:
    """Check format and lint."""
    set_up(step)
    failed = 0
    for command in (["format", "--check", "."], ["check", "."]):
        step("ruff " + " ".join(command))
        failed |= subprocess.run([venv_program("ruff"), *command], cwd=ROOT).returncode
    return failed


def _docs(_: argparse.Namespace, step: Steps) -> int:
    """Build the documentation site; a link that leads nowhere fails it."""
    from development import docs

    set_up(step)
    step("Build the site")
    docs.build()
    step.say("Done")
    print(docs.SITE / "index.html")
    return 0


def _weights_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "set", choices=("lite", "full"), help="small Stage B and C (5 GB) or large ones (12 GB)"
    )
    parser.add_argument(
        "--dir", type=Path, default=BASE, help="ComfyUI's folder, the one with models in it (%(default)s)"
    )
    parser.add_argument("--yes", action="store_true", help="accept the licence without being asked")


def _weights(options: argparse.Namespace, step: Steps) -> int:
    """Download the official Stable Cascade files into ComfyUI's folders."""
    models = options.dir.expanduser().resolve() / "models"
    if options.dir != BASE and not models.is_dir():
        raise Problem(f"--dir is {options.dir}, which has no folder models: give ComfyUI's own folder.")
    from development import weights

    catalogue = weights.Catalogue.read(ROOT / "weights" / "official.json")
    weights.download(catalogue, options.set, models, step.say, options.yes)
    step("Done: open the workflow text_to_image_official, or pick the files in the loaders")
    return 0


def _what_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("what", choices=("small",), help="the small cascade that ships")


def _train(options: argparse.Namespace, step: Steps) -> int:
    """Train the small cascade, or go on with it: --stage, --minutes, --device, --base, --threads."""
    set_up(step)
    return _module("training", options.what, *options.rest)


def _eval(options: argparse.Namespace, step: Steps) -> int:
    """Measure the small cascade: --n, --json, --weights, --cfg, --size, --grid, --only and more."""
    with contextlib.redirect_stdout(sys.stderr):  # standard output may be wanted as JSON
        set_up(step)
    return _module("benchmarks.small_cascade", *options.rest)


def _bench_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("what", choices=BENCHES, help="what is measured")


def _bench(options: argparse.Namespace, step: Steps) -> int:
    """Measure and print a table; each benchmark says with --help what it takes, --json among it."""
    with contextlib.redirect_stdout(sys.stderr):  # standard output may be wanted as JSON
        set_up(step)
    return _module(f"benchmarks.{options.what}", *options.rest)


def _module(name: str, *arguments: str) -> int:
    """The exit status of a module of the pack, run in .venv; -P keeps the folder it is run from out."""
    command = [venv_program("python"), "-P", "-m", f"comfyui_cascade.{name}", *arguments]
    return subprocess.run(command).returncode


class Verb(NamedTuple):
    """What the first word on the command line means; the docstring of ``run`` is its help."""

    run: Callable[[argparse.Namespace, Steps], int]
    arguments: Callable[[argparse.ArgumentParser], None] = _no_arguments
    takes_rest: bool = False


VERBS = {
    "demo": Verb(_demo, _demo_arguments),
    "pictures": Verb(_pictures, _pictures_arguments),
    "locales": Verb(_locales),
    "serve": Verb(_serve, _serve_arguments),
    "test": Verb(_test, takes_rest=True),
    "check": Verb(_check),
    "docs": Verb(_docs),
    "weights": Verb(_weights, _weights_arguments),
    "train": Verb(_train, _what_arguments, takes_rest=True),
    "eval": Verb(_eval, _what_arguments, takes_rest=True),
    "bench": Verb(_bench, _bench_arguments, takes_rest=True),
}


def main(arguments: list[str] | None = None) -> int:
    """Run one verb; returns the exit status."""
    if sys.version_info < (3, 10):
        found = sys.version.split()[0]
        print(
            f"error: This is Python {found} and 3.10 is needed: run dev.py with a newer one.", file=sys.stderr
        )
        return 1
    parser = argparse.ArgumentParser(prog="dev.py", description=__doc__.split("\n\n")[0])
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="|".join(VERBS))
    for name, verb in VERBS.items():
        verb.arguments(verbs.add_parser(name, help=verb.run.__doc__, description=verb.run.__doc__))
    options, options.rest = parser.parse_known_args(arguments)
    verb = VERBS[options.verb]
    if options.rest and not verb.takes_rest:
        parser.error(f"{options.verb} does not know {' '.join(options.rest)}")
    return _guarded(verb, options)


def _guarded(verb: Verb, options: argparse.Namespace) -> int:
    """The verb's exit status; problems become a sentence, and being told to stop cleans up first."""
    for name in ("SIGTERM", "SIGHUP"):
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), signal.default_int_handler)
    try:
        return verb.run(options, Steps())
    except Problem as problem:
        print(f"error: {problem}", file=sys.stderr)
        return 1
    except OSError as error:
        if error.errno != errno.ENOSPC:
            raise
        print(
            f"error: The disk that holds {ROOT} is full: free some space, then run this again.",
            file=sys.stderr,
        )
        return 1
    except KeyboardInterrupt:
        print("Stopped.", file=sys.stderr)
        return 130


if __name__ == "__main__":
    sys.exit(main())
