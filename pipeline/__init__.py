"""The cascade in a few functions: load it, draw, encode, decode. It needs no ComfyUI; see docs/python.md."""

from ..adapters.controlnet import load_controlnet
from .cascade import Cascade
from .control import Control
from .load import load
from .picture import read_mask, read_picture, save_picture
from .settings import Sampling, Settings

__all__ = [
    "Cascade", "Control", "Sampling", "Settings", "load", "load_controlnet", "read_mask", "read_picture",
    "save_picture",
]  # fmt: skip
