"""The only door to ComfyUI: everything of the host that nodes use, and our networks on its sockets."""

from comfy.samplers import KSampler
from comfy_api.latest import ComfyExtension, io

from ...checkpoints.identify import Part
from .checkpoint import load_checkpoint, load_pipeline
from .clip import load_image_encoder, load_text_encoder
from .files import SMALL, checkpoint_choices, choices, fingerprint, path_of, path_of_checkpoint
from .messages import say
from .model import load_model, traits
from .precision import CHOICES as PRECISIONS
from .precision import DEFAULT
from .precision import DTYPES as STORED
from .sampling import ksample
from .save import LAYOUTS, save_parts
from .vae import load_semantic_encoder, load_stage_a

SAMPLERS: list[str] = KSampler.SAMPLERS
SCHEDULERS: list[str] = KSampler.SCHEDULERS

__all__ = [
    "DEFAULT",
    "LAYOUTS",
    "PRECISIONS",
    "SAMPLERS",
    "SCHEDULERS",
    "SMALL",
    "STORED",
    "ComfyExtension",
    "Part",
    "checkpoint_choices",
    "choices",
    "fingerprint",
    "io",
    "ksample",
    "load_checkpoint",
    "load_image_encoder",
    "load_model",
    "load_pipeline",
    "load_semantic_encoder",
    "load_stage_a",
    "load_text_encoder",
    "path_of",
    "path_of_checkpoint",
    "save_parts",
    "say",
    "traits",
]
