"""Stage C, the prior: text and images in, a small semantic latent out."""

from .model import StageC, StageCConfig

__all__ = ["StageC", "StageCConfig"]
