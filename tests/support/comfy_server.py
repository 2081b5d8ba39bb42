"""A real ComfyUI in a process of its own, with this checkout mounted as a pack."""

import io
import json
import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from comfy_host import ROOT, comfy_tree
from PIL import Image

PACK = "ComfyUI-Cascade"
VALIDATES = Path(__file__).with_name("validate_endpoint")
"""A pack with the route that ``validate`` asks."""

START_SECONDS = 180
RUN_SECONDS = 600


class PromptError(AssertionError):
    """ComfyUI refused a prompt, or a node of it raised; the text is what ComfyUI said."""


class ComfyServer:
    """Starts at construction, answers until ``stop``.

    Args:
        base: folder to make, for models, pictures and the pack.
        pack: what is mounted as the pack; this checkout by default.
        beside: other packs, mounted under the names of their folders.
    """

    def __init__(self, base: Path, pack: Path = ROOT, beside: Sequence[Path] = ()):
        for folder in ("models", "custom_nodes", "input", "output", "temp", "user"):
            (base / folder).mkdir(parents=True)
        self._packs = {PACK: pack, **{path.name: path for path in beside}}
        for name, path in self._packs.items():
            (base / "custom_nodes" / name).symlink_to(path, target_is_directory=True)
        self.base = base
        self.models_dir = base / "models"
        self.port = _free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.log_file = base / "server.log"
        self._process = self._start()
        self._wait_until_ready()

    def _start(self) -> subprocess.Popen:
        import torch

        flags = ["--port", str(self.port), "--base-directory", str(self.base), "--disable-auto-launch"]
        flags += ["--disable-all-custom-nodes", "--whitelist-custom-nodes", *self._packs]
        flags += ["--disable-api-nodes", "--database-url", "sqlite:///:memory:"]
        if not torch.accelerator.is_available():
            flags.append("--cpu")
        # main.py finds its modules through the script's folder, which PYTHONSAFEPATH takes off sys.path.
        environment = {k: v for k, v in os.environ.items() if k != "PYTHONSAFEPATH"}
        with self.log_file.open("wb") as log:
            return subprocess.Popen(
                [sys.executable, "main.py", *flags],
                cwd=comfy_tree(),
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
            )

    def _wait_until_ready(self):
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline:
            if self._process.poll() is not None:
                raise AssertionError(f"ComfyUI stopped while starting. Its log ends:\n{self._tail()}")
            try:
                self._get("/system_stats")
                return
            except urllib.error.URLError:
                time.sleep(0.2)
        self.stop()
        raise AssertionError(f"ComfyUI did not answer in {START_SECONDS} s. Its log ends:\n{self._tail()}")

    def stop(self):
        """End the process; a second call does nothing."""
        self._process.terminate()
        try:
            self._process.wait(20)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def log(self) -> str:
        """Everything ComfyUI has printed so far."""
        return self.log_file.read_text(errors="replace")

    def forget_peak(self):
        """Begin to count anew what ``peak_memory`` tells."""
        Path(f"/proc/{self._process.pid}/clear_refs").write_text("5")

    def peak_memory(self) -> int:
        """The most bytes that the server has had in memory; Linux alone tells."""
        status = Path(f"/proc/{self._process.pid}/status").read_text()
        (line,) = (line for line in status.splitlines() if line.startswith("VmHWM:"))
        return int(line.split()[1]) * 1024

    def free(self):
        """Have the server forget its models and results before the next prompt."""
        body = json.dumps({"unload_models": True, "free_memory": True}).encode()
        request = urllib.request.Request(self.url + "/free", body, {"Content-Type": "application/json"})
        urllib.request.urlopen(request, timeout=60).read()

    def object_info(self) -> dict[str, Any]:
        """Every node ComfyUI knows, by id."""
        return self._json("/object_info")

    def translations(self) -> dict[str, Any]:
        """The packs' texts by language, as ComfyUI's page gets them."""
        return self._json("/i18n")

    def served(self, path: str) -> bytes:
        """What the page gets from an address of the server."""
        return self._get(path)

    def queue(self, prompt: dict[str, Any]) -> dict[str, Any]:
        """The history entry of an API-format prompt, run to its end; PromptError says what went wrong."""
        answer = self._submit(prompt)
        return self._history(answer["prompt_id"])

    def error(self, prompt: dict[str, Any]) -> str:
        """What ComfyUI says about a prompt that must fail, in validation or while it runs."""
        try:
            self.queue(prompt)
        except PromptError as error:
            return str(error)
        raise AssertionError("The prompt was expected to fail, and it ran.")

    def validate(self, prompt: dict[str, Any]) -> str:
        """What ComfyUI has against a prompt, without running it; empty if it would take it."""
        try:
            answer = self._send("/validate", prompt)
        except PromptError as error:
            return str(error)
        return _validation_text(answer)

    def images(self, entry: dict[str, Any]) -> list[Image.Image]:
        """The pictures a finished prompt saved or previewed, in node order."""
        found = [image for output in entry["outputs"].values() for image in output.get("images", [])]
        return [self._image("/view?" + urllib.parse.urlencode(image)) for image in found]

    def upload(self, name: str, image: Image.Image) -> str:
        """Put a picture where LoadImage finds it; returns the value for its ``image`` input."""
        image.save(self.base / "input" / name)
        return name

    def run_workflow(self, path: Path) -> list[Image.Image]:
        """Run a workflow file as saved from the browser, through comfy-cli, and return its pictures."""
        home = self.base / "home"  # comfy-cli keeps its settings here and not in the developer's own
        home.mkdir(exist_ok=True)
        comfy = Path(sys.executable).with_name("comfy")
        command = [comfy, "--skip-prompt", "--json", "run", "--workflow", path, "--wait", "--where", "local"]
        command += ["--host", "127.0.0.1", "--port", str(self.port), "--timeout", str(RUN_SECONDS)]
        done = subprocess.run(
            command,
            env={**os.environ, "HOME": str(home), "USERPROFILE": str(home), "DO_NOT_TRACK": "1"},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
        )
        try:
            answer = json.loads(done.stdout)
        except ValueError:
            raise PromptError(f"comfy run printed no answer.\n{done.stdout}\n{done.stderr}") from None
        if not answer["ok"]:
            error = answer["error"]
            details = json.dumps(error.get("details"), indent=1)[:2000]
            raise PromptError(f"{path.name}: {error['message']}\n{details}")
        return self.images(self._history(answer["data"]["prompt_id"]))

    def _submit(self, prompt):
        answer = self._send("/prompt", prompt)
        if answer["node_errors"]:
            raise PromptError(_validation_text(answer))
        return answer

    def _send(self, path, prompt):
        """The answer to a prompt sent to an address; PromptError if it was refused."""
        body = json.dumps({"prompt": prompt}).encode()
        request = urllib.request.Request(self.url + path, body, {"Content-Type": "application/json"})
        try:
            return json.loads(urllib.request.urlopen(request, timeout=60).read())
        except urllib.error.HTTPError as error:
            raise PromptError(_validation_text(json.loads(error.read()))) from None

    def _history(self, prompt_id):
        deadline = time.monotonic() + RUN_SECONDS
        while time.monotonic() < deadline:
            entry = self._json(f"/history/{prompt_id}").get(prompt_id)
            if entry is not None:
                return _succeeded(entry)
            if self._process.poll() is not None:
                raise PromptError(f"ComfyUI stopped while running. Its log ends:\n{self._tail()}")
            time.sleep(0.05)
        raise PromptError(f"The prompt was not done after {RUN_SECONDS} s. The log ends:\n{self._tail()}")

    def _get(self, path) -> bytes:
        with urllib.request.urlopen(self.url + path, timeout=60) as answer:
            return answer.read()

    def _json(self, path) -> Any:
        return json.loads(self._get(path))

    def _image(self, path) -> Image.Image:
        image = Image.open(io.BytesIO(self._get(path)))
        image.load()
        return image

    def _tail(self) -> str:
        return "\n".join(self.log().splitlines()[-40:])


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def _validation_text(answer) -> str:
    """All that ComfyUI has against a prompt, one line each."""
    error = answer.get("error") or {}
    lines = [": ".join(filter(None, (error.get("message"), error.get("details"))))] if error else []
    for id, node in answer.get("node_errors", {}).items():
        for item in node["errors"]:
            lines.append(f"{node['class_type']} (node {id}): {item['message']}: {item['details']}")
    return "\n".join(lines)


def _succeeded(entry):
    for event, data in entry["status"]["messages"]:
        if event == "execution_error":
            trace = "".join(data["traceback"][-3:])
            raise PromptError(
                f"{data['node_type']} (node {data['node_id']}) raised {data['exception_type']}: "
                f"{data['exception_message'].strip()}\n{trace}"
            )
    if entry["status"]["status_str"] != "success":
        raise PromptError(f"The prompt ended as {entry['status']['status_str']!r}.")
    return entry
