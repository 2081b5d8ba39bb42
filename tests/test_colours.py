"""The shipped workflows wear the colours that new nodes get."""

import json
import re

import pytest
from comfy_host import ROOT

SCRIPT = (ROOT / "web" / "js" / "colours.js").read_text(encoding="utf-8")
COLOURS = set(re.findall(r'color: "(#\w{6})", bgcolor: "(#\w{6})"', SCRIPT))
NOTES = ("#2d2d2d", "#383838")
SHIPPED = sorted([*(ROOT / "workflows").glob("*.json"), *(ROOT / "subgraphs").glob("*.json")])


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_shipped_nodes_have_the_colours_of_new_ones(path):
    graph = json.loads(path.read_text(encoding="utf-8"))
    graphs = [graph, *graph.get("definitions", {}).get("subgraphs", [])]
    painted = {(node["color"], node["bgcolor"]) for one in graphs for node in one["nodes"] if "color" in node}
    assert len(COLOURS) == 5
    assert painted <= {*COLOURS, NOTES}
