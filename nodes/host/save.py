"""What is on the host's sockets as files, with the metadata that its own saving nodes drop."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import comfy.model_management
import comfy.sd
import folder_paths
from comfy.model_patcher import LazyCastingParam, LazyCastingParamPiece, ModelPatcher
from torch import Tensor

from ...checkpoints.convert import SUFFIX, Held, write_parts
from ...checkpoints.identify import Part, find_parts
from ...checkpoints.layout import Layout, shapes
from ...checkpoints.open import pick
from ...checkpoints.save import PLACES
from .precision import DTYPES

LAYOUTS = [layout.value for layout in Layout]
"""What a saving node offers."""


def save_parts(loaded: Any, prefix: str, layout: str, weight_dtype: str) -> list[str]:
    """Write a MODEL, VAE or CLIP with its patches applied.

    Args:
        loaded: of ours or of the host's own classes.
        prefix: of the name, in the host's output folder; a number is added.
        layout: one of ``LAYOUTS``. In diffusers' a network gets a folder with its configuration.
        weight_dtype: one of ``precision.DTYPES``; anything else keeps what is in memory.

    Returns:
        The files' names, relative to the output folder.

    Raises:
        ValueError: it is no part of Stable Cascade, or does not go into such files.
        OSError: a file cannot be written.
    """
    parts = _held(loaded)
    root = Path(folder_paths.get_output_directory())
    folder, name, counter, _, _ = folder_paths.get_save_image_path(prefix, str(root))
    spelled = Layout(layout)
    one_file = spelled is Layout.COMFYUI or (spelled is Layout.STABILITY and len(parts) == 1)
    out = Path(folder, f"{name}_{counter:05}_{SUFFIX if one_file else ''}")
    written = write_parts(parts, out, spelled, DTYPES.get(weight_dtype))
    return [path.relative_to(root).as_posix() for path in written]


def _held(loaded: Any) -> dict[Part, Held]:
    """The parts on a socket, each with its weights under our names and its metadata."""
    state, notes = _state(loaded)
    found = [part for part in find_parts(shapes(state)) if part in PLACES]
    if not found:
        raise ValueError(
            "what was given to Save Stage (Cascade) is no part of Stable Cascade: wire the output of one of "
            "its loaders here, and save other models with ComfyUI's own nodes"
        )
    return {part: Held(pick(state, part), notes.get(part.value, {})) for part in found}


def _state(loaded: Any) -> tuple[dict[str, Tensor], Mapping[str, Mapping[str, str]]]:
    """Weights and what was noted of each part."""
    if isinstance(loaded, ModelPatcher):
        # As the host does before it saves: then patches are applied, or will be as each weight is read.
        comfy.model_management.load_models_gpu([loaded])
        network = loaded.model.diffusion_model
        state = loaded.model_state_dict_for_saving(network, "diffusion_model.")
        return _patched(state), getattr(loaded.model, "notes", {})
    if isinstance(loaded, comfy.sd.CLIP):
        loaded.load_model()
        return _patched(loaded.patcher.model_state_dict_for_saving()), getattr(loaded.tokenizer, "notes", {})
    return loaded.first_stage_model.state_dict(), getattr(loaded, "notes", {})


def _patched(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    lazy = (LazyCastingParam, LazyCastingParamPiece)
    return {key: tensor.to("cpu") if isinstance(tensor, lazy) else tensor for key, tensor in state.items()}
