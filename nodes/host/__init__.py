"""The only door to ComfyUI: everything of the host that nodes use, and our networks on its sockets."""

from comfy.samplers import KSampler
from comfy_api.latest import ComfyExtension, io

from ...checkpoints.identify import Part
from .clip import load_image_encoder, load_text_encoder
from .files import SMALL, choices, fingerprint, path_of
from .messages import say
from .model import load_model, traits
from .precision import CHOICES as PRECISIONS
from .precision import DEFAULT
from .sampling import ksample
from .vae import load_semantic_encoder, load_stage_a

SAMPLERS: list[str] = KSampler.SAMPLERS
SCHEDULERS: list[str] = KSampler.SCHEDULERS

__all__ = [
    "DEFAULT",
    "PRECISIONS",
    "SAMPLERS",
    "SCHEDULERS",
    "SMALL",
    "ComfyExtension",
    "Part",
    "choices",
    "fingerprint",
    "io",
    "ksample",
    "load_image_encoder",
    "load_model",
    "load_semantic_encoder",
    "load_stage_a",
    "load_text_encoder",
    "path_of",
    "say",
    "traits",
]
