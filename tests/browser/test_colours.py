"""Nodes in the colours of their stages, whatever the theme, and never against the person's choice."""

import json

import pytest
from comfy_host import ROOT

STAGES = {
    "CascadeLoadStageA": "VAEDecode",
    "CascadeLoadStageB": "KSamplerSelect",
    "CascadeLoadStageC": "CascadeSampler",
    "CascadeDecoderConditioning": "CLIPTextEncode",
}
"""Nodes of different stages, and the nodes that the shipped workflows paint like them."""

READABLE = 4.5
"""What WCAG 2 asks between text and what is behind it, at level AA."""

ADD = """ids => ids.map(id => {
    const node = LiteGraph.createNode(id);
    app.rootGraph.add(node);
    return [node.color ?? null, node.bgcolor ?? null];
})"""

PAINT_AND_RELOAD = """([id, colours]) => {
    const node = LiteGraph.createNode(id);
    app.rootGraph.add(node);
    if (colours !== undefined) [node.color, node.bgcolor] = colours ?? [undefined, undefined];
    const saved = JSON.parse(JSON.stringify(app.rootGraph.serialize()));
    return app.loadGraphData(saved).then(() => {
        const [again] = app.rootGraph.nodes;
        return [again.color ?? null, again.bgcolor ?? null];
    });
}"""

SHADES = """ids => ids.map(id => {
    const node = LiteGraph.createNode(id);
    app.rootGraph.add(node);
    const {NODE_TITLE_COLOR, NODE_TEXT_COLOR} = LiteGraph;
    return [node.renderingColor, NODE_TITLE_COLOR, node.renderingBgColor, NODE_TEXT_COLOR];
})"""

BRIGHTNESS = """colours => colours.map(colour => {
    const pen = new OffscreenCanvas(1, 1).getContext("2d");
    pen.fillStyle = colour;
    pen.fillRect(0, 0, 1, 1);
    const parts = [...pen.getImageData(0, 0, 1, 1).data].slice(0, 3).map(value => value / 255);
    const [r, g, b] = parts.map(v => v <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
})"""


def ours(editor):
    """Ids of the pack's nodes."""
    return editor.evaluate(
        "() => Object.keys(LiteGraph.registered_node_types).filter(id => id.startsWith('Cascade'))"
    )


def test_every_new_node_has_a_colour_and_stages_differ(editor):
    editor.evaluate("() => app.rootGraph.clear()")
    ids = ours(editor)
    colours = dict(zip(ids, map(tuple, editor.evaluate(ADD, ids)), strict=True))
    assert all(all(pair) for pair in colours.values())
    told_apart = {colours[id] for id in (*STAGES, "CascadeEmptyLatents")}
    assert len(told_apart) == 5
    assert set(colours.values()) == told_apart
    assert editor.evaluate(ADD, ["KSampler"]) == [[None, None]]  # the host's nodes are not ours to paint


def test_new_nodes_match_the_shipped_workflows(editor):
    nodes = json.loads((ROOT / "workflows" / "stage_by_stage.json").read_text())["nodes"]
    shipped = {node["type"]: [node.get("color"), node.get("bgcolor")] for node in nodes}
    assert editor.evaluate(ADD, [*STAGES]) == [shipped[id] for id in STAGES]


def test_a_persons_choice_survives_saving_and_loading(editor):
    theirs = ["#111111", "#222222"]
    for picked, kept in ((theirs, theirs), (None, [None, None])):
        editor.evaluate("() => app.rootGraph.clear()")
        assert editor.evaluate(PAINT_AND_RELOAD, ["CascadeLoadStageC", picked]) == kept


def test_a_workflow_saved_with_our_colours_keeps_them(editor):
    editor.evaluate("() => app.rootGraph.clear()")
    again = editor.evaluate(f"() => ({PAINT_AND_RELOAD})(['CascadeLoadStageC', undefined])")
    assert [again] == editor.evaluate(ADD, ["CascadeLoadStageC"])


@pytest.mark.parametrize("theme", ["dark", "light"])
def test_titles_and_labels_can_be_read_in_both_themes(editor, theme):
    editor.evaluate("theme => app.extensionManager.setting.set('Comfy.ColorPalette', theme)", theme)
    editor.page.wait_for_timeout(500)
    for shades in editor.evaluate(SHADES, [*STAGES, "CascadeEmptyLatents"]):
        title, title_text, body, text = editor.evaluate(BRIGHTNESS, shades)
        assert contrast(title, title_text) >= READABLE
        assert contrast(body, text) >= READABLE
    editor.evaluate("() => app.extensionManager.setting.set('Comfy.ColorPalette', 'dark')")


def contrast(one, other):
    """Of two brightnesses, as WCAG counts."""
    return (max(one, other) + 0.05) / (min(one, other) + 0.05)
