"""Every workflow that ships, run on a real server through comfy-cli, and what comes out of it."""

import json
import re
import shutil

import numpy as np
import pytest
import torch
from comfy_cli.workflow_to_api import convert_ui_to_api
from comfy_host import ROOT
from comfyui_cascade.checkpoints.convert import convert
from comfyui_cascade.checkpoints.layout import Layout
from comfyui_cascade.latents.fit import apply, plan
from shipped_workflows import ROUNDING, changed, complaints, example, read

from development.workflow import find_node

WORKFLOWS = sorted((ROOT / "workflows").glob("*.json"))
SIZES = {
    "outpaint": (192, 320, 3),
    "portrait": (320, 192, 3),
    "landscape": (192, 320, 3),
    "xy_comparison": (776, 776, 3),  # nine squares and the lines between them
    "gallery": (776, 776, 3),
    "lora": (256, 512, 3),  # without it and with it
    "large_picture": (384, 640, 3),
}
"""Of the pictures, where they are not those of the small cascade's squares."""
PACK_NODES = re.compile(r"^Cascade")
NEED_FILES = {"text_to_image_official", "text_to_image_checkpoint", "identity"}
"""Their loaders pick files that nobody may ship; the first two run below, with the small cascade under those
names."""
CHECKPOINTS = {
    "stable_cascade_stage_c": ("stage_c", "text_encoder", "semantic_encoder", "previewer", "image_encoder"),
    "stable_cascade_stage_b": ("stage_b", "stage_a"),
}
"""What is in ComfyUI's all-in-one files."""
OUT_OF_THE_BOX = [path for path in WORKFLOWS if path.stem not in NEED_FILES]


@pytest.fixture(scope="module")
def known(server):
    """What ComfyUI says of every node."""
    return server.object_info()


@pytest.fixture(scope="module")
def picture(draw):
    """What text_to_image draws as shipped."""
    return draw(read("text_to_image"))


@pytest.mark.parametrize("path", OUT_OF_THE_BOX, ids=lambda path: path.stem)
def test_workflow_runs_as_shipped_and_draws_a_picture(path, draw):
    drawn = draw(json.loads(path.read_text()))
    assert drawn.shape == SIZES.get(path.stem, (256, 256, 3))
    assert drawn.std() > 0.05  # neither black nor flat


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
def test_workflow_has_notes_groups_a_thumbnail_and_fixed_seeds(path):
    workflow = json.loads(path.read_text())
    assert sum(node["type"] == "MarkdownNote" for node in workflow["nodes"]) >= 2
    assert len(workflow["groups"]) >= 3
    assert path.with_suffix(".jpg").is_file()
    assert "randomize" not in json.dumps(workflow)


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
def test_workflow_names_the_sockets_that_its_nodes_have(path, known):
    for node in json.loads(path.read_text())["nodes"]:
        if not PACK_NODES.match(node["type"]):
            continue
        sections = known[node["type"]]["input"]
        declared = [*sections.get("required", {}), *sections.get("optional", {})]
        # The slots of an input that grows are called after it: images.image0, images.image1.
        assert {entry["name"].partition(".")[0] for entry in node["inputs"]} == set(declared)
        assert [entry["name"] for entry in node["outputs"]] == known[node["type"]]["output_name"]


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
def test_comfyui_accepts_what_comfy_cli_makes_of_a_workflow(path, known, server):
    assert complaints(server, convert_ui_to_api(json.loads(path.read_text()), known)) == []


@pytest.mark.parametrize(
    ("title", "widget", "value", "said"),
    [
        ("CascadeSampler", "steps_c", 0, "steps_c"),
        ("CascadeSampler", "sampler_c", "no such method", "sampler_c: 'no such method' not in"),
        ("CascadeEmptyLatents", "width", "wide", "width"),
    ],
)
def test_comfyui_names_a_wrong_value_in_a_workflow(title, widget, value, said, known, server):
    wrong = changed(read("text_to_image"), title, widget, value)
    (line,) = complaints(server, convert_ui_to_api(wrong, known))
    assert line.startswith(title)
    assert said in line


@pytest.fixture
def official_names(server):
    """The small cascade's files, under the official names in the folders they belong to."""
    files = json.loads((ROOT / "weights" / "official.json").read_text())["files"]
    small = [(file, ROOT / "weights" / f"{file['part']}.safetensors") for file in files]
    places = [
        (server.models_dir / file["directory"] / file["name"], path) for file, path in small if path.exists()
    ]
    for place, path in places:
        place.parent.mkdir(exist_ok=True)
        shutil.copyfile(path, place)
    folder = server.models_dir / "checkpoints"
    folder.mkdir(exist_ok=True)
    written = [place for place, _ in places]
    for name, parts in CHECKPOINTS.items():
        paths = [ROOT / "weights" / f"{part}.safetensors" for part in parts]
        written += convert(paths, folder / f"{name}.safetensors", layout=Layout.COMFYUI, dtype=None)
    yield
    for place in written:
        place.unlink()


@pytest.mark.parametrize("name", ["text_to_image_official", "text_to_image_checkpoint"])
def test_official_workflow_runs_when_its_files_are_in_their_folders(name, official_names, draw):
    workflow = changed(read(name), "CascadeEmptyLatents", "width", 256)
    drawn = draw(changed(workflow, "CascadeEmptyLatents", "height", 256))
    assert drawn.shape == (256, 256, 3)
    assert drawn.std() > 0.05


def test_same_seed_gives_the_same_picture(picture, draw):
    assert np.array_equal(
        draw(changed(read("text_to_image"), "SaveImage", "filename_prefix", "again")), picture
    )


def test_another_seed_gives_another_picture(picture, draw):
    assert np.abs(draw(changed(read("text_to_image"), "CascadeSampler", "seed", 2)) - picture).mean() > 0.01


def test_wired_graph_gives_the_picture_of_the_cascade_sampler(picture, draw):
    assert np.array_equal(draw(read("stage_by_stage")), picture)


def test_picture_has_the_colours_of_its_prompt(draw):
    boats = {
        colour: draw(changed(read("text_to_image"), "Prompt", "text", f"a {colour} boat on the sea by day"))
        for colour in ("red", "yellow")
    }
    red = {name: redness(picture) for name, picture in boats.items()}
    yellow = {name: yellowness(picture) for name, picture in boats.items()}
    assert red["red"] > 0.01
    assert red["red"] > 3 * red["yellow"]
    assert yellow["yellow"] > 0.01
    assert yellow["yellow"] > 3 * yellow["red"]


def test_size_of_the_picture_follows_the_latents(draw):
    workflow = changed(read("text_to_image"), "CascadeEmptyLatents", "width", 320)
    assert draw(changed(workflow, "CascadeEmptyLatents", "height", 192)).shape == (192, 320, 3)


def apart(one, other):
    """How much two pictures differ, up to their details."""
    small = [p.reshape(16, 16, 16, 16, 3).mean(axis=(1, 3)) for p in (one, other)]
    return float(np.abs(small[0] - small[1]).mean())


def test_the_less_is_drawn_anew_the_more_of_the_picture_stays(draw):
    redrawn = {
        denoise: apart(
            draw(changed(read("image_to_image"), "CascadeSampler", "denoise_c", denoise)),
            example("boat"),
        )
        for denoise in (0.2, 1.0)
    }
    assert redrawn[0.2] < 0.8 * redrawn[1.0]


def test_reconstruction_is_like_its_own_picture_and_not_like_another(draw):
    drawn = draw(changed(read("reconstruct"), "SaveImage", "filename_prefix", "like"))
    assert apart(drawn, example("house")) < 0.4 * apart(drawn, example("boat"))


def test_variations_are_of_their_picture_and_of_no_other(draw, likeness):
    like = likeness(draw(changed(read("variations"), "CascadeEmptyLatents", "batch_size", 1)))
    assert like["boat"] > 0.2 + max(like["house"], like["cat"])


def test_inpainting_keeps_every_pixel_outside_of_its_mask(draw):
    workflow = read("inpaint")
    _, width, height = find_node(workflow, title="Size of the hole")["widgets_values"]
    left, top, _ = find_node(workflow, title="Place of the hole")["widgets_values"]
    (feather,) = find_node(workflow, type="CascadeMaskLatents")["widgets_values"]
    kept = np.ones((256, 256), dtype=bool)
    kept[top - feather : top + height + feather, left - feather : left + width + feather] = False
    change = np.abs(draw(changed(workflow, "SaveImage", "filename_prefix", "kept")) - example("house"))
    assert 0.4 < kept.mean() < 0.8
    assert change[kept].max() < ROUNDING
    assert change[top : top + height, left : left + width].mean() > 0.02


def test_outpainting_keeps_the_picture_and_draws_beside_it(draw):
    fit = plan((256, 256), (320, 192), "pad", multiple=64)
    picture = torch.from_numpy(example("boat")).movedim(-1, 0)[None]
    canvas = apply(fit, picture)[0].movedim(0, -1).numpy()
    change = np.abs(draw(changed(read("outpaint"), "SaveImage", "filename_prefix", "kept")) - canvas)
    assert change[:, 80:240].max() < ROUNDING  # without the feathered border
    assert change[:, :48].mean() > 0.01
    assert change[:, 272:].mean() > 0.01


def redness(picture):
    """Share of pixels that are clearly red."""
    red, green, blue = picture.transpose(2, 0, 1)
    return float(((red > 0.55) & (green < 0.35) & (blue < 0.35)).mean())


def yellowness(picture):
    """Share of pixels that are clearly yellow, outside the corner where the sun may be."""
    red, green, blue = picture[64:].transpose(2, 0, 1)
    return float(((red > 0.65) & (green > 0.55) & (blue < 0.4)).mean())
