"""Every file in the host's model folders that may be a part of the cascade, or be mistaken for one."""

from __future__ import annotations

import os
from pathlib import Path

import folder_paths
from comfy_api.latest import ui

from ... import weights as embedded
from .files import PIPELINES, SMALL
from .messages import put_on_node

KINDS = (
    "checkpoints",
    "diffusion_models",
    "vae",
    "text_encoders",
    "clip_vision",
    "controlnet",
    "loras",
    "model_patches",
    "embeddings",
)
"""Model folders of the host that hold single files."""


def every_file() -> list[str]:
    """Files by folder and name, such as ``loras/style.safetensors``, the small cascade's first."""
    small = [f"{SMALL}/{name}" for name in embedded.shipped()]
    files = [
        f"{kind}/{Path(name).as_posix()}" for kind in KINDS for name in folder_paths.get_filename_list(kind)
    ]
    roots = [Path(root) for root in folder_paths.get_folder_paths(PIPELINES)]
    pipelines = {index.parent.name for root in roots for index in root.glob("*/model_index.json")}
    return small + files + [f"{PIPELINES}/{name}" for name in sorted(pipelines)]


def place_of(choice: str) -> Path:
    """The file or folder behind a choice.

    Raises:
        ValueError: it is gone.
    """
    kind, _, name = choice.partition("/")
    if kind == SMALL:
        return embedded.path(name)
    if kind == PIPELINES:
        inside = os.path.relpath(Path("/", name), "/")  # as the host does: never outside of its folders
        places = [Path(root, inside) for root in folder_paths.get_folder_paths(PIPELINES)]
        found = next((str(place) for place in places if place.is_dir()), None)
    else:
        found = folder_paths.get_full_path(kind, name) if kind in KINDS else None
    if found is None:
        raise ValueError(
            f"`{choice}` is not in the model folders any more: refresh the list and choose again"
        )
    return Path(found)


def shown(text: str) -> ui.PreviewText:
    """A text on the node that is running, and among its outputs, which the page alone would not show."""
    put_on_node(text)
    return ui.PreviewText(text)
