"""docs/tutorial.md, done by mouse and keyboard in the words of the page.

With ``--pictures`` the screenshots become those of the page; without, they are compared with them:
``python3 dev.py test tests/browser/test_tutorial.py --pictures``.
"""

import io
from pathlib import Path

import numpy as np
import pytest
from comfy_host import ROOT
from PIL import Image
from tutorial import Tutorial, kind

PICTURES = ROOT / "docs" / "tutorial"
QUALITY = 85
SCALE = 0.8
PLACES = {
    "Load Pipeline (Cascade)": (40, 60),
    "CLIP Text Encode (Prompt), upper": (380, 60),
    "CLIP Text Encode (Prompt), lower": (380, 330),
    "Empty Latents (Cascade)": (380, 600),
    "Sample Stage C and B (Cascade)": (840, 60),
    "VAE Decode": (1220, 200),
    "Save Image": (1220, 340),
}
"""Where the nodes are put, on the canvas."""

ALIKE = 0.06
"""Mean difference of two screenshots at a sixteenth of their size, of values from 0 to 1."""


@pytest.fixture
def keep(editor, request):
    """``keep(name)`` takes a screenshot for the page, or compares it with the one that is there."""

    def take(name: str):
        shot = Image.open(editor.shot(f"tutorial_{name}")).convert("RGB")
        path = PICTURES / f"{name}.jpg"
        if request.config.getoption("--pictures"):
            path.parent.mkdir(exist_ok=True)
            shot.save(path, quality=QUALITY, optimize=True)
        assert _apart(shot, path) < ALIKE, f"{path.name} shows something else: take it anew"

    return take


def _apart(shot: Image.Image, path: Path) -> float:
    pictures = (shot, Image.open(path).convert("RGB"))
    small = [
        np.asarray(one.resize((one.width // 16, one.height // 16), Image.Resampling.BOX), dtype=float) / 255
        for one in pictures
    ]
    return float(np.abs(small[0] - small[1]).mean())


def test_tutorial_leads_from_an_empty_canvas_to_its_picture(editor, keep):
    tutorial = Tutorial.read()
    taken = []

    def show(name):
        editor.deselect()
        keep(name)
        taken.append(name)

    editor.command("Comfy.NewBlankWorkflow")
    editor.page.wait_for_function("() => app.rootGraph.nodes.length === 0")
    editor.view(SCALE, -80, -130)
    nodes = {}
    for (typed, _), name in zip(tutorial.nodes, tutorial.names(), strict=True):
        nodes[name] = editor.add_by_search(typed, PLACES[name], picture=show if not nodes else None)
        title = editor.evaluate("id => app.rootGraph.getNodeById(id).title", nodes[name])
        assert title == kind(name)
    show("nodes")

    for source, output, target, input in tutorial.wires:
        editor.drag_wire(nodes[source], output, nodes[target], input)
        assert editor.wired(nodes[target], input), (source, output, target, input)
    show("wired")

    for node, setting, value in tutorial.values:
        if value.isdigit():
            editor.type_number(nodes[node], setting, int(value))
        else:
            editor.type_text(nodes[node], value)
    editor.run()
    editor.wait_for("b_preview")
    show("running")
    (file,) = editor.finish()
    query = "&".join(f"{key}={value}" for key, value in file.items())
    body = editor.page.request.get(f"{editor.url}/api/view?{query}").body()
    assert Image.open(io.BytesIO(body)).size == (256, 256)
    editor.page.wait_for_function(
        "id => app.rootGraph.getNodeById(id).imgs?.[0]?.naturalWidth === 256", arg=nodes["Save Image"]
    )
    show("done")
    assert taken == list(tutorial.pictures)
