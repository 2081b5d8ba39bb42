import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from comfyui_cascade.cli.main import main
from comfyui_cascade.pipeline.picture import read_parameters
from comfyui_cascade.weights import path as embedded
from PIL import Image

ROOT = Path(__file__).resolve().parents[2]
BOAT = str(ROOT / "pictures" / "boat.png")
CANNY, INPAINT = (str(embedded(f"controlnet_{kind}")) for kind in ("canny", "inpaint"))
QUICK = ("--size", "64x64", "--steps-prior", "1", "--steps-decoder", "1", "--seed", "3")


def generate(*arguments):
    return main(["generate", *map(str, arguments)])


def refused(capsys, *arguments):
    """The sentence of an error with status 2, of argparse, or 1."""
    try:
        status = generate(*arguments)
    except SystemExit as stopped:
        status = stopped.code
    assert status in (1, 2)
    said = capsys.readouterr()
    assert said.out == ""
    return said.err.splitlines()[-1]


def test_several_pictures_are_numbered_and_say_how_they_were_drawn(tmp_path, capsys):
    out = tmp_path / "boat.png"
    assert generate("a red zeppelin", "--num-images", 2, "--out", out, *QUICK) == 0
    said = capsys.readouterr()
    written = [tmp_path / "boat_0.png", tmp_path / "boat_1.png"]
    assert said.out.splitlines() == [str(path) for path in written]
    assert "does not know, and left out: zeppelin" in said.err
    assert "Stage C" in said.err
    assert "Stage B" in said.err
    assert sorted(tmp_path.iterdir()) == written
    pictures = [np.asarray(Image.open(path)) for path in written]
    assert pictures[0].shape == (64, 64, 3)
    assert not np.array_equal(*pictures)
    told = read_parameters(written[1])
    assert told == json.loads(Image.open(written[1]).text["cascade"])
    assert told["prompt"] == "a red zeppelin"
    assert (told["seed"], told["picture"], told["stage_c"]["steps"]) == (3, 1, 1)


def test_pictures_that_steer_are_told_in_the_picture(tmp_path):
    out, steered = tmp_path / "boat.png", ("--controlnet", f"{CANNY}:0.8", "--control-image", BOAT)
    assert generate("a boat", *steered, "--style-image", f"{BOAT}:0.6", "--out", out, *QUICK) == 0
    told = read_parameters(out)
    assert told["controlnets"] == [["controlnet_canny.safetensors", 0.8, "boat.png"]]
    assert told["style_images"] == [["boat.png", 0.6]]


def test_it_runs_where_there_is_no_comfyui(tmp_path):
    """In a process of its own, from a folder with nothing of ComfyUI's."""
    command = [sys.executable, "-P", ROOT, "generate", "a boat", "--out", "a.png", *QUICK]
    code = f"""
import runpy, sys
sys.argv = {[str(part) for part in command[2:]]!r}
try:
    runpy.run_path({str(ROOT)!r}, run_name="__main__")
except SystemExit as stopped:
    assert not stopped.code, stopped.code
assert not [name for name in sys.modules if name.partition(".")[0] in ("comfy", "folder_paths", "server")]
"""
    subprocess.run([sys.executable, "-P", "-c", code], cwd=tmp_path, check=True)
    assert Image.open(tmp_path / "a.png").size == (64, 64)


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--size", "100x64"], "multiples of 8 from 64 to 16384, such as 96x64"),
        (["--size", "large"], "'large' is no size; write it as 256x256"),
        (["--num-images", "0"], "'0' is no number of pictures"),
        (["--seed", "-1"], "the seed is -1"),
        (["--steps-prior", "0"], "Stage C: steps is 0"),
        (["--sampler-decoder", "dpmpp_sde"], "Stage B: there is no sampler 'dpmpp_sde' without ComfyUI"),
        (["--scheduler-prior", "beta"], "Stage C: there is no scheduler 'beta' without ComfyUI"),
        (["--denoise-prior", "2"], "Stage C: denoise is 2.0"),
        (["--guidance-prior", "-3"], "Stage C: the guidance is -3.0"),
        (["--guidance-prior", "nan"], "Stage C: the guidance is nan"),
        (["--rescale", "7"], "rescale is 7.0"),
        (["--image", "nothing.png"], "there is no `nothing.png`"),
        (["--lora", "nothing.safetensors:0.5"], "there is no `nothing.safetensors`"),
        (["--lora", "a.safetensors:nan"], "write the file, a colon and a strength"),
        (["--stage-c", "nothing.safetensors"], "there is no `nothing.safetensors`"),
        (["--stage-c", str(embedded("stage_b"))], "is a Stage B"),
        (["--device", "abacus"], "torch has no device 'abacus'"),
        (["--out", "a.gif"], "give the path of a file that ends in .png"),
        (["--out", "missing/a.png"], "there is no folder `missing`"),
        (["--feather", "-1"], "--feather is -1"),
        (["--controlnet", CANNY], "1 times and --control-image or --control-hint 0 times: give each"),
        (["--control-hint", BOAT], "a ControlNet follows: give --controlnet as well"),
        (["--control-mask", BOAT], "--control-mask says where a ControlNet follows: give --controlnet"),
        (["--controlnet", str(embedded("stage_b")), "--control-image", BOAT], "is a Stage B"),
        (["--controlnet", "nothing.safetensors", "--control-image", BOAT], "`nothing.safetensors` does not"),
        (["--controlnet", CANNY, "--control-image", "nothing.png"], "there is no `nothing.png`"),
        (["--controlnet", CANNY, "--control-image", BOAT, "--control-mask", BOAT], "no such ControlNet is"),
        (["--controlnet", INPAINT, "--control-image", BOAT], "fills a hole, and no mask says where"),
        (["--controlnet", INPAINT, "--control-hint", BOAT], "follows a hint of 4 channels"),
        (["--image-adapter", str(embedded("image_adapter"))], "give --style-image as well"),
        (["--image-adapter", CANNY, "--style-image", BOAT], "is a Stage C ControlNet"),
    ],
)
def test_a_wrong_option_is_one_sentence_and_writes_nothing(
    tmp_path, monkeypatch, capsys, arguments, sentence
):
    monkeypatch.chdir(tmp_path)
    assert sentence in refused(capsys, "a boat", *QUICK, *arguments)
    assert list(tmp_path.iterdir()) == []


def test_a_mask_of_another_size_and_a_page_named_png_are_told(tmp_path, capsys):
    Image.new("RGB", (128, 64)).save(tmp_path / "a.png")
    Image.new("L", (64, 64)).save(tmp_path / "mask.png")
    (tmp_path / "page.png").write_text("<html>")
    out = ("--out", tmp_path / "out.png")
    masked = ("--image", tmp_path / "a.png", "--mask", tmp_path / "mask.png", *out)
    assert "the picture is 128x64 pixels and the mask 64x64" in refused(capsys, "a boat", *masked)
    assert "--mask says where --image" in refused(capsys, "a boat", *masked[2:])
    assert "cannot be read as a picture" in refused(capsys, "a", "--image", tmp_path / "page.png", *out)


def test_an_interrupted_write_leaves_the_old_picture(tmp_path, monkeypatch, capsys):
    out = tmp_path / "a.png"
    out.write_bytes(b"old")
    monkeypatch.setattr(Image.Image, "save", _full_disk)
    assert generate("a boat", "--out", out, *QUICK) == 1
    assert "No space left on device" in capsys.readouterr().err
    assert [path.read_bytes() for path in tmp_path.iterdir()] == [b"old"]


def _full_disk(*_, **__):
    raise OSError(28, "No space left on device")
