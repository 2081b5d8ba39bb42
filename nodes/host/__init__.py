"""The only door to ComfyUI: everything of the host that nodes use, and our networks on its sockets."""

from comfy_api.latest import ComfyExtension, io

from ...checkpoints.identify import Part
from .checkpoint import load_checkpoint, load_pipeline
from .clip import load_image_encoder, load_text_encoder
from .compiled import CHOICES as COMPILE
from .compiled import compiled
from .control import open_controlnet, with_control, with_mask
from .faces import detect_faces, face_models
from .files import (
    SMALL,
    adapter_choices,
    checkpoint_choices,
    choices,
    fingerprint,
    path_of,
    path_of_adapter,
    path_of_checkpoint,
)
from .guider import Guider
from .large import in_windows, reusing, with_fewer_keys, with_large_forms
from .messages import say
from .model import load_model, traits
from .precision import CHOICES as PRECISIONS
from .precision import DEFAULT
from .precision import DTYPES as STORED
from .sampling import (
    NOISES,
    SAMPLERS,
    SCHEDULERS,
    PictureNoise,
    ksample,
    preview_of,
    sampler_named,
    sampler_of,
    shift_of,
    with_schedule,
)
from .save import LAYOUTS, save_parts
from .vae import load_semantic_encoder, load_stage_a

__all__ = [
    "COMPILE",
    "DEFAULT",
    "LAYOUTS",
    "NOISES",
    "PRECISIONS",
    "SAMPLERS",
    "SCHEDULERS",
    "SMALL",
    "STORED",
    "ComfyExtension",
    "Guider",
    "Part",
    "PictureNoise",
    "adapter_choices",
    "checkpoint_choices",
    "choices",
    "compiled",
    "detect_faces",
    "face_models",
    "fingerprint",
    "in_windows",
    "io",
    "ksample",
    "load_checkpoint",
    "load_image_encoder",
    "load_model",
    "load_pipeline",
    "load_semantic_encoder",
    "load_stage_a",
    "load_text_encoder",
    "open_controlnet",
    "path_of",
    "path_of_adapter",
    "path_of_checkpoint",
    "preview_of",
    "reusing",
    "sampler_named",
    "sampler_of",
    "save_parts",
    "say",
    "shift_of",
    "traits",
    "with_control",
    "with_fewer_keys",
    "with_large_forms",
    "with_mask",
    "with_schedule",
]
