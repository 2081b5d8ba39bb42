"""comfy-test itself, on a copy of the pack and the tests' ComfyUI. comfy-test.toml says at which levels."""

import json
import os
import shutil
import subprocess
import sys
import tempfile

import pytest
from comfy_cli.workflow_to_api import convert_ui_to_api
from comfy_host import ROOT, comfy_tree
from comfy_server import PACK
from shipped_workflows import inputs, read

from development import chromium

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

PROGRAM = ROOT / "tests" / "support" / "comfy_test_program.py"
CONFIG = (ROOT / "comfy-test.toml").read_text(encoding="utf-8")
TEST = tomllib.loads(CONFIG)["test"]
LEVELS = TEST["levels"]
SHIPPED = sorted(path.name for path in (ROOT / "workflows").glob("*.json"))
LEFT_OUT = {name.removeprefix("!") for name in TEST["workflows"]["cpu"]}
"""Workflows that are opened and not run."""

FEW = ["stage_by_stage.json"]
"""Workflows that are opened and run in every run of the tests; ``--slow`` takes all."""


@pytest.fixture
def pack(tmp_path):
    """A copy of the pack where comfy-test looks for it: in custom_nodes of a ComfyUI, and no link."""
    comfyui = tmp_path / "ComfyUI"
    comfyui.mkdir()
    for entry in comfy_tree().iterdir():
        if entry.name != "custom_nodes":
            (comfyui / entry.name).symlink_to(entry)
    unwanted = shutil.ignore_patterns(".*", "__pycache__", "*.egg-info", "build", "dist")
    return shutil.copytree(ROOT, comfyui / "custom_nodes" / PACK, ignore=unwanted)


@pytest.fixture
def comfy_test(pack, tmp_path):
    """Run the program in the pack's folder; its exit status and what it printed."""
    home = tmp_path / "home"
    home.mkdir()
    tools = tmp_path / "tools"
    tools.mkdir()
    no = tools / "sudo"  # it would install graphics drivers on the machine
    no.write_text("#!/bin/sh\nexit 1\n")
    no.chmod(0o755)
    # Its Python finds ComfyUI through the folder it is started in, which PYTHONSAFEPATH takes off sys.path.
    kept = {name: value for name, value in os.environ.items() if name != "PYTHONSAFEPATH"}

    def run(*words, **more):
        # Chromium keeps sockets among its temporary files, and their paths must be short.
        with tempfile.TemporaryDirectory(prefix="ct-", ignore_cleanup_errors=True) as scratch:
            done = subprocess.run(
                [sys.executable, "-P", PROGRAM, chromium.find() or "", *words],
                cwd=pack,
                env={
                    **kept, **more, "HOME": str(home), "USERPROFILE": str(home), "TMPDIR": scratch,
                    "PATH": os.pathsep.join([str(tools), kept.get("PATH", "")]),
                },
                stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
            )  # fmt: skip
        return done.returncode, done.stdout

    return run


@pytest.mark.parametrize("check", ["lint", "coverage"])
def test_source_passes(check, comfy_test):
    status, said = comfy_test(check, "--strict")
    assert status == 0, said


def test_a_node_that_no_workflow_uses_is_found(pack, comfy_test):
    (pack / "workflows" / "merge_lora.json").unlink()
    status, said = comfy_test("coverage", "--strict")
    assert status == 1
    assert "CascadeSaveStage" in said


@pytest.mark.parametrize(
    "workflows", [pytest.param(FEW, id="few"), pytest.param(None, id="all", marks=pytest.mark.slow)]
)
def test_every_level_passes(workflows, pack, comfy_test, server, tmp_path):
    if chromium.find() is None:
        pytest.skip("comfy-test opens workflows in a Chromium, and there is none: apt install chromium")
    if workflows:
        (pack / "comfy-test.toml").write_text(f"{CONFIG}run = {json.dumps(workflows)}\n")
    logs = tmp_path / "logs"
    logs.mkdir()
    (logs / "server.log").symlink_to(server.log_file)  # the registration level looks in it for failed imports
    before = len(prompts(server))
    status, said = comfy_test("run", "--server-url", server.url, COMFY_TEST_LOGS_DIR=str(logs))
    assert status == 0, said
    assert [level for level in LEVELS if f"[{level.upper()}] PASSED" not in said] == []
    (results,) = logs.rglob("results.json")
    ran = {entry["name"]: entry["status"] for entry in json.loads(results.read_text())["workflows"]}
    names = {name.removesuffix(".json") for name in workflows or SHIPPED}
    assert ran == {name: "skipped" if name in LEFT_OUT else "pass" for name in names}
    # It looks neither whether the page shows what it has opened there, nor whether there is a browser at all.
    known = server.object_info()
    opened = [convert_ui_to_api(read(name), known) for name in sorted(names - LEFT_OUT)]
    assert [inputs(prompt) for prompt in prompts(server)[before:]] == [inputs(prompt) for prompt in opened]
    pictures = {path.stem for path in (results.parent / "screenshots").glob("*.png")}
    assert pictures == names | {f"{name}_executed" for name in names - LEFT_OUT}


def prompts(server):
    """What has run so far, in order."""
    entries = json.loads(server.served("/history")).values()
    return [
        prompt for _, _, prompt, *_ in sorted((entry["prompt"] for entry in entries), key=lambda run: run[0])
    ]
