"""Stage B, the decoder: a Stage C latent in, a latent for Stage A out."""

from .model import StageB, StageBConfig

__all__ = ["StageB", "StageBConfig"]
