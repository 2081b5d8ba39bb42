"""Stage A, the autoencoder between pixels and the latents that Stage B draws."""

from .model import StageA, StageAConfig

__all__ = ["StageA", "StageAConfig"]
