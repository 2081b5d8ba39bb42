"""The parts that can be trained, by name."""

from __future__ import annotations

import difflib

from .control import CannyTask, InpaintTask, SuperResolutionTask
from .distillation import DistilledLora, StageCDistillation
from .encoders import ImageEncoderTask, SemanticEncoderTask, TextEncoderTask
from .image_adapter import ImageAdapterTask
from .lora import LoraTask
from .previewer import PreviewerTask
from .stage_a import StageATask
from .stage_b import StageBTask
from .stage_c import StageCTask
from .task import Task

PARTS: dict[str, type[Task]] = {
    "stage_a": StageATask,
    "semantic_encoder": SemanticEncoderTask,
    "text_encoder": TextEncoderTask,
    "image_encoder": ImageEncoderTask,
    "stage_b": StageBTask,
    "stage_c": StageCTask,
    "stage_c_lcm": StageCDistillation,
    "lora_lcm": DistilledLora,
    "previewer": PreviewerTask,
    "image_adapter": ImageAdapterTask,
    "controlnet_canny": CannyTask,
    "controlnet_inpaint": InpaintTask,
    "controlnet_super_resolution": SuperResolutionTask,
    "lora": LoraTask,
}
"""By the names that settings use."""


def task_of(part: str) -> type[Task]:
    """The task that trains a part.

    Raises:
        ValueError: nothing is called so.
    """
    if part not in PARTS:
        near = difflib.get_close_matches(part, PARTS, n=1, cutoff=0.0)[0]
        raise ValueError(f"no part is called {part}; the nearest name is {near}")
    return PARTS[part]
