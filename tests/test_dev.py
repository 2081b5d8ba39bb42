"""What dev.py puts into a workflow, what it installs, and what it says when something is wrong."""

import argparse
import hashlib
import io
import json
import os
import re
import socket
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest
from comfy_host import ROOT
from dev_script import dev
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from development import environment
from development.progress import Problem, Steps
from development.server import check_port, run_problem
from development.workflow import find_node, set_widget, with_workflow

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib


def _sampler(*values):
    names = ["model", "positive", "seed", "steps", "cfg"]
    inputs = [{"name": n, "type": "*", **({"widget": {"name": n}} if n in names[2:] else {})} for n in names]
    return {"id": 3, "type": "CascadeSampler", "inputs": inputs, "widgets_values": list(values)}


def _node(type, title=None, **widgets):
    inputs = [{"name": name, "widget": {"name": name}} for name in widgets]
    titled = {"title": title} if title else {}
    return {"id": 1, "type": type, "inputs": inputs, "widgets_values": list(widgets.values()), **titled}


# Widgets by name


def test_widget_after_a_seed_skips_what_happens_after_each_run():
    node = _sampler(1, "fixed", 20, 4.0)
    set_widget(node, "steps", 30)
    assert node["widgets_values"] == [1, "fixed", 30, 4.0]


def test_widget_after_a_seed_without_control_takes_the_next_value():
    node = _sampler(1, 20, 4.0)
    set_widget(node, "cfg", 2.0)
    assert node["widgets_values"] == [1, 20, 2.0]


def test_seed_is_the_value_before_its_control():
    node = _sampler(1, "randomize", 20, 4.0)
    set_widget(node, "seed", 7)
    assert node["widgets_values"] == [7, "randomize", 20, 4.0]


def test_unknown_widget_is_named_in_the_problem():
    with pytest.raises(Problem, match="no widget 'height'"):
        set_widget(_sampler(1, "fixed", 20, 4.0), "height", 5)


# Nodes by title and type


def test_node_is_found_by_its_title_among_others_of_its_type():
    wanted = _node("CLIPTextEncode", "Negative prompt", text="fog")
    workflow = {"nodes": [_node("CLIPTextEncode", "Prompt", text="boat"), wanted]}
    assert find_node(workflow, title="Negative prompt") is wanted


def test_missing_node_is_named_in_the_problem():
    with pytest.raises(Problem, match="no node with the type 'CascadeSampler'"):
        find_node({"nodes": []}, type="CascadeSampler")


def test_demo_puts_its_values_into_the_shipped_workflow(monkeypatch, tmp_path):
    nodes = [
        _node("CLIPTextEncode", "Prompt", text=""),
        _node("CLIPTextEncode", "Negative prompt", text="kept"),
        _sampler(1, "fixed", 20, 4.0),
        _node("CascadeEmptyLatents", width=256, height=256),
    ]
    monkeypatch.setattr(dev, "WORKFLOW", tmp_path / "text_to_image.json")
    dev.WORKFLOW.write_text(json.dumps({"nodes": nodes}))
    options = argparse.Namespace(prompt="boat", negative=None, seed=9, width=None, height=128)
    prompt, negative, sampler, latents = dev._read_workflow(options)["nodes"]
    assert prompt["widgets_values"] == ["boat"]
    assert negative["widgets_values"] == ["kept"]
    assert sampler["widgets_values"][0] == 9
    assert latents["widgets_values"] == [256, 128]


def test_picture_carries_the_workflow_and_what_it_had_before():
    had = PngInfo()
    had.add_text("prompt", "{}")
    png = io.BytesIO()
    Image.new("RGB", (3, 2), "red").save(png, "PNG", pnginfo=had)
    carrying = with_workflow(png.getvalue(), {"nodes": [], "title": "\u00e9t\u00e9"})
    image = Image.open(io.BytesIO(carrying))
    assert image.size == (3, 2)
    assert json.loads(image.text["workflow"]) == {"nodes": [], "title": "\u00e9t\u00e9"}
    assert image.text["prompt"] == "{}"
    assert with_workflow(carrying, {"nodes": [1]}) == carrying


# What is installed


def test_pins_equal_to_comfyui_s_own_are_all_kept():
    ours = "torch==2.11.0\ncomfy-kitchen==0.2.26\n"
    assert environment.constraints_for("torch\ncomfy-kitchen==0.2.26\nnumpy>=1.25\n", ours) == ours


def test_pins_that_comfyui_pins_otherwise_go_with_the_parts_of_those_packages():
    ours = "comfyui-workflow-templates==0.11.27\ncomfyui-workflow-templates-core==0.3.292\ntorch==2.11.0\n"
    assert environment.constraints_for("comfyui_workflow_templates==0.1.95\n", ours) == "torch==2.11.0\n"


def test_every_dependency_is_pinned():
    pinned = environment._pins((ROOT / "constraints.txt").read_text())
    missing = [name for name in _dependencies() if name not in pinned]
    assert not missing, f"constraints.txt has no pin for {missing}: its first lines say how it is made"


def test_requirements_list_what_comfyui_does_not_bring():
    from comfy_host import comfy_tree

    theirs = {name.lower() for name in _names((comfy_tree() / "requirements.txt").read_text())}
    ours = set(_names((ROOT / "requirements.txt").read_text()))
    assert ours == {name for name in _dependencies(extras=False) if name not in theirs}


def _names(text):
    return re.findall(r"^([A-Za-z][\w.-]*)", text, re.MULTILINE)


def _dependencies(extras=True):
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    lines = project["dependencies"]
    if extras:
        lines = lines + [line for extra in project["optional-dependencies"].values() for line in extra]
    return [environment._normal(_names(line)[0]) for line in lines]


# The ComfyUI archive


def _archive(path, *members):
    with tarfile.open(path, "w:gz") as archive:
        for name, kind, content in members:
            member = tarfile.TarInfo(name)
            member.type, member.linkname = kind, content.decode()
            member.size = len(content) if kind == tarfile.REGTYPE else 0
            archive.addfile(member, io.BytesIO(content) if member.size else None)
    return path


def test_unpacking_takes_one_folder_of_the_archive(tmp_path):
    archive = _archive(
        tmp_path / "a.tar.gz",
        ("p/vendor/ComfyUI/comfy/sd.py", tarfile.REGTYPE, b"x = 1\n"),
        ("p/setup.py", tarfile.REGTYPE, b"bad\n"),
    )
    environment.unpack(archive, "p/vendor/ComfyUI/", tmp_path / "out")
    files = [f for f in (tmp_path / "out").rglob("*") if f.is_file()]
    assert [f.relative_to(tmp_path / "out").as_posix() for f in files] == ["comfy/sd.py"]
    assert files[0].read_bytes() == b"x = 1\n"


@pytest.mark.parametrize(
    "member",
    [
        ("p/vendor/ComfyUI/../../../evil.py", tarfile.REGTYPE, b"x"),
        ("p/vendor/ComfyUI//etc/evil.py", tarfile.REGTYPE, b"x"),
        ("p/vendor/ComfyUI/link", tarfile.SYMTYPE, b"/etc/passwd"),
        ("p/vendor/ComfyUI/link", tarfile.LNKTYPE, b"p/setup.py"),
    ],
)
def test_unpacking_refuses_paths_and_links_out_of_the_folder(tmp_path, member):
    archive = _archive(tmp_path / "a.tar.gz", member)
    with pytest.raises(Problem, match="do not use this archive"):
        environment.unpack(archive, "p/vendor/ComfyUI/", tmp_path / "out")
    assert not any(f.is_file() for f in (tmp_path / "out").rglob("*"))


def test_archive_with_another_checksum_is_refused(monkeypatch, tmp_path):
    archive = tmp_path / "comfy.tar.gz"
    monkeypatch.setattr(environment, "ARCHIVE", archive)
    monkeypatch.setattr(environment, "_download_archive", lambda step: archive.write_bytes(b"something else"))
    with pytest.raises(Problem, match=hashlib.sha256(b"something else").hexdigest()):
        environment._fetch_comfyui(Steps())


# Mounting


def _mount(monkeypatch, tmp_path):
    monkeypatch.setattr(environment, "BASE", tmp_path / "base")
    environment.mount()
    return tmp_path / "base"


def test_mounting_links_this_checkout_as_the_pack(monkeypatch, tmp_path):
    base = _mount(monkeypatch, tmp_path)
    assert (base / "custom_nodes" / "ComfyUI-Cascade").resolve() == ROOT


def test_mounting_again_keeps_settings_that_were_changed(monkeypatch, tmp_path):
    settings = _mount(monkeypatch, tmp_path) / "user" / "default" / "comfy.settings.json"
    assert json.loads(settings.read_text()) == {"Comfy.TutorialCompleted": True}
    settings.write_text("{}")
    environment.mount()
    assert settings.read_text() == "{}"


def test_mounting_copies_where_links_are_not_allowed(monkeypatch, tmp_path):
    def refuse(*_, **__):
        raise OSError("a required privilege is not held by the client")

    monkeypatch.setattr(Path, "symlink_to", refuse)
    pack = _mount(monkeypatch, tmp_path) / "custom_nodes" / "ComfyUI-Cascade"
    assert not pack.is_symlink()
    assert (pack / "__init__.py").read_text() == (ROOT / "__init__.py").read_text()
    assert not (pack / ".venv").exists()


# Problems in one sentence


@pytest.mark.parametrize(
    ("output", "sentence"),
    [
        ("OSError: [Errno 28] No space left on device", "disk is full"),
        (
            "NewConnectionError('Failed to establish')\nERROR: No matching distribution found for torch",
            "network",
        ),
        ("ERROR: No matching distribution found for torch==2.11.0", "pip finds no torch==2.11.0 for Python"),
        ("ERROR: THESE PACKAGES DO NOT MATCH THE HASHES FROM THE REQUIREMENTS FILE.", "SHA-256"),
        ("ERROR: first\nERROR: ResolutionImpossible: help", "ResolutionImpossible: help"),
        ("", "no error message"),
    ],
)
def test_pip_failures_become_a_sentence(output, sentence):
    problem = environment.pip_problem(output)
    assert sentence in problem
    assert "\n" not in problem


def test_run_problem_names_every_node_that_was_refused():
    findings = [{"node_id": "3", "field": "steps", "message": "500 is above 100"}]
    assert (
        run_problem({"message": "bad", "details": {"errors": findings}}) == "node 3, steps: 500 is above 100."
    )
    assert (
        run_problem({"message": "Sampler (node 3): no noise\n", "details": None})
        == "Sampler (node 3): no noise."
    )


def test_port_in_use_is_a_problem():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with pytest.raises(Problem, match="--port"):
            check_port(taken.getsockname()[1])


def _run(*arguments, **environment):
    command = [sys.executable, ROOT / "dev.py", *arguments]
    return subprocess.run(command, capture_output=True, text=True, env={**os.environ, **environment})


def test_comfyui_path_without_comfyui_is_one_line_on_stderr(tmp_path):
    done = _run("check", COMFYUI_PATH=str(tmp_path))
    assert done.returncode == 1
    assert done.stderr.startswith("error: COMFYUI_PATH is")
    assert done.stderr.count("\n") == 1


def test_python_that_is_too_old_is_told_so(monkeypatch, capsys):
    monkeypatch.setattr(sys, "version_info", (3, 9, 1))
    assert dev.main(["check"]) == 1
    assert "3.10 is needed" in capsys.readouterr().err


def test_arguments_of_other_verbs_are_refused():
    done = _run("check", "--seed", "4")
    assert done.returncode == 2
    assert "check does not know --seed 4" in done.stderr


@pytest.mark.parametrize("module", ["training", "benchmarks.small_cascade"])
def test_arguments_of_training_and_measuring_reach_them(module, capfd):
    assert dev._module(module, "--nonsense") == 2
    assert "usage:" in capfd.readouterr().err


@pytest.mark.parametrize("verb", ["train", "eval"])
def test_only_the_small_cascade_is_trained_and_measured(verb):
    done = _run(verb, "large")
    assert done.returncode == 2
    assert "invalid choice: 'large'" in done.stderr
