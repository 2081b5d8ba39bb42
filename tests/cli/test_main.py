import json
import subprocess
import sys
from pathlib import Path

import pytest
from comfyui_cascade.cli.main import main
from comfyui_cascade.weights import path as embedded

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def broken(tmp_path):
    path = tmp_path / "page.safetensors"
    path.write_bytes(b"<html>")
    return path


def test_identify_prints_a_table(capsys):
    assert main(["identify", str(embedded("stage_a")), str(embedded("stage_c"))]) == 0
    head, first, second = capsys.readouterr().out.splitlines()
    assert head.split() == ["FILE", "WHAT", "NAMES", "PRECISION", "PARAMETERS", "SIZE", "DETAILS"]
    assert first.startswith("stage_a.safetensors  a Stage A  ")
    assert second.startswith("stage_c.safetensors  a Stage C  ")
    assert first.index("bf16") == second.index("bf16") == head.index("PRECISION")


def test_identify_goes_on_after_a_file_it_cannot_read(capsys, broken):
    assert main(["identify", str(broken), str(embedded("stage_a"))]) == 1
    _, first, second = capsys.readouterr().out.splitlines()
    assert first.startswith("`page.safetensors` is a web page")
    assert second.startswith("stage_a.safetensors")


def test_identify_of_one_broken_file_is_one_line(capsys, broken):
    assert main(["identify", str(broken)]) == 1
    assert len(capsys.readouterr().out.splitlines()) == 1


def test_identify_prints_json(capsys, broken):
    assert main(["identify", "--json", str(embedded("text_encoder")), str(broken)]) == 1
    found = json.loads(capsys.readouterr().out)
    assert found[0]["part"] == "text_encoder"
    assert found[0]["parts"][0]["sizes"]["width"] == 128
    assert found[1].keys() == {"file", "error"}


def test_identify_opens_folders(capsys):
    assert main(["identify", str(ROOT / "weights")]) == 0
    assert "stage_b.safetensors" in capsys.readouterr().out


def test_convert_writes_and_says_what(capsys, tmp_path):
    out = tmp_path / "a.safetensors"
    command = ["convert", str(embedded("stage_c")), str(out), "--layout", "diffusers", "--dtype", "fp16"]
    assert main(command) == 0
    assert capsys.readouterr().out.startswith(str(out))
    assert main(["identify", str(out)]) == 0
    assert "a Stage C  diffusers  fp16" in capsys.readouterr().out


def test_convert_says_in_one_line_what_is_wrong(capsys, broken, tmp_path):
    assert main(["convert", str(broken), str(tmp_path / "a.safetensors"), "--layout", "stability"]) == 1
    error = capsys.readouterr().err
    assert error.startswith("error: `page.safetensors` is a web page")
    assert error.count("\n") == 1


def test_folder_itself_can_be_run(broken):
    done = subprocess.run(
        [sys.executable, str(ROOT), "identify", str(broken)],
        capture_output=True,
        text=True,
        cwd=broken.parent,
    )
    assert (done.returncode, done.stderr) == (1, "")
    assert done.stdout.startswith("`page.safetensors` is a web page")
