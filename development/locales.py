"""The texts of every node in English, read from ComfyUI's own description of them, and what changed in them.

ComfyUI reads ``locales/<language>/*.json``; its page translates a node by ``nodeDefs.json`` and the words of
its category by ``nodeCategories`` in ``main.json``. Options of a combo have no place in it.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

HOST_CATEGORIES = {"latent"}  # ComfyUI translates them itself; ours would replace its own everywhere
GROWING = "COMFY_AUTOGROW_V3"

Texts = dict[str, Any]


def english(nodes: Mapping[str, Mapping[str, Any]]) -> dict[str, Texts]:
    """What each file in ``locales/en`` holds, by its name; ``nodes`` are those of ``/object_info``."""
    words = {word: None for node in nodes.values() for word in node["category"].split("/")}
    return {
        "main.json": {"nodeCategories": {word: word for word in words if word not in HOST_CATEGORIES}},
        "nodeDefs.json": {name: _node(node) for name, node in nodes.items()},
    }


def read(folder: Path) -> dict[str, Texts]:
    """Every file of a language, by its name; nothing where the folder is missing."""
    return {file.name: json.loads(file.read_text("utf-8")) for file in sorted(folder.glob("*.json"))}


def write(folder: Path, files: Mapping[str, Texts]) -> None:
    """Write the files of a language."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, texts in files.items():
        written = json.dumps(texts, ensure_ascii=False, indent=2)
        (folder / name).write_text(written + "\n", encoding="utf-8")


def flat(files: Mapping[str, Texts]) -> dict[str, Any]:
    """Every text by its place: ``{"nodeDefs.json/CascadeNoise/outputs/0/name": "noise"}``."""
    return dict(_leaves(files, ()))


def changes(old: Mapping[str, Texts], new: Mapping[str, Texts]) -> list[str]:
    """A line for each text that translations have to follow: new, changed or gone."""
    before, after = flat(old), flat(new)
    lines = [f"gone: {place}" for place in before if place not in after]
    for place, text in after.items():
        if before.get(place) != text:
            lines.append(f"{'changed' if place in before else 'new'}: {place}: {text}")
    return lines


def _node(node: Mapping[str, Any]) -> Texts:
    texts: Texts = {"display_name": node["display_name"], "description": node["description"]}
    inputs = [(name, spec) for group in ("required", "optional") for name, spec in _group(node, group)]
    if inputs:
        texts["inputs"] = {name: text for spec in inputs for name, text in _input(*spec)}
    if node["output_name"]:
        both = zip(node["output_name"], node["output_tooltips"], strict=True)
        texts["outputs"] = {str(i): _text(name, tooltip) for i, (name, tooltip) in enumerate(both)}
    return texts


def _group(node: Mapping[str, Any], group: str) -> Iterator[tuple[str, Any]]:
    return iter(node["input"].get(group, {}).items())


def _input(name: str, spec: Any) -> Iterator[tuple[str, Texts]]:
    """An input's texts under the key that ComfyUI's page looks for; those of sockets that it adds as well."""
    options = spec[1] if len(spec) > 1 else {}
    yield name, _text(options.get("display_name") or name, options.get("tooltip"))
    if spec[0] == GROWING:
        template = options["template"]
        ((_, added),) = ((n, s) for group in template["input"].values() for n, s in group.items())
        for i in range(template["max"]):
            socket = f"{template['prefix']}{i}"
            yield f"{name}_{socket}", _text(socket, added[1].get("tooltip"))


def _text(name: str, tooltip: str | None) -> Texts:
    return {"name": name, "tooltip": tooltip} if tooltip else {"name": name}


def _leaves(texts: Any, place: tuple[str, ...]) -> Iterator[tuple[str, Any]]:
    if not isinstance(texts, Mapping):
        yield "/".join(place), texts
        return
    for key, inner in texts.items():
        yield from _leaves(inner, (*place, key))
