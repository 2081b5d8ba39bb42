"""The boxes in the node library: what they promise, that ComfyUI serves them, and what they draw."""

import json
import urllib.request

import numpy as np
import pytest
from comfy_host import ROOT
from PIL import Image

from development.workflow import find_node

BLUEPRINTS = sorted((ROOT / "subgraphs").glob("*.json"))
NAMES = ["Decode Stage C", "Image to Image", "Text to Image", "Upscale 2x"]

each_blueprint = pytest.mark.parametrize("path", BLUEPRINTS, ids=lambda path: path.stem)


def read(path):
    return json.loads(path.read_text(encoding="utf-8"))


def blueprint(name):
    return read(ROOT / "subgraphs" / f"{name} (Cascade).json")


def shipped(name):
    return read(ROOT / "workflows" / f"{name}.json")


def test_there_is_a_box_for_each_use():
    assert [path.stem for path in BLUEPRINTS] == [f"{name} (Cascade)" for name in NAMES]


@each_blueprint
def test_a_box_is_one_node_that_shows_what_its_inside_takes(path):
    file = read(path)
    (box,), (inside,) = file["nodes"], file["definitions"]["subgraphs"]
    assert box["type"] == inside["id"]
    assert box["title"] == inside["name"] == path.stem
    assert inside["category"] == "cascade"
    assert inside["description"].endswith(".")
    for shown, taken in zip(box["inputs"], inside["inputs"], strict=True):
        assert (shown["name"], shown["type"]) == (taken["name"], taken["type"])
        assert taken["linkIds"]
    assert [output["type"] for output in box["outputs"]] == ["IMAGE"]
    assert "null" not in json.dumps([box["properties"], inside["inputs"], inside["outputs"]])


@each_blueprint
def test_the_nodes_in_a_box_have_the_sockets_that_they_name(path, server):
    known = server.object_info()
    (inside,) = read(path)["definitions"]["subgraphs"]
    for node in inside["nodes"]:
        sections = known[node["type"]]["input"]
        declared = {*sections.get("required", {}), *sections.get("optional", {})}
        assert {entry["name"] for entry in node["inputs"]} == declared


def test_comfyui_serves_every_box(server):
    with urllib.request.urlopen(server.url + "/global_subgraphs") as answer:
        ours = {key: entry for key, entry in json.load(answer).items() if "Cascade)" in entry["name"]}
    assert sorted(entry["name"] for entry in ours.values()) == [path.stem for path in BLUEPRINTS]
    for key, entry in ours.items():
        with urllib.request.urlopen(f"{server.url}/global_subgraphs/{key}") as answer:
            assert json.loads(json.load(answer)["data"]) == read(ROOT / "subgraphs" / f"{entry['name']}.json")


def with_box(workflow, name, sources):
    """A workflow that saves what a box makes.

    Args:
        workflow: with a Save Image, which is wired to the box.
        name: of the box.
        sources: for each socket of the box the node and output that feed it.
    """
    file = blueprint(name)
    (box,) = file["nodes"]
    box["id"] = workflow["last_node_id"] = workflow["last_node_id"] + 1
    save = find_node(workflow, type="SaveImage")
    workflow["links"] = [link for link in workflow["links"] if link[3] != save["id"]]
    for socket, (node, output) in sources.items():
        wire(workflow, (node, output), (box, [entry["name"] for entry in box["inputs"]].index(socket)))
    workflow["nodes"].append(box)
    wire(workflow, (box, 0), (save, 0))
    return {**workflow, "definitions": file["definitions"]}


def wire(workflow, source, target):
    """Link an output of a node to an input of another."""
    workflow["last_link_id"] += 1
    number = workflow["last_link_id"]
    (giver, output), (taker, socket) = source, target
    giver["outputs"][output]["links"].append(number)
    taker["inputs"][socket]["link"] = number
    kind = taker["inputs"][socket]["type"]
    workflow["links"].append([number, giver["id"], output, taker["id"], socket, kind])


def picture_and_save():
    """An example picture, and a Save Image."""
    workflow = shipped("image_to_image")
    kept = [find_node(workflow, type=kind) for kind in ("CascadeExamplePicture", "SaveImage")]
    kept[0]["outputs"][0]["links"] = []
    return {**workflow, "nodes": kept, "links": [], "groups": []}


@pytest.fixture(scope="module")
def run(server, tmp_path_factory):
    """Runs a workflow given as JSON and returns its last picture as an array."""
    path = tmp_path_factory.mktemp("blueprints") / "workflow.json"

    def run(workflow):
        path.write_text(json.dumps(workflow))
        return np.asarray(server.run_workflow(path)[-1].convert("RGB"), dtype=np.float32) / 255

    return run


@pytest.fixture(scope="module")
def picture(run):
    """What text_to_image draws as shipped."""
    return run(shipped("text_to_image"))


def test_text_to_image_box_draws_the_workflows_picture(run, picture):
    only_save = picture_and_save()
    only_save["nodes"] = only_save["nodes"][1:]
    assert np.array_equal(run(with_box(only_save, "Text to Image", {})), picture)


def test_decode_box_finishes_what_stage_c_drew(run, picture):
    workflow = shipped("text_to_image")
    sampler, empty = (find_node(workflow, type=kind) for kind in ("CascadeSampler", "CascadeEmptyLatents"))
    prompt = find_node(workflow, title="Prompt")
    sources = {"conditioning": (prompt, 0), "stage_c": (sampler, 1), "stage_b": (empty, 1)}
    assert np.array_equal(run(with_box(workflow, "Decode Stage C", sources)), picture)


def test_image_to_image_box_draws_the_workflows_picture(run):
    workflow = picture_and_save()
    drawn = run(with_box(workflow, "Image to Image", {"image": (workflow["nodes"][0], 0)}))
    assert np.array_equal(drawn, run(shipped("image_to_image")))


def test_upscale_box_draws_the_picture_at_twice_its_size(run):
    workflow = picture_and_save()
    drawn = run(with_box(workflow, "Upscale 2x", {"image": (workflow["nodes"][0], 0)}))
    assert drawn.shape == (512, 512, 3)

    def apart(name):
        shown = Image.open(ROOT / "pictures" / f"{name}.png").convert("RGB").resize((16, 16), Image.BOX)
        small = drawn.reshape(16, 32, 16, 32, 3).mean(axis=(1, 3))
        return float(np.abs(small - np.asarray(shown, dtype=np.float32) / 255).mean())

    assert apart("boat") < 0.5 * min(apart("house"), apart("cat"))
