"""What the page answers to a hand that slips, and what it says of a node that is asked about.

These tests share one page; each begins with a graph of its own.
"""

import json

import pytest
from comfy_cli.workflow_to_api import convert_ui_to_api
from comfy_host import ROOT
from comfy_page import ComfyPage
from shipped_workflows import complaints, inputs, read

REFUSED = ("/api/prompt", "PromptExecutionError")
"""What the console says of a graph that the server refuses, as one here must be."""


@pytest.fixture(scope="module")
def desk(new_context, server, screenshots):
    """A page that the tests of this module share."""
    context = new_context()
    page = ComfyPage(context.new_page(), server.url, screenshots)
    page.open()
    yield page
    context.close()
    assert [text for text in page.complaints() if not any(part in text for part in REFUSED)] == []


def text_to_image(**values):
    """The workflow with some settings of its sampler changed, by their places."""
    workflow = json.loads((ROOT / "workflows" / "text_to_image.json").read_text(encoding="utf-8"))
    (sampler,) = (node for node in workflow["nodes"] if node["type"] == "CascadeSampler")
    names = [entry["name"] for entry in sampler["inputs"] if "widget" in entry]
    names.insert(names.index("seed") + 1, "control_after_generate")
    for name, value in values.items():
        sampler["widgets_values"][names.index(name)] = value
    return workflow


def add(desk, *types):
    """An empty graph with nodes in a row; their ids."""
    desk.command("Comfy.NewBlankWorkflow")
    desk.page.wait_for_function("() => app.rootGraph.nodes.length === 0")
    ids = desk.evaluate(
        """types => types.map((type, i) => {
            const node = LiteGraph.createNode(type);
            node.pos = [120 + 420 * i, 200];
            app.rootGraph.add(node);
            return node.id;
        })""",
        types,
    )
    desk.view(1)
    desk.page.wait_for_timeout(300)  # the next frame measures the nodes
    return ids


def test_wire_of_another_kind_is_refused_and_of_its_kind_taken(desk):
    vae, model, latents = add(desk, "CascadeLoadStageA", "CascadeLoadStageC", "CascadeEmptyLatents")
    desk.drag_wire(vae, "stage_a", latents, "stage_c")
    assert not desk.wired(latents, "stage_c")
    desk.page.keyboard.press("Escape")
    desk.drag_wire(model, "stage_c", latents, "stage_c")
    assert desk.wired(latents, "stage_c")


def test_latents_of_the_wrong_stage_are_named_in_the_error_panel(desk):
    desk.load("text_to_image")
    latents, sampler = desk.node("CascadeEmptyLatents"), desk.node("CascadeSampler")
    desk.look_at(sampler, scale=0.7, place=(600, 150))
    desk.drag_wire(latents, "stage_b", sampler, "stage_c_latent")
    assert desk.prompt()[str(sampler)]["inputs"]["stage_c_latent"] == [str(latents), 1]
    desk.run()
    desk.wait_for("execution_error", "execution_success")
    desk.page.get_by_test_id("error-overlay-see-errors").click()
    desk.page.get_by_text("Stage C was given latents of 4 channels").first.wait_for()
    desk.shot("wrong_latents")


def test_value_out_of_range_is_named_before_anything_runs(desk):
    desk.load(text_to_image(steps_c=100_000))
    desk.page.get_by_test_id("queue-button").click()
    overlay = desk.page.get_by_test_id("error-overlay")
    overlay.filter(has_text="steps_c").wait_for()
    assert "100000" in overlay.inner_text()
    desk.shot("out_of_range")


def test_number_beyond_its_range_is_held_at_the_range_when_typed(desk):
    (latents,) = add(desk, "CascadeEmptyLatents")
    desk.type_number(latents, "width", 5)
    find = "id => app.rootGraph.getNodeById(id).widgets.find(widget => widget.name === 'width').value"
    assert desk.evaluate(find, latents) == 64


def test_help_page_opens_beside_its_node(desk):
    (latents,) = add(desk, "CascadeEmptyLatents")
    desk.evaluate("id => app.canvas.selectNode(app.rootGraph.getNodeById(id))", latents)
    desk.page.get_by_test_id("info-button").click()
    page = desk.page.locator(".markdown-content").first
    page.get_by_text("When to use it").wait_for()
    assert "Empty Latents (Cascade)" in page.inner_text()
    desk.page.wait_for_function(
        "() => [...document.querySelectorAll('.markdown-content img')].every(image => image.naturalWidth > 0)"
    )
    desk.shot("help")


def test_run_after_an_interrupted_one_succeeds(desk):
    desk.load(text_to_image(steps_c=2_000, seed=77))
    desk.run()
    desk.wait_for("b_preview")
    desk.command("Comfy.Interrupt")
    desk.wait_for("execution_interrupted")
    desk.load(text_to_image(steps_c=2, steps_b=2, seed=78))
    desk.run()
    assert desk.finish()


def test_every_setting_of_the_pack_s_nodes_is_one_of_comfyui_s_own(desk):
    """Then labels and keyboard are ComfyUI's, and nothing of ours has to be told to a screen reader."""
    desk.command("Comfy.NewBlankWorkflow")
    kinds = desk.evaluate(
        """() => {
            const types = Object.keys(LiteGraph.registered_node_types);
            return [...new Set(types.filter(type => type.startsWith('Cascade')).flatMap(
                type => (LiteGraph.createNode(type).widgets ?? []).map(widget => widget.type)))];
        }"""
    )
    assert set(kinds) <= {
        "number",
        "combo",
        "toggle",
        "string",
        "text",
        "customtext",
        "button",
        "IMAGECOMPARE",
    }


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_words_on_nodes_can_be_read_in_both_themes(desk, theme):
    desk.load("text_to_image")
    desk.evaluate("theme => app.extensionManager.setting.set('Comfy.ColorPalette', theme)", theme)
    desk.look_at(desk.node("CascadeEmptyLatents"))
    desk.page.wait_for_timeout(500)
    desk.shot(f"theme_{theme}")
    paper = desk.evaluate("() => getComputedStyle(document.body).getPropertyValue('--comfy-menu-bg')")
    bright = desk.evaluate(
        """colour => {
            const pen = new OffscreenCanvas(1, 1).getContext('2d');
            pen.fillStyle = colour.trim();
            pen.fillRect(0, 0, 1, 1);
            return pen.getImageData(0, 0, 1, 1).data[1];
        }""",
        paper,
    )
    assert (bright > 128) == (theme == "light")


OVERLAPS = """() => {
    const nodes = app.rootGraph.nodes.map(node => {
        const [x, y, width, height] = node.getBounding(new Float32Array(4));
        return {name: `${node.id} ${node.title}`, x, y, width, height};
    });
    const cover = (a, b) => a.x < b.x + b.width && b.x < a.x + a.width
        && a.y < b.y + b.height && b.y < a.y + a.height;
    return nodes.flatMap((a, i) => nodes.slice(i + 1).filter(b => cover(a, b)).map(b => [a.name, b.name]));
}"""


WORKFLOWS = [path.stem for path in sorted((ROOT / "workflows").glob("*.json"))]


@pytest.fixture(scope="module", params=WORKFLOWS)
def shipped(desk, request):
    """The name of a workflow that ships; the page shows it."""
    desk.load(request.param)
    desk.page.wait_for_timeout(300)  # the next frame measures the nodes
    return request.param


def test_no_node_of_a_workflow_covers_another(desk, shipped):
    assert desk.evaluate(OVERLAPS) == []


def test_no_node_of_a_workflow_covers_another_in_nodes_2(new_context, server, screenshots):
    context = new_context(**{"Comfy.VueNodes.Enabled": True})
    page = ComfyPage(context.new_page(), server.url, screenshots)
    page.open()
    covered = {}
    for name in WORKFLOWS:
        page.load(name)
        page.command("Comfy.Canvas.FitView")  # what is not in view is not measured
        page.page.wait_for_timeout(500)
        covered[name] = page.evaluate(OVERLAPS)
    page.shot("nodes_2")
    context.close()
    assert {name: pairs for name, pairs in covered.items() if pairs} == {}


@pytest.fixture(scope="module")
def known(server):
    """What ComfyUI says of every node."""
    return server.object_info()


def test_comfyui_accepts_what_the_page_makes_of_a_workflow(desk, shipped, known, server):
    made = desk.prompt()
    assert complaints(server, made) == []
    # Then what comfy-cli sends of it is no other either.
    assert inputs(made) == inputs(convert_ui_to_api(read(shipped), known))
