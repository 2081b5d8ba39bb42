"""Tiny training runs: a recipe of each part that takes milliseconds a step, on pictures of 64 pixels."""

import copy
import dataclasses
import json

import tiny_cascade
from comfyui_cascade.training.loop import Run, train
from comfyui_cascade.training.parts import task_of
from comfyui_cascade.training.settings import Settings, from_table
from comfyui_cascade.training.workspace import Workspace

COMPANIONS = {
    name: f"{name}.safetensors"
    for name in ("stage_a", "semantic_encoder", "text_encoder", "image_encoder", "previewer")
}


def _plain(config):
    """A configuration as the table of a recipe."""
    return json.loads(json.dumps(dataclasses.asdict(config)))


NETWORKS = {
    "stage_a": _plain(tiny_cascade.A) | {"codebook_size": 0},
    "stage_b": _plain(tiny_cascade.B),
    "stage_c": _plain(tiny_cascade.C),
    "previewer": _plain(tiny_cascade.PREVIEW),
    "semantic_encoder": {
        "encoder": _plain(tiny_cascade.SEMANTIC),
        "previewer": _plain(tiny_cascade.PREVIEW),
    },
    "text_encoder": {
        "width": 32, "depth": 1, "c_hidden": 64, "heads": 2, "positions": 32, "vocabulary": 150,
        "c_pooled": 32,
    },
    "image_encoder": {
        "width": 32, "depth": 1, "c_hidden": 64, "heads": 2, "patch_size": 16, "image_size": 32,
        "channels": 24,
    },
}  # fmt: skip


def recipe(part, /, **changes):
    """The table of a tiny recipe; ``changes`` replace entries, within a table one by one."""
    table = {
        "part": part,
        "data": {"picturebook": 12, "size": 64},
        "schedule": {"steps": 8, "batch": 4, "rate": 1e-3, "average": 0.9},
        "network": copy.deepcopy(NETWORKS.get(part, {})),
        "objective": {},
        "companions": dict(COMPANIONS) if part in ("stage_b", "stage_c", "previewer") else {},
        "log": {"every": 2, "checkpoint": 3},
        "recorded": {"compression": tiny_cascade.COMPRESSION},
    }
    for name, value in changes.items():
        if isinstance(value, dict) and name != "network":
            table[name] = {**table.get(name, {}), **value}
        else:
            table[name] = value
    return {name: value for name, value in table.items() if value is not None}


def settings(part, /, **changes):
    """Settings of a tiny recipe."""
    return from_table(Settings, recipe(part, **changes), "recipe")


def task(part, base, /, **changes):
    """The task of a tiny recipe, with the companions in ``base``."""
    return task_of(part)(Workspace(settings(part, **changes), base, lambda line: None))


def run(part, base, folder, minutes=None, **changes):
    """Train by a tiny recipe, or go on with it."""
    silent = Run(settings(part, **changes), base, folder, minutes, "cpu", lambda line: None)
    return train(silent, task_of(part))


def toml(table):
    """A recipe as the text of a TOML file, nested tables inline."""

    def value(of):
        if isinstance(of, dict):
            return "{ " + ", ".join(f"{key} = {value(item)}" for key, item in of.items()) + " }"
        if isinstance(of, list | tuple):
            return "[" + ", ".join(map(value, of)) + "]"
        return json.dumps(of)

    return "".join(f"{key} = {value(item)}\n" for key, item in table.items())
