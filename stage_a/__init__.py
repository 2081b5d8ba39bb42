"""Stage A, the autoencoder between pixels and the latents that Stage B draws."""

from .model import StageA, StageAConfig
from .tiles import decode_in_tiles, encode_in_tiles

__all__ = ["StageA", "StageAConfig", "decode_in_tiles", "encode_in_tiles"]
