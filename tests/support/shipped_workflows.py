"""The workflows and pictures that ship, read, changed and compared."""

import copy
import json
import re

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


NO_SUCH_FILE = re.compile(
    r"Prompt outputs failed validation"
    r"|CascadeLoad\w+ \(node \d+\): Value not in list: file: "
    r"|LoadImage \(node \d+\): Custom validation failed for node: image - Invalid image file: example.png"
)


def inputs(prompt):
    """The nodes of a prompt by id, each with what goes into it."""
    return {id: (node["class_type"], node["inputs"]) for id, node in prompt.items()}


def complaints(server, prompt):
    """What ComfyUI has against a prompt, but for models that cannot ship and ComfyUI's example picture."""
    return [line for line in server.validate(prompt).splitlines() if not NO_SUCH_FILE.match(line)]


ROUNDING = 1.01 / 255
"""Save Image cuts values off to whole steps, one of which a picture may lose on its way through."""


def example(name):
    """A picture that ships."""
    return np.asarray(Image.open(ROOT / "pictures" / f"{name}.png").convert("RGB"), dtype=np.float32) / 255
