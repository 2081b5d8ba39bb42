"""Places the nodes of a workflow: ``python development/arrange.py workflows/NAME.json …``.

Groups stand side by side in their order, the nodes of each in columns from what feeds to what is fed, notes
above. ComfyUI's page opens a template with all of it in view, and draws no text below a zoom of 0.57: so
columns are no taller than a small window shows, and as narrow as their nodes allow.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

Node = dict[str, Any]

SAMPLERS = {"CascadeSampler", "KSampler", "KSamplerAdvanced", "SamplerCustom", "SamplerCustomAdvanced"}
ROOM = 216
"""Pixels by which a sampler grows as it previews."""

NOTES = ("MarkdownNote", "Note")
TITLE, BETWEEN, ASIDE, PAD, APART = 30, 20, 34, 14, 20
"""Pixels of a node's title; to the node below, and beside; around the nodes of a group; between groups."""

HEAD = 72
"""Pixels from the top of a group to the body of its first node."""

EDGES = HEAD - TITLE - BETWEEN + 2 * PAD
"""Pixels of a group that are above and below what its nodes take."""

TALLEST, TALLEST_STACK, WIDEST = 940, 1020, 1860
"""Pixels of a column; of groups below one another; up to which nodes that feed one another stand apart."""

LETTER, LINE, HEADING = 5.5, 15, 60
"""Pixels of a letter of a note across, of a line of it, and of what is above its lines."""

WIDEST_NOTE, ABOVE_GROUPS = 620, 30


def height(node: Node) -> int:
    """Pixels that a node takes, with its title and what a run shows below it."""
    grown = ROOM if node["type"] in SAMPLERS else 0
    return round(node["size"][1]) + grown + TITLE + BETWEEN


def members(workflow: dict[str, Any], group: dict[str, Any]) -> list[Node]:
    """The nodes whose upper left corner lies in a group."""
    left, top, wide, tall = group["bounding"]
    return [
        node
        for node in workflow["nodes"]
        if node["type"] not in NOTES
        and left <= node["pos"][0] < left + wide
        and top <= node["pos"][1] < top + tall
    ]


def columns(nodes: Sequence[Node], links: Iterable[Sequence[Any]], apart: bool = False) -> list[list[Node]]:
    """What feeds before what is fed: below one another as far as there is room, or apart, side by side."""
    inside = {node["id"] for node in nodes}
    feeds = [(link[1], link[3]) for link in links if link[1] in inside and link[3] in inside]
    depth = dict.fromkeys(inside, 0)
    for _ in nodes:
        for source, target in feeds:
            depth[target] = max(depth[target], depth[source] + 1)
    made: list[list[Node]] = []
    for node in sorted(nodes, key=lambda node: (depth[node["id"]], *node["pos"])):
        deeper = apart and made and depth[node["id"]] > depth[made[-1][0]["id"]]
        if not made or deeper or sum(map(height, made[-1])) + height(node) > TALLEST:
            made.append([])
        made[-1].append(node)
    return made


def stacks(groups: Iterable[tuple[dict[str, Any], list[list[Node]]]]) -> list[list[Any]]:
    """Groups of one column below one another where there is room."""
    made: list[list[Any]] = []
    room = 0
    for group, parts in groups:
        tall = EDGES + max(sum(map(height, column)) for column in parts)
        if made and len(parts) == len(made[-1][-1][1]) == 1 and tall + APART <= room:
            made[-1].append((group, parts))
            room -= tall + APART
        else:
            made.append([(group, parts)])
            room = TALLEST_STACK - tall
    return made


def arrange(workflow: dict[str, Any]) -> None:
    """Move the nodes, groups and notes of a workflow in the page's own form."""
    groups = sorted(workflow["groups"], key=lambda group: group["bounding"][:2])
    parts = [(group, columns(members(workflow, group), workflow["links"])) for group in groups]
    for i, (group, _) in reversed([*enumerate(parts)]):
        wider = columns(members(workflow, group), workflow["links"], apart=True)
        tried = [*parts[:i], (group, wider), *parts[i + 1 :]]
        if sum(_span(stack) for stack in stacks(tried)) <= WIDEST:
            parts = tried
    left = 0
    for stack in stacks(parts):
        top = 0
        width = max(_width(column) for _, made in stack for column in made)
        for group, made in stack:
            widths = [width] if len(made) == 1 else [_width(column) for column in made]
            group["bounding"] = _place(made, widths, left, top)
            top += group["bounding"][3] + APART
        left += stack[0][0]["bounding"][2] + APART
    _place_notes([node for node in workflow["nodes"] if node["type"] in NOTES], left - APART)


def _span(stack: Sequence[tuple[dict[str, Any], list[list[Node]]]]) -> float:
    """Pixels from a stack's left edge to that of the next."""
    inside = (sum(_width(column) + ASIDE for column in made) for _, made in stack)
    return max(inside) - ASIDE + 2 * PAD + APART


def _width(column: Sequence[Node]) -> float:
    return max(node["size"][0] for node in column)


def _place(made: Sequence[Sequence[Node]], widths: Sequence[float], left: float, top: float) -> list[float]:
    """Put the nodes of a group into its columns; its bounding box."""
    x, tall = left + PAD, 0
    for column, width in zip(made, widths, strict=True):
        y = top + HEAD
        for node in column:
            node["pos"], node["size"] = [x, y], [width, node["size"][1]]
            y += height(node)
        x, tall = x + width + ASIDE, max(tall, y - top)
    return [left, top, x - ASIDE + PAD - left, tall + EDGES - HEAD]


def _place_notes(notes: Sequence[Node], width: int) -> None:
    wide = min(WIDEST_NOTE, (width - APART * (len(notes) - 1)) // len(notes))
    lines = max(
        sum(1 + int(len(text) * LETTER / (wide - 30)) for text in note["widgets_values"][0].splitlines()[1:])
        for note in notes
    )
    tall = HEADING + LINE * lines
    for i, note in enumerate(sorted(notes, key=lambda note: note["pos"][0])):
        note["pos"], note["size"] = [i * (wide + APART), -tall - ABOVE_GROUPS], [wide, tall]


def main(paths: Sequence[Path]) -> None:
    """Arrange files in place."""
    for path in paths:
        workflow = json.loads(path.read_text(encoding="utf-8"))
        arrange(workflow)
        text = json.dumps(workflow, indent=1, ensure_ascii=False)
        path.write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main([Path(name) for name in sys.argv[1:]])
