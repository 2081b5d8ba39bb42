"""Where the nodes of workflows stand: in view at once, and clear of one another also after a run."""

import copy
import itertools
import json

import pytest
from comfy_host import ROOT

from development.arrange import NOTES, TITLE, arrange, columns, height, members

WORKFLOWS = {
    path.stem: json.loads(path.read_text(encoding="utf-8")) for path in (ROOT / "workflows").glob("*.json")
}
each_workflow = pytest.mark.parametrize("workflow", WORKFLOWS.values(), ids=WORKFLOWS)
BEGINNERS = {
    "text_to_image",
    "image_to_image",
    "inpaint",
    "outpaint",
    "batch",
    "portrait",
    "landscape",
    "canny",
}

SHARE, READABLE = 0.75, 0.572
"""Of the window that the page fills with a template; the zoom below which it draws no text."""

SMALL_WINDOW = (1440, 862)
"""Pixels of the canvas on a laptop."""


def node(number, kind="VAEDecode", pos=(0, 0), size=(200, 100)):
    return {"id": number, "type": kind, "pos": list(pos), "size": list(size)}


def boxes(workflow):
    """Left, top, right and bottom of each node, with its title and the room for its preview."""
    for one in workflow["nodes"]:
        (x, y), (width, _) = one["pos"], one["size"]
        room = one["size"][1] + TITLE if one["type"] in NOTES else height(one)
        yield x, y - TITLE, x + width, y - TITLE + room


@each_workflow
def test_nodes_stand_where_they_are_arranged(workflow):
    again = copy.deepcopy(workflow)
    arrange(again)
    assert again == workflow


@each_workflow
def test_no_node_reaches_into_another_after_a_run(workflow):
    pairs = itertools.combinations(boxes(workflow), 2)
    assert not [(a, b) for a, b in pairs if a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]]


@each_workflow
def test_every_node_but_notes_is_in_one_group(workflow):
    held = [one["id"] for group in workflow["groups"] for one in members(workflow, group)]
    assert sorted(held) == sorted(one["id"] for one in workflow["nodes"] if one["type"] not in NOTES)


@pytest.mark.parametrize("name", sorted(BEGINNERS))
def test_texts_of_a_beginners_workflow_can_be_read_when_it_opens_on_a_laptop(name):
    left, top, right, bottom = (list(side) for side in zip(*boxes(WORKFLOWS[name]), strict=True))
    sizes = (max(right) - min(left), max(bottom) - min(top))
    zoom = min(SHARE * window / size for window, size in zip(SMALL_WINDOW, sizes, strict=True))
    assert zoom > READABLE


def test_what_feeds_a_node_stands_before_it():
    first, second = node(1, pos=(900, 0)), node(2, pos=(0, 0))
    assert columns([first, second], [[1, 1, 0, 2, 0, "IMAGE"]]) == [[first, second]]
    assert columns([first, second], [[1, 2, 0, 1, 0, "IMAGE"]]) == [[second, first]]


def test_a_column_that_is_full_is_followed_by_another():
    tall = [node(number, pos=(0, number), size=(200, 500)) for number in (1, 2)]
    assert columns(tall, []) == [[tall[0]], [tall[1]]]


def test_a_sampler_has_room_for_its_preview():
    assert height(node(1, "CascadeSampler")) > height(node(1, "VAEDecode")) + 200


@each_workflow
def test_title_of_a_group_is_no_wider_than_the_group(workflow):
    letter = 9.8
    wide = [
        group["title"]
        for group in workflow["groups"]
        if len(group["title"]) * letter + 10 > group["bounding"][2]
    ]
    assert not wide
