"""Workflow files, as ComfyUI's page saves them: found in, set, put into pictures."""

from __future__ import annotations

import json
import struct
import zlib
from typing import Any

from .progress import Problem

SEED_CONTROLS = ("fixed", "increment", "decrement", "randomize")


def find_node(workflow: dict[str, Any], **wanted: str) -> dict[str, Any]:
    """The first node of a UI-format workflow whose fields (``type``, ``title``) have these values."""
    for node in find_nodes(workflow, **wanted):
        return node
    asked = " and ".join(f"{field} {value!r}" for field, value in wanted.items())
    raise Problem(
        f"The workflow has no node with the {asked}: add it, or restore the workflow file from git."
    )


def find_nodes(workflow: dict[str, Any], **wanted: str) -> list[dict[str, Any]]:
    """All such nodes."""
    return [
        node for node in workflow["nodes"] if all(node.get(field) == value for field, value in wanted.items())
    ]


def set_widget(node: dict[str, Any], name: str, value: object) -> None:
    """Set a widget of a UI-format node by its name.

    ``widgets_values`` holds values only. They follow the node's inputs that are widgets, and after a seed
    there is one more, for what happens to the seed after each run.
    """
    values = node["widgets_values"]
    position = 0
    for entry in node.get("inputs", []):
        if "widget" not in entry:
            continue
        if entry["widget"]["name"] == name:
            values[position] = value
            return
        position += 1
        if entry["widget"]["name"] in ("seed", "noise_seed") and values[position] in SEED_CONTROLS:
            position += 1
    raise Problem(
        f"Node {node['id']} ({node['type']}) has no widget {name!r}: restore the workflow file from git."
    )


def with_workflow(png: bytes, workflow: dict[str, Any]) -> bytes:
    """The same PNG with the workflow in it, so that dropping it on ComfyUI's page opens the workflow.

    Save Image writes what the page sends along. comfy-cli sends the API form only, which opens as a graph
    without its places, titles and notes.
    """
    if b"tEXtworkflow\0" in png:
        return png
    content = b"tEXtworkflow\0" + json.dumps(workflow).encode("ascii")
    chunk = struct.pack(">I", len(content) - 4) + content + struct.pack(">I", zlib.crc32(content))
    end_of_header = 8 + 25  # the signature, then the IHDR chunk, always first and always this long
    return png[:end_of_header] + chunk + png[end_of_header:]
