"""The workflows and pictures that ship, read, changed and compared."""

import copy
import json

import numpy as np
from comfy_host import ROOT
from PIL import Image

from development.workflow import find_node, set_widget


def read(name):
    return json.loads((ROOT / "workflows" / f"{name}.json").read_text())


def changed(workflow, title, widget, value):
    """A copy of a workflow with one widget set, found by the node's title or type."""
    workflow = copy.deepcopy(workflow)
    key = "title" if any(node.get("title") == title for node in workflow["nodes"]) else "type"
    set_widget(find_node(workflow, **{key: title}), widget, value)
    return workflow


ROUNDING = 1.01 / 255
"""Save Image cuts values off to whole steps, one of which a picture may lose on its way through."""


def example(name):
    """A picture that ships."""
    return np.asarray(Image.open(ROOT / "pictures" / f"{name}.png").convert("RGB"), dtype=np.float32) / 255
