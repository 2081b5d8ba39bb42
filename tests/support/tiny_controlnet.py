"""ControlNets at tiny sizes with random weights, for the Stage C of ``tiny_cascade``."""

import json

from comfyui_cascade.adapters.controlnet import (
    ControlNet,
    ControlNetConfig,
    DeepBackbone,
    EfficientNetBackbone,
    PlainBackbone,
    recorded,
)
from comfyui_cascade.stage_c.coder import EncoderStage
from random_weights import randomise
from safetensors.torch import save_file

WIDTH = 32
"""Of the tiny Stage C, which has four residual blocks."""

STAGES = (
    EncoderStage(True, 1, 3, 2, 8, 8, 1),
    EncoderStage(True, 2, 3, 2, 8, 16, 2),
    EncoderStage(False, 4, 3, 2, 16, 24, 1),
)

CONFIGS = {
    "canny": ControlNetConfig(EfficientNetBackbone(1, STAGES, 24), WIDTH, (0, 2, 3), "canny"),
    "inpainting": ControlNetConfig(EfficientNetBackbone(4, STAGES, 24), WIDTH, (1,), "inpainting"),
    "colours": ControlNetConfig(EfficientNetBackbone(3, STAGES, 24), WIDTH, (3, 0), "a palette"),
    "super-resolution": ControlNetConfig(
        DeepBackbone(16, 48, 20, 3, 28), WIDTH, (0, 1, 2, 3), "super-resolution"
    ),
    "identity": ControlNetConfig(PlainBackbone(6, 24), WIDTH, (0, 1, 2, 3), "identity"),
}
"""One of each backbone, and of each number of channels that matters."""


def network(kind):
    """The network, every weight random."""
    return randomise(ControlNet(CONFIGS[kind]), 11)


def metadata(kind):
    """What the file of a kind says about itself."""
    entries = recorded(CONFIGS[kind])
    return {
        f"cascade.{key}": value if isinstance(value, str) else json.dumps(value)
        for key, value in entries.items()
    }


def write(folder, kind, network=None, **changes):
    """A file of a kind; its path. ``changes`` replace or, as None, remove ``cascade.*`` entries."""
    path = folder / f"{kind}.safetensors"
    notes = metadata(kind) | {f"cascade.{key}": value for key, value in changes.items()}
    made = network or globals()["network"](kind)
    weights = {key: value.contiguous() for key, value in made.state_dict().items()}
    save_file(weights, path, {key: value for key, value in notes.items() if value is not None})
    return path
