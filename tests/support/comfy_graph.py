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


WIDGETS = {
    "seed": 4, "steps_c": 2, "cfg_c": 2.0, "sampler_c": "ddpm", "scheduler_c": "simple", "denoise_c": 1.0,
    "steps_b": 2, "cfg_b": 2.0, "sampler_b": "ddpm", "scheduler_b": "simple", "denoise_b": 1.0,
}  # fmt: skip


def sampler(graph, cascade, **changes):
    """The sampler node."""
    sockets = {
        "stage_c": cascade.stage_c, "stage_b": cascade.stage_b, "positive": cascade.positive,
        "negative": cascade.negative, "stage_c_latent": cascade.empty_c, "stage_b_latent": cascade.empty_b,
    }  # fmt: skip
    return graph.add("CascadeSampler", **{**sockets, **WIDGETS, **changes})
