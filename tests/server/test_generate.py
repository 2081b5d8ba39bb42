"""The command line and a real server, on the workflows that ship: the same picture, pixel by pixel."""

import json

import numpy as np
import pytest
from comfy_host import ROOT
from comfyui_cascade.cli.main import main
from comfyui_cascade.weights import path as embedded
from PIL import Image, ImageDraw

from development.workflow import find_node, set_widget

FEW = {"steps_c": 4, "steps_b": 2}
"""Enough steps to differ where anything does."""


@pytest.fixture
def both(server, tmp_path):
    """A workflow's picture and the command line's, as arrays."""

    def run(name, *arguments):
        workflow = json.loads((ROOT / "workflows" / f"{name}.json").read_text())
        for widget, value in FEW.items():
            set_widget(find_node(workflow, type="CascadeSampler"), widget, value)
        path, out = tmp_path / f"{name}.json", tmp_path / f"{name}.png"
        path.write_text(json.dumps(workflow))
        steps = ("--steps-prior", FEW["steps_c"], "--steps-decoder", FEW["steps_b"], "--seed", 1)
        assert main(["generate", *map(str, (*arguments, *steps, "--out", out))]) == 0
        return np.asarray(server.run_workflow(path)[-1].convert("RGB")), np.asarray(Image.open(out))

    return run


def test_text_to_image(both):
    assert np.array_equal(*both("text_to_image", "a red boat on the sea at sunset"))


def test_image_to_image(both):
    boat = ROOT / "pictures" / "boat.png"
    assert np.array_equal(*both("image_to_image", "a blue boat on the sea at night", "--image", boat))


def test_inpaint(both, tmp_path):
    workflow = json.loads((ROOT / "workflows" / "inpaint.json").read_text())
    _, width, height = find_node(workflow, title="Size of the hole")["widgets_values"]
    left, top, _ = find_node(workflow, title="Place of the hole")["widgets_values"]
    (prompt,) = find_node(workflow, type="CLIPTextEncode")["widgets_values"]
    mask = Image.new("L", (256, 256))
    ImageDraw.Draw(mask).rectangle((left, top, left + width - 1, top + height - 1), fill=255)
    mask.save(tmp_path / "mask.png")
    house = ROOT / "pictures" / "house.png"
    assert np.array_equal(*both("inpaint", prompt, "--image", house, "--mask", tmp_path / "mask.png"))


def test_canny(both):
    edges = ("--controlnet", embedded("controlnet_canny"), "--control-image", ROOT / "pictures" / "boat.png")
    assert np.array_equal(*both("canny", "a yellow boat on the sea by day", *edges))


def test_style_from_image(both):
    boat = ROOT / "pictures" / "boat.png"
    graph, drawn = both("style_from_image", "a yellow balloon over the sea", "--style-image", f"{boat}:0.6")
    assert np.abs(graph.astype(int) - drawn).max() <= 1  # the image encoder is the graph's to six digits
