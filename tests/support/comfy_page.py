"""ComfyUI's page, used as a person does: by mouse and keyboard, finding things where they are drawn."""

import json
from pathlib import Path

from comfy_host import ROOT

READY = """() => window.app && app.vueAppReady && window.LiteGraph
    && LiteGraph.registered_node_types['CascadeSampler']"""
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
        self.page.wait_for_function(READY)
        self.page.locator("#splash-loader").wait_for(state="detached")

    def complaints(self) -> list[str]:
        """Errors in the console so far that are not ComfyUI's usual ones."""
        return [text for text in self._said if not any(part in text for part in EXPECTED)]

    def shot(self, name: str, **options) -> Path:
        """A screenshot of the window as it is; returns its path."""
        path = self.folder / f"{name}.png"
        self.page.screenshot(path=path, **options)
        return path

    def load(self, workflow: str):
        """Show a workflow that ships, without going through the template browser."""
        graph = json.loads((ROOT / "workflows" / f"{workflow}.json").read_text())
        self.page.evaluate("graph => app.loadGraphData(graph)", graph)

    def evaluate(self, script: str, argument=None):
        """What JavaScript in the page returns; ``app`` is ComfyUI's."""
        return self.page.evaluate(script, argument)
