"""The pictures of the help pages, and the graphs that they are drawn from."""

import io

import pytest
from help_pages import DOCS, help_pages
from PIL import Image

from development.help_examples import EXAMPLES
from development.help_graphs import changed, feeds, neighbours, node, panels

LARGEST_PICTURE, ALL_PICTURES = 40_000, 3_000_000
"""Bytes."""

WIDE, TALL = 1100, 1300
GRAPH = {
    "load": node("Load"),
    "text": node("Text", clip=["load", 1], text="a cat"),
    "sample": node("Sample", model=["load", 0], prompt=["text", 0], steps=3),
    "decode": node("Decode", samples=["sample", 0], vae=["load", 2]),
}


def test_every_picture_linked_exists_and_every_picture_is_linked():
    linked = {path for page in help_pages() for _, path in page.pictures}
    there = {path.relative_to(DOCS).as_posix() for path in DOCS.rglob("*") if path.suffix not in ("", ".md")}
    assert linked == there


def test_pictures_are_small_enough_to_load_at_once():
    files = list(DOCS.rglob("*.webp"))
    assert not [file for file in files if file.stat().st_size > LARGEST_PICTURE]
    assert sum(file.stat().st_size for file in files) <= ALL_PICTURES
    sizes = {file: Image.open(file).size for file in files}
    assert not {file: size for file, size in sizes.items() if size[0] > WIDE or size[1] > TALL}


def test_every_page_has_an_example_with_its_node_in_it_once():
    assert set(EXAMPLES) == {page.node for page in help_pages()}
    counts = {
        name: [entry["class_type"] for entry in example.graph.values()].count(name)
        for name, example in EXAMPLES.items()
    }
    assert set(counts.values()) == {1}


@pytest.mark.parametrize("name", EXAMPLES)
def test_example_is_wired_and_changed_only_where_there_is_a_node(name):
    graph = EXAMPLES[name].graph
    assert {other for entry in graph for other in feeds(graph, entry)} <= set(graph)
    for panel in EXAMPLES[name].panels:
        after = changed(graph, panel.changes)
        assert set(after) == set(graph)
        assert panel.source[0] in graph


def test_only_what_touches_a_node_is_shown_with_it():
    assert neighbours(GRAPH, "Text") == {
        "load": GRAPH["load"],
        "text": GRAPH["text"],
        "sample": node("Sample", prompt=["text", 0], steps=3),
    }


def test_a_changed_example_leaves_the_example_as_it_is():
    after = changed(GRAPH, {"sample.steps": 9, "text.clip": None})
    assert after["sample"]["inputs"]["steps"] == 9
    assert "clip" not in after["text"]["inputs"]
    assert GRAPH["sample"]["inputs"]["steps"] == 3
    assert "clip" in GRAPH["text"]["inputs"]


def test_strip_puts_pictures_side_by_side_at_one_height():
    from comfyui_cascade.development.help_pictures import GAP, HEIGHT, strip

    red, blue = Image.new("RGB", (64, 64), "red"), Image.new("RGB", (256, 128), "blue")
    page = strip([red, blue])
    assert page.size == (3 * HEIGHT + GAP, HEIGHT)
    assert page.getpixel((HEIGHT // 2, 9))[:3] == (255, 0, 0)
    assert page.getpixel((HEIGHT + GAP + 9, 9))[:3] == (0, 0, 255)


def test_strip_bears_labels_below_its_pictures():
    from comfyui_cascade.development.help_pictures import HEIGHT, PAPER, strip

    white = Image.new("RGB", (64, 64), "white")
    page = strip([white, white], ["", "scale 0.5"])
    assert page.height > HEIGHT
    assert page.getpixel((9, HEIGHT + 9))[3] == 0
    assert page.getpixel((page.width - 9, HEIGHT + 9))[:3] == PAPER


def test_label_of_a_panel_names_the_input_where_its_value_is_a_number():
    assert [panel.label for panel in panels("sample.cfg_c", 1.0, 2.5)] == ["cfg_c 1", "cfg_c 2.5"]
    assert [panel.label for panel in panels("fit.way", "crop")] == ["crop"]


def test_a_large_picture_is_written_small(tmp_path):
    from comfyui_cascade.development.help_pictures import WIDEST, write

    noise = Image.effect_noise((2 * WIDEST, 300), 20).convert("RGB")
    write(noise, tmp_path / "new" / "noise.webp")
    written = (tmp_path / "new" / "noise.webp").read_bytes()
    assert len(written) <= LARGEST_PICTURE
    assert Image.open(io.BytesIO(written)).size == (WIDEST, 150)
