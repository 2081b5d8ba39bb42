"""The cascade in a few functions: load it, draw, encode, decode. It needs no ComfyUI; see docs/python.md."""

from .cascade import Cascade, load
from .picture import read_mask, read_picture, save_picture
from .settings import Sampling, Settings

__all__ = ["Cascade", "Sampling", "Settings", "load", "read_mask", "read_picture", "save_picture"]
