"""The page in other languages: every text of every node is there, and nothing of ours hangs on English."""

import json

import pytest
from comfy_host import ROOT
from translations import HOST_NODES

NODES = """ids => ids.map(id => {
    const node = LiteGraph.createNode(id);
    app.rootGraph.add(node);
    return {
        display_name: node.title,
        category: node.constructor.nodeData.category,
        sockets: node.inputs.map(input => [input.name.replaceAll('.', '_'), input.localized_name]),
        widgets: (node.widgets ?? []).map(widget => [widget.name, widget.label]),
        outputs: node.outputs.map(output => output.localized_name),
        color: node.color,
    };
})"""

ROOM_FOR_TITLE = """ids => ids.map(id => {
    const node = LiteGraph.createNode(id);
    app.rootGraph.add(node);
    const pen = document.createElement('canvas').getContext('2d');
    pen.font = node.titleFontStyle;
    return [id, node.size[0] - 2 * LiteGraph.NODE_TITLE_HEIGHT - pen.measureText(node.title).width];
})"""
BOXES = """id => LiteGraph.createNode(id).widgets
    .filter(widget => widget.element instanceof HTMLTextAreaElement)
    .map(({name, element}) => [name, element.placeholder, element.ariaLabel])"""


@pytest.fixture(params=["es", "ja"])
def language(request):
    return request.param


@pytest.fixture
def settings(language):
    return {"Comfy.Locale": language}


def test_page_shows_every_name_of_every_node_in_its_language(editor, language):
    texts = json.loads((ROOT / "locales" / language / "nodeDefs.json").read_text("utf-8"))
    words = json.loads((ROOT / "locales" / language / "main.json").read_text("utf-8"))["nodeCategories"]
    for shown, text in zip(editor.evaluate(NODES, [*texts]), texts.values(), strict=True):
        names = {name: spec["name"] for name, spec in text.get("inputs", {}).items()}
        assert shown["display_name"] == text["display_name"]
        assert shown["category"].split("/")[0] == words["cascade"]
        assert shown["sockets"] == [[name, names[name]] for name, _ in shown["sockets"]]
        ours = [pair for pair in shown["widgets"] if pair[0] in names]
        assert ours == [[name, names[name]] for name, _ in ours]
        assert shown["outputs"] == [output["name"] for output in text.get("outputs", {}).values()]


def test_titles_of_new_nodes_are_not_cut(editor):
    ids = list(json.loads((ROOT / "locales" / "en" / "nodeDefs.json").read_text("utf-8")))
    assert {id: room for id, room in editor.evaluate(ROOM_FOR_TITLE, ids) if room < 0} == {}


def test_empty_boxes_of_text_say_their_names(editor, language):
    texts = json.loads((ROOT / "locales" / language / "nodeDefs.json").read_text("utf-8"))
    name = texts["CascadeLoadLora"]["inputs"]["words"]["name"]
    assert editor.evaluate(BOXES, "CascadeLoadLora") == [["words", name, name]]


def test_page_calls_its_own_nodes_as_our_texts_do(editor, language):
    shown = editor.evaluate("ids => ids.map(id => LiteGraph.registered_node_types[id].title)", [*HOST_NODES])
    assert dict(zip(HOST_NODES, shown, strict=True)) == {
        id: names[language] for id, names in HOST_NODES.items()
    }


def test_nodes_have_the_colours_of_their_stages_in_any_language(editor):
    workflow = json.loads((ROOT / "workflows" / "stage_by_stage.json").read_text("utf-8"))
    shipped = {node["type"]: node.get("color") for node in workflow["nodes"]}
    ids = ["CascadeLoadStageC", "CascadeDecoderConditioning"]
    assert [node["color"] for node in editor.evaluate(NODES, ids)] == [shipped[id] for id in ids]
