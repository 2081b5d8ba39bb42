"""Builds API-format prompts the way a person would say them."""

from typing import Any, NamedTuple


class Node(NamedTuple):
    """One node of a graph; ``node[0]`` is the link to its first output."""

    id: str

    def __getitem__(self, output):
        return [self.id, output]


class Graph:
    """A prompt under construction.

    >>> g = Graph()
    >>> clip = g.add("CLIPLoader", clip_name="clip_g.safetensors", type="stable_cascade")
    >>> text = g.add("CLIPTextEncode", clip=clip[0], text="a red boat")
    >>> g.prompt()[text.id]
    {'class_type': 'CLIPTextEncode', 'inputs': {'clip': ['1', 0], 'text': 'a red boat'}}
    """

    def __init__(self):
        self.nodes: dict[str, dict[str, Any]] = {}

    def add(self, class_type: str, **inputs: Any) -> Node:
        """The new node. Names Python cannot spell go in by ``**{"mode.shift": 2.0}``."""
        node = Node(str(len(self.nodes) + 1))
        self.nodes[node.id] = {"class_type": class_type, "inputs": inputs}
        return node

    def prompt(self) -> dict[str, dict[str, Any]]:
        """The graph as ComfyUI's ``/prompt`` takes it."""
        return {id: {**node, "inputs": dict(node["inputs"])} for id, node in self.nodes.items()}
