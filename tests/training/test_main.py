"""The command line."""

import subprocess
import sys

import pytest
import tiny_runs
from comfyui_cascade.checkpoints.identify import Part
from comfyui_cascade.checkpoints.open import load_part
from comfyui_cascade.training import __main__ as command


def called(monkeypatch, *arguments):
    monkeypatch.setattr(sys, "argv", ["training", *map(str, arguments)])
    return command.main()


def test_a_bad_recipe_is_one_line_of_error(tmp_path):
    recipe = tmp_path / "bad.toml"
    recipe.write_text(tiny_runs.toml(tiny_runs.recipe("stage_c", schedule={"setps": 3})))
    done = subprocess.run(
        [sys.executable, "-P", "-m", "comfyui_cascade.training", "run", recipe, "--base", tmp_path],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 1
    assert done.stderr == "error: bad.toml: schedule: nothing is called setps; the nearest name is steps\n"
    assert not done.stdout


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"part": "stage_d"}, "no part is called stage_d; the nearest name is stage_c"),
        ({"companions": {"text_encoder": "no.safetensors"}}, "no.safetensors is not there"),
        ({"network": {"channels": 4}}, "network (stage_c) lacks trunk; add it"),
        ({"data": {"picturebook": 0, "folder": "empty"}}, "holds no pictures"),
    ],
)
def test_what_does_not_fit_is_one_line_of_error(changes, sentence, base, tmp_path, monkeypatch, capsys):
    recipe = tmp_path / "bad.toml"
    table = tiny_runs.recipe("stage_c", **changes)
    for name, file in table["companions"].items():
        table["companions"][name] = str(base / file)
    recipe.write_text(tiny_runs.toml(table))
    assert called(monkeypatch, "run", recipe, "--base", tmp_path, "--device", "cpu") == 1
    (line,) = [line for line in capsys.readouterr().err.splitlines() if "error" in line]
    assert line.startswith("error: ")
    assert sentence in line


def test_a_recipe_that_is_not_there_is_one_line_of_error(tmp_path, monkeypatch, capsys):
    assert called(monkeypatch, "run", tmp_path / "none.toml", "--base", tmp_path) == 1
    assert capsys.readouterr().err.startswith("error: ")


def test_a_run_writes_its_file_into_a_folder_of_the_recipes_name(base, tmp_path, monkeypatch, capsys):
    recipe = tmp_path / "mine.toml"
    recipe.write_text(tiny_runs.toml(tiny_runs.recipe("text_encoder", schedule={"steps": 2})))
    assert called(monkeypatch, "run", recipe, "--base", tmp_path, "--device", "cpu", "--threads", "1") == 0
    path = tmp_path / "mine" / "text_encoder.safetensors"
    assert f"written: {path}" in capsys.readouterr().err
    load_part(path, Part.TEXT_ENCODER)
