"""Our scripts in the page: what they add, and that a page without what they hook into stays as it is."""

import pytest
from comfy_host import ROOT

SCRIPTS = sorted((ROOT / "web" / "js").glob("*.js"))

OLDER = """name => {
    const {beforeRegisterNodeDef, nodeCreated} = app.extensions.find(found => found.name === name);
    const definition = {category: 'cascade/load', name: 'CascadeLoadLora'};
    class Bare {}
    Bare.comfyClass = definition.name;
    for (const type of [undefined, {}, Bare]) beforeRegisterNodeDef?.(type, definition);
    beforeRegisterNodeDef?.(Bare, undefined);
    nodeCreated?.(undefined);
    nodeCreated?.({});
    const node = new Bare();
    for (const widgets of [undefined, [], [undefined], [{}], [{name: '$$node-text-preview'}]]) {
        node.widgets = widgets;
        nodeCreated?.(node);
        node.onExecuted?.({text: ['said']});
    }
    return true;
}"""

PICK = """side => {
    app.rootGraph.clear();
    const [pick, preview] = ['CascadePickResolution', 'PreviewAny'].map(id => {
        const node = LiteGraph.createNode(id);
        app.rootGraph.add(node);
        return node;
    });
    preview.pos = [600, 0];
    pick.connect(3, preview, 0);
    const values = {size: 'long side', long_side: side};
    for (const widget of pick.widgets) widget.value = values[widget.name] ?? widget.value;
    return pick.size[1];
}"""

HIDDEN = """() => {
    const boxes = [...document.querySelectorAll('.dom-widget > .overflow-y-auto')];
    return boxes.map(box => [box.innerText.split('\\n').length, box.scrollHeight - box.clientHeight]);
}"""


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.stem)
def test_script_bears_a_page_that_gives_it_nothing(editor, path):
    name = f"comfyuicascade.{path.stem}"
    assert editor.evaluate("name => app.extensions.some(found => found.name === name)", name)
    assert editor.evaluate(OLDER, name)


def test_what_a_node_says_after_a_run_is_shown_whole(editor):
    for side, lines in ((1024, 3), (4096, 4)):  # the second is beyond what was trained, and it says so
        before = editor.evaluate(PICK, side)
        editor.view(1, -60, -60)
        editor.run()
        editor.finish()
        editor.page.get_by_text("Stage B:").first.wait_for()
        editor.page.wait_for_timeout(500)  # the box is measured in the next frame
        assert editor.evaluate(HIDDEN) == [[lines, 0]]
        assert editor.evaluate("() => app.rootGraph.nodes[0].size[1]") > before
        editor.shot(f"text_on_node_{side}")


SAY = """([type, text]) => {
    const said = app.rootGraph.nodes.filter(node => node.type === type);
    for (const node of said) {
        app.api.dispatchCustomEvent('progress_text', {nodeId: String(node.id), text});
        node.onExecuted({});
    }
    const {NODE_TITLE_HEIGHT} = LiteGraph;
    const top = node => node.pos[1] - NODE_TITLE_HEIGHT;
    return said.flatMap(one => app.rootGraph.nodes
        .filter(other => other !== one && top(other) >= top(one))
        .filter(other => other.pos[0] < one.pos[0] + one.size[0] && one.pos[0] < other.pos[0] + other.size[0])
        .filter(other => top(other) < one.pos[1] + one.size[1])
        .map(other => [one.title, other.title]));
}"""

SAID = {
    "CascadePickResolution": "320x192 pixels, 0.061 megapixels\nStage C: 15x9 cells of 16 channels\n"
    "Stage B: 80x48 cells of 4 channels",
    "CascadeFitImage": "256x256 pixels, filled by 32 on the left, 32 on the right: 320x256",
    "CascadeIdentify": "a line of the report\n" * 12,
    "CascadeLoadLora": "OneTrainer LoRA, rank 16: 128 weights",
    "CascadeSaveStage": "output/cascade/stage_c_00001_.safetensors",
}
"""What nodes say in the shipped workflows, or about as much."""


def test_nodes_of_shipped_workflows_have_room_for_what_they_say(editor):
    covered = {}
    for path in sorted((ROOT / "workflows").glob("*.json")):
        shipped = path.read_text(encoding="utf-8")
        said = {type: text for type, text in SAID.items() if f'"{type}"' in shipped}
        if said:
            editor.load(path.stem)
            editor.page.wait_for_timeout(300)  # the next frame measures the nodes
            covered[path.stem] = [pair for one in said.items() for pair in editor.evaluate(SAY, list(one))]
    assert covered
    assert not {name: pairs for name, pairs in covered.items() if pairs}
