"""ComfyUI's page, used as a person does: by mouse and keyboard, finding things where they are drawn."""

import json
from pathlib import Path
from typing import Any

from comfy_host import ROOT

OPEN_SECONDS = 300
"""Within which the page has to be there; an idle machine takes four."""

SEARCH_MILLISECONDS = 1000
"""For which the search waits for more letters."""

READY = """() => window.app && app.vueAppReady && window.LiteGraph
    && LiteGraph.registered_node_types['CascadeSampler']"""
EVENTS = """() => {
    window.seen = [];
    for (const kind of ['b_preview', 'execution_start', 'execution_success', 'execution_error',
                        'execution_interrupted'])
        app.api.addEventListener(kind, () => window.seen.push(kind));
}"""
SLOT = """([id, name, output]) => {
    const node = app.rootGraph.getNodeById(id);
    const slot = (output ? node.outputs : node.inputs).findIndex(slot => slot.name === name);
    if (slot < 0) throw new Error(`${node.title} has no ${output ? 'output' : 'input'} ${name}`);
    const [x, y] = output ? node.getOutputPos(slot) : node.getInputPos(slot);
    return app.canvasPosToClientPos([x, y]);
}"""
WIDGET = """([id, name]) => {
    const node = app.rootGraph.getNodeById(id);
    const widget = node.widgets.find(widget => widget.name === name);
    if (!widget) throw new Error(`${node.title} has no setting ${name}`);
    return app.canvasPosToClientPos([node.pos[0] + node.size[0] / 2, node.pos[1] + widget.y + 10]);
}"""
EXPECTED = (
    # What a new person does not have yet: the page asks for it all the same.
    "user.css",
    "userdata",
    "comfy.templates.json",
    # The server forbids the page to reach other hosts.
    "Content Security Policy",
    "ERR_BLOCKED_BY_CSP",
    # ComfyUI's own start.
    "graph accessed before initialization",
    # The picture that Load Image shows until the person chooses one, which the tests' server does not have.
    "filename=example.png",
    # It asks for a node's page in the reader's language first.
    "/en.md",
)
"""Parts of messages in the console that are ComfyUI's own and say nothing of the pack."""


class ComfyPage:
    """The editor in one tab.

    Args:
        page: Playwright's.
        url: where the server is.
        folder: where screenshots go.
    """

    def __init__(self, page, url: str, folder: Path):
        self.page, self.url, self.folder = page, url, folder
        self._said = []
        page.on("console", self._note)
        page.on("pageerror", lambda error: self._said.append(f"uncaught: {error}"))

    def _note(self, message):
        if message.type == "error":
            place = (message.location or {}).get("url", "")
            self._said.append(f"{message.text} {place}")

    def open(self):
        """Load the page and wait until it knows the pack's nodes."""
        self.page.goto(self.url, wait_until="domcontentloaded")
        self.page.wait_for_function(READY, timeout=OPEN_SECONDS * 1000)
        self.page.locator("#splash-loader").wait_for(state="detached")
        self.page.evaluate(EVENTS)

    def complaints(self) -> list[str]:
        """Errors in the console so far that are not ComfyUI's usual ones."""
        return [text for text in self._said if not any(part in text for part in EXPECTED)]

    def shot(self, name: str, **options) -> Path:
        """A screenshot of the window as it is; returns its path."""
        path = self.folder / f"{name}.png"
        self.page.screenshot(path=path, **options)
        return path

    def evaluate(self, script: str, argument=None):
        """What JavaScript in the page returns; ``app`` is ComfyUI's."""
        return self.page.evaluate(script, argument)

    def command(self, name: str):
        """Do what an entry of ComfyUI's menus does."""
        self.page.evaluate("name => app.extensionManager.command.execute(name)", name)

    # Graphs

    def load(self, workflow: str | dict[str, Any]):
        """Show a workflow that ships, or one given as JSON, without going through the template browser."""
        if isinstance(workflow, str):
            workflow = json.loads((ROOT / "workflows" / f"{workflow}.json").read_text(encoding="utf-8"))
        self.page.evaluate("graph => app.loadGraphData(graph)", workflow)

    def view(self, scale: float, x: float = 0, y: float = 0):
        """Zoom, with this point of the canvas in the upper left corner."""
        self.page.evaluate(
            """([scale, x, y]) => {
                app.canvas.ds.scale = scale;
                app.canvas.ds.offset = [-x, -y];
                app.canvas.setDirty(true, true);
            }""",
            [scale, x, y],
        )

    def look_at(self, node: int, scale: float = 1, place: tuple[float, float] = (120, 180)):
        """Zoom, with a node's upper left corner at a place in the window."""
        x, y = self.page.evaluate("id => [...app.rootGraph.getNodeById(id).pos]", node)
        self.view(scale, x - place[0] / scale, y - place[1] / scale)
        self.page.wait_for_timeout(300)  # the next frame puts boxes of text where their nodes are

    def deselect(self):
        """Let go of what is selected, whose toolbar covers other nodes."""
        self.page.evaluate("() => app.canvas.deselectAll()")
        self.page.wait_for_timeout(300)

    def node(self, type: str, title: str | None = None) -> int:
        """The id of the node of a type, and of a title where there are several."""
        found = self.page.evaluate(
            """([type, title]) => app.rootGraph.nodes
                .filter(node => node.type === type && (title === null || node.title === title))
                .map(node => node.id)""",
            [type, title],
        )
        assert len(found) == 1, f"{len(found)} nodes are of the type {type} and the title {title}"
        return found[0]

    def prompt(self) -> dict[str, Any]:
        """The graph as the page would send it."""
        return self.page.evaluate("async () => (await app.graphToPrompt()).output")

    def add_by_search(self, words: str, place: tuple[float, float], picture=None) -> int:
        """Double-click the canvas, type, press Enter and click where the node should stand; its id.

        Args:
            words: what is typed.
            place: upper left corner of the node, on the canvas.
            picture: called with ``"search"`` while the search is open.
        """
        mouse = self.page.mouse
        mouse.dblclick(*self._on_screen(place))
        self.page.get_by_role("dialog").locator("input").first.wait_for()
        self.page.keyboard.type(words)
        self.page.get_by_role("dialog").get_by_text(words.split()[0]).first.wait_for()
        self.page.wait_for_timeout(SEARCH_MILLISECONDS)
        if picture is not None:
            picture("search")
        self.page.keyboard.press("Enter")
        self.page.locator(".p-dialog-mask").wait_for(state="detached")
        # The node hangs under the mouse by the middle of its upper edge, until a click.
        self.page.wait_for_function("() => app.canvas.state.ghostNodeId != null")
        added = self.page.evaluate("() => app.canvas.state.ghostNodeId")
        width = self.page.evaluate("id => app.rootGraph.getNodeById(id).size[0]", added)
        held = self._on_screen((place[0] + width / 2, place[1] - 10))
        mouse.move(held[0] - 5, held[1])
        mouse.move(*held)
        mouse.click(*held)
        self.page.wait_for_function("() => app.canvas.state.ghostNodeId == null")
        return added

    def _on_screen(self, place: tuple[float, float]) -> list[float]:
        """A point of the canvas, in the window."""
        return self.page.evaluate("place => app.canvasPosToClientPos(place)", list(place))

    def drag_wire(self, source: int, output: str, target: int, input: str):
        """Pull a wire from an output's dot to an input's."""
        mouse = self.page.mouse
        start = self.page.evaluate(SLOT, [source, output, True])
        end = self.page.evaluate(SLOT, [target, input, False])
        mouse.move(*start)
        mouse.down()
        mouse.move((start[0] + end[0]) / 2, (start[1] + end[1]) / 2)
        mouse.move(*end, steps=3)
        mouse.up()

    def wired(self, target: int, input: str) -> bool:
        """Whether something is wired into an input."""
        return self.page.evaluate(
            """([id, name]) => app.rootGraph.getNodeById(id)
                .inputs.find(input => input.name === name).link !== null""",
            [target, input],
        )

    def type_number(self, node: int, widget: str, value: int | float):
        """Click a number, type another and press Enter."""
        self.page.mouse.click(*self.page.evaluate(WIDGET, [node, widget]))
        field = self.page.locator(".graphdialog input")
        field.fill(str(value))
        field.press("Enter")

    def type_text(self, node: int, text: str):
        """Click into a node's box of text and type what is to stand there."""
        place = self.page.evaluate(WIDGET, [node, "text"])
        self.page.mouse.click(place[0], place[1] + 15)
        self.page.keyboard.press("ControlOrMeta+A")
        self.page.keyboard.type(text)

    # Runs

    def run(self):
        """Press Run."""
        self.page.evaluate("() => { window.seen = []; }")
        self.page.get_by_test_id("queue-button").click()

    def wait_for(self, *kinds: str, seconds: float = 300):
        """Wait until the server has told the page of one of these since Run was pressed."""
        self.page.wait_for_function(
            "kinds => kinds.some(kind => window.seen.includes(kind))", arg=kinds, timeout=seconds * 1000
        )

    def finish(self) -> list[dict[str, str]]:
        """Wait for the end of the run, which must succeed; the files of its pictures."""
        self.wait_for("execution_success", "execution_error")
        assert "execution_error" not in self.page.evaluate("() => window.seen")
        return self.page.evaluate("() => Object.values(app.nodeOutputs).flatMap(out => out.images ?? [])")
