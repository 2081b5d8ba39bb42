"""ComfyUI, driven through comfy-cli."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import urllib.request
from pathlib import Path
from typing import Any

from .environment import BASE, VENV, WORK, read_log, venv_program
from .progress import Problem, Steps
from .workflow import with_workflow

RUN_SECONDS = 1800
"""Without a word from ComfyUI while a workflow runs."""


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

    def draw(self, workflow: dict[str, Any]) -> list[bytes]:
        """Run a workflow; returns the PNGs that it saved, with the workflow in them."""
        with tempfile.TemporaryDirectory(dir=WORK, prefix="draw-") as folder:
            file = Path(folder) / "workflow.json"
            file.write_text(json.dumps(workflow), encoding="utf-8")
            saved = [address for address in self.run(file) if ".png" in address and "type=output" in address]
        if not saved:
            raise Problem("The workflow ran and saved no picture: it needs a Save Image node.")
        pictures = []
        for address in saved:
            with urllib.request.urlopen(address) as answer:
                pictures.append(with_workflow(answer.read(), workflow))
        return pictures

    def object_info(self) -> dict[str, Any]:
        """ComfyUI's own description of every node, by id."""
        with urllib.request.urlopen(f"{self.url}/object_info") as answer:
            return json.load(answer)

    def listens(self) -> bool:
        """Whether the server is still there, however busy."""
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port), timeout=10):
            return True
        return False

    def _comfy(self, *arguments: str) -> dict[str, Any]:
        """The answer of one comfy-cli command: ok, data, error."""
        command = [venv_program("comfy"), "--skip-prompt", "--json", "--workspace", self.tree, *arguments]
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
        path = os.pathsep.join([str(venv_program("comfy").parent), kept.get("PATH", "")])
        home = {"HOME": self.home, "USERPROFILE": self.home}
        return {**kept, **home, "PATH": path, "VIRTUAL_ENV": str(VENV), "DO_NOT_TRACK": "1"}

    def _why_it_did_not_start(self, error: dict[str, Any]) -> str:
        if error["code"] == "port_in_use":
            return _port_problem(self.port)
        lines = read_log(self.log).strip().splitlines() if self.log.is_file() else []
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
    return subprocess.run([venv_program("python"), "-c", code], capture_output=True).returncode == 0


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


def check_port(port: int) -> None:
    """Refuse a port that something else listens on."""
    with socket.socket() as probe:
        if os.name != "nt":
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except (OSError, OverflowError):
            raise Problem(_port_problem(port)) from None


def _port_problem(port: int) -> str:
    return f"Port {port} cannot be used, something else may listen there: give a free one with --port."
