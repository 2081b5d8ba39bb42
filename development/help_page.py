"""ComfyUI's own page in a Chromium, to take pictures of nodes in."""

from __future__ import annotations

import io
import json
from itertools import count
from typing import Any

from PIL import Image
from playwright.sync_api import Route, sync_playwright

from . import chromium
from .help_graphs import Graph, feeds, neighbours
from .progress import Problem

SIZE = {"width": 1700, "height": 1300}
SETTINGS = {
    "Comfy.TutorialCompleted": True,  # or a dialog covers the canvas
    "Comfy.Locale": "en",
    "Comfy.Minimap.Visible": False,
    "Comfy.Graph.CanvasInfo": False,
    "Comfy.Graph.CanvasMenu": False,
    "Comfy.NodeBadge.NodeSourceBadgeMode": "None",
}
READY = """() => window.app && app.vueAppReady && window.LiteGraph
    && LiteGraph.registered_node_types['CascadeSampler']"""
TIMEOUT = 900_000
"""Milliseconds; a machine that trains meanwhile takes minutes to open the page."""

MARGIN, GAP = 18, 90
"""Pixels around the nodes, and between their columns."""

SHOW = """([graph, columns, margin, gap]) => {
    app.loadApiJson(graph, 'help')
    app.canvas.deselectAll?.()
    for (const node of app.rootGraph.nodes)
        for (const widget of node.widgets ?? [])
            if (widget.name === 'control_after_generate') widget.value = 'fixed'
    const title = LiteGraph.NODE_TITLE_HEIGHT, find = id => app.rootGraph.getNodeById(id)
    const placed = columns.map(column => column.map(find)).filter(nodes => nodes.length)
    let left = 0
    for (const nodes of placed) {
        let top = 0
        for (const node of nodes) {
            const size = node.computeSize()
            node.setSize([Math.max(290, size[0]), node.type === 'CLIPTextEncode' ? 110 : size[1]])
            node.pos = [left, top]
            top += node.size[1] + title + 26
        }
        left += Math.max(...nodes.map(node => node.size[0])) + gap
    }
    // A column up or down, so that its wires are short.
    const middle = find(columns[1][0])
    for (const nodes of placed) {
        const rises = Object.values(app.rootGraph.links).flatMap(link => {
            const from = find(link.origin_id), to = find(link.target_id)
            const one = from.getOutputPos(link.origin_slot)[1], other = to.getInputPos(link.target_slot)[1]
            if (from === middle && nodes.includes(to)) return [one - other]
            return to === middle && nodes.includes(from) ? [other - one] : []
        })
        const rise = rises.reduce((sum, one) => sum + one, 0) / Math.max(1, rises.length)
        for (const node of nodes) node.pos = [node.pos[0], node.pos[1] + Math.round(rise)]
    }
    const nodes = placed.flat(), top = title - Math.min(...nodes.map(node => node.pos[1]))
    for (const node of nodes) node.pos = [node.pos[0], node.pos[1] + top]
    const place = { x: 240, y: 140 }
    app.canvas.ds.scale = 1
    app.canvas.ds.offset = [place.x, place.y]
    app.canvas.setDirty(true, true)
    const canvas = app.canvas.canvas.getBoundingClientRect()
    return {
        x: canvas.left + place.x - margin, y: canvas.top + place.y - margin,
        width: left - gap + 2 * margin,
        height: Math.max(...nodes.map(node => node.pos[1] + node.size[1])) + 2 * margin,
    }
}"""


UNMARK = "() => { for (const node of app.rootGraph.nodes) node.has_errors = false }"
"""The page may mark a node in red for what it misses, and here nodes miss all that is not shown."""


class Page:
    """The editor, open while the ``with`` block lasts; nothing that it shows is kept on the server."""

    def __init__(self, url: str) -> None:
        self.url, self.ids = url, count(1)

    def __enter__(self) -> Page:
        path = chromium.find()
        if path is None:
            raise Problem(
                "There is no Chromium: apt install chromium, or .venv/bin/playwright install chromium."
            )
        self.playwright = sync_playwright().start()
        self.browser = self.playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        context = self.browser.new_context(viewport=SIZE, locale="en-US", color_scheme="dark")
        context.set_default_timeout(TIMEOUT)
        context.route("**/api/settings", _settings)
        self.page = context.new_page()
        self.page.goto(self.url, wait_until="domcontentloaded")
        self.page.wait_for_function(READY, polling=500)
        self.page.locator("#splash-loader").wait_for(state="detached")
        return self

    def __exit__(self, *_: object) -> None:
        self.browser.close()
        self.playwright.stop()

    def wired(self, graph: Graph, kind: str) -> Image.Image:
        """The one node of a kind, with what feeds it on its left and what it feeds on its right."""
        shown = neighbours(graph, kind)
        (name,) = (name for name, entry in shown.items() if entry["class_type"] == kind)
        before = feeds(shown, name)
        after = [other for other in shown if other not in (name, *before)]
        after.sort(key=lambda other: _first_output(shown[other], name))
        # Never an id twice: the page keeps what the widgets of a node with that id were set to.
        ids = {other: str(next(self.ids)) for other in shown}
        columns = [[ids[other] for other in column] for column in (before, [name], after)]
        clip = self.page.evaluate(SHOW, [_numbered(shown, ids), columns, MARGIN, GAP])
        self.page.evaluate(UNMARK)
        self.page.wait_for_timeout(500)  # the canvas draws, and text fields move to their nodes
        return Image.open(io.BytesIO(self.page.screenshot(clip=clip))).convert("RGB")


def _first_output(entry: dict[str, Any], source: str) -> int:
    """The first output of another node that a node is wired to."""
    links = [value for value in entry["inputs"].values() if isinstance(value, list)]
    return min(number for name, number in links if name == source)


def _settings(route: Route) -> None:
    if route.request.method == "GET":
        route.fulfill(body=json.dumps(SETTINGS), content_type="application/json")
    else:
        route.fulfill(body="", status=200)


def _numbered(graph: Graph, ids: dict[str, str]) -> dict[str, Any]:
    def wired(value: object) -> object:
        return [ids[value[0]], value[1]] if isinstance(value, list) else value

    return {
        ids[name]: {**entry, "inputs": {key: wired(value) for key, value in entry["inputs"].items()}}
        for name, entry in graph.items()
    }
