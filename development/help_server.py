"""A running ComfyUI, asked for what some node of a graph puts out."""

from __future__ import annotations

import json
import time
import urllib.request
from collections.abc import Mapping
from functools import cached_property
from typing import Any
from urllib.parse import urlencode

from .help_graphs import PREVIEW, Graph, Panel, changed, feeds, node
from .progress import Problem

WIDGETS = ("INT", "FLOAT", "STRING", "BOOLEAN", "COMBO")
OUT = "out"
BETWEEN_LOOKS = 0.5
"""Seconds."""


class Server:
    """ComfyUI over HTTP, at an address."""

    def __init__(self, url: str) -> None:
        self.url = url

    @cached_property
    def nodes(self) -> Mapping[str, Any]:
        """What each node takes."""
        return json.loads(self._get("/object_info"))

    def outputs(self, graph: Graph, panel: Panel) -> dict[str, Any]:
        """The image or the text that a panel shows, as the bytes of a PNG or as a string."""
        name, what = panel.source
        made = self.whole(changed(graph, panel.changes))
        sink = name
        if what == "images":
            sink = PREVIEW[0]
        if what != "text":
            images = [sink, what if isinstance(what, int) else PREVIEW[1]]
            made, sink = {**made, OUT: node("PreviewImage", images=images)}, OUT
        said = self._run(_upstream(made, sink))
        if what == "text":
            return {"text": said[name]["text"][0]}
        (shown,) = said[name if what == "images" else OUT]["images"]
        return {"image": self._get(f"/view?{urlencode(shown)}")}

    def whole(self, graph: Graph) -> Graph:
        """A graph with the defaults of every widget that is left out, which ComfyUI's page would fill in."""
        return {
            name: {**entry, "inputs": self._defaults(entry["class_type"]) | entry["inputs"]}
            for name, entry in graph.items()
        }

    def _defaults(self, kind: str) -> dict[str, Any]:
        found = {}
        for name, (what, *options) in self.nodes[kind]["input"].get("required", {}).items():
            told = options[0] if options else {}
            if isinstance(what, list) or what in WIDGETS:
                choices = what if isinstance(what, list) else told.get("options") or [None]
                found[name] = told.get("default", choices[0])
        return found

    def _run(self, graph: Graph) -> dict[str, Any]:
        request = urllib.request.Request(
            f"{self.url}/prompt",
            json.dumps({"prompt": graph}).encode(),
            {"Content-Type": "application/json"},
        )
        try:
            with urllib.request.urlopen(request) as answer:
                run = json.load(answer)["prompt_id"]
        except urllib.error.HTTPError as error:
            raise Problem(f"ComfyUI did not take a graph: {error.read().decode()[:600]}") from error
        while not (history := json.loads(self._get(f"/history/{run}"))):
            time.sleep(BETWEEN_LOOKS)
        if history[run]["status"]["status_str"] != "success":
            raise Problem(f"A graph failed: {json.dumps(history[run]['status']['messages'][-1])[:600]}")
        return history[run]["outputs"]

    def _get(self, path: str) -> bytes:
        with urllib.request.urlopen(self.url + path) as answer:
            return answer.read()


def _upstream(graph: Graph, name: str) -> Graph:
    """A node and all that it depends on."""
    needed, todo = set(), [name]
    while todo:
        one = todo.pop()
        if one not in needed:
            needed.add(one)
            todo += feeds(graph, one)
    return {one: entry for one, entry in graph.items() if one in needed}
