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
