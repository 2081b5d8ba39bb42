"""Stage A, and the semantic encoder with its previewer, as the host's VAE."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ...checkpoints.identify import Part, expect
from ...checkpoints.open import load_part
from ...stage_a import StageAConfig
from ...stage_c.coder import Previewer, PreviewerConfig, SemanticEncoder, SemanticEncoderConfig
from .coder import CascadeVAE, unchanged
from .files import naming, notes_in
from .stage_a import StageAVAE

LIVE_ACTIVATIONS = 4
"""Tensors of the size of an encoder's or previewer's widest layer that are alive at once."""

LIVE_IN_STAGE_A = 2
"""The same of Stage A, which holds one of that size and some that are a quarter of it."""


class SemanticVAE(CascadeVAE):
    """The semantic encoder, which looks at whole pictures: never in tiles, which would not match at seams."""

    def decode_tiled(self, samples: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        """Whole all the same; latents of Stage C are small."""
        return self.decode(samples)

    def encode_tiled(self, pixel_samples: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        """Whole all the same."""
        return self.encode(pixel_samples)

    def decode_tiled_(self, samples: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        """What the host falls back to where memory is short."""
        raise ValueError(_too_large(samples))

    def encode_tiled_(self, pixel_samples: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        """What the host falls back to where memory is short."""
        raise ValueError(_too_large(pixel_samples))


def _too_large(given: Tensor) -> str:
    return (
        f"a picture of {given.shape[-1]}x{given.shape[-2]} does not fit into memory whole, and the "
        "semantic encoder takes no tiles: use a smaller picture, or start ComfyUI with --cpu-vae"
    )


def _clamp(image: Tensor) -> Tensor:
    return image.clamp_(0, 1)


class SemanticCoder(nn.Module):
    """The encoder and, if there is one, the previewer, under the names of the host's own coder."""

    def __init__(self, encoder: SemanticEncoder, previewer: Previewer | None):
        super().__init__()
        self.encoder = encoder
        self.previewer = previewer

    def encode(self, images: Tensor) -> Tensor:
        """Stage C latents of pictures."""
        return self.encoder(images)

    def decode(self, latents: Tensor) -> Tensor:
        """Small pictures of Stage C latents."""
        if self.previewer is None:
            raise ValueError(
                "this semantic encoder was loaded without a previewer, so it cannot draw Stage C's "
                "latents: choose one in Load Semantic Encoder (Cascade)"
            )
        return self.previewer(latents)


def load_stage_a(path: str | Path) -> CascadeVAE:
    """A VAE from the file of a Stage A.

    Raises:
        ValueError: the file holds something else.
    """
    network = _load(path, Part.STAGE_A)
    ratio = 2 ** len(network.config.widths)  # the first fold of pixels halves as each change of level does
    cell = stage_a_features(network.config)
    # Native Stage A takes and gives pictures in [0, 1] and does not clamp; so does this one.
    return _registered(
        StageAVAE(
            network,
            channels=network.config.channels,
            downscale=ratio,
            upscale=ratio,
            features=(cell / ratio**2, cell),
            dtypes=[torch.bfloat16, torch.float32],
            finish=unchanged,
            name="Stage A",
            notes=_notes({Part.STAGE_A: path}),
        ),
        load_stage_a,
        path,
    )


def load_semantic_encoder(path: str | Path, previewer: str | Path | None = None) -> CascadeVAE:
    """A VAE from the file of a semantic encoder and, to decode, that of a previewer.

    Raises:
        ValueError: a file holds something else, or the two do not fit each other.
    """
    encoder = _load(path, Part.SEMANTIC_ENCODER)
    drawer = _load(previewer, Part.PREVIEWER) if previewer else None
    channels = encoder.config.channels
    if drawer and drawer.config.convolutions[0][1] != channels:
        raise ValueError(
            f"the previewer `{Path(previewer).name}` draws latents of {drawer.config.convolutions[0][1]} "
            f"channels, and `{Path(path).name}` makes {channels}: choose the previewer that belongs to "
            "the encoder"
        )
    return _registered(
        SemanticVAE(
            SemanticCoder(encoder, drawer),
            channels=channels,
            downscale=encoder.config.downscale,
            upscale=drawer.config.upscale if drawer else 8,
            features=(_encoder_features(encoder.config), _previewer_features(drawer and drawer.config)),
            dtypes=[torch.float32],
            finish=_clamp,
            name="the semantic encoder",
            notes=_notes({Part.SEMANTIC_ENCODER: path, Part.PREVIEWER: previewer}),
        ),
        load_semantic_encoder,
        path,
        previewer,
    )


def _load(path: str | Path, part: Part) -> nn.Module:
    with naming(Path(path).name):
        return load_part(path, part)


def _notes(paths: Mapping[Part, str | Path | None]) -> dict[str, dict[str, str]]:
    """Entries of ours in the metadata of each part's file, where it has one."""
    given = {part: path for part, path in paths.items() if path}
    return {part.value: notes_in(expect(path, part)) for part, path in given.items()}


def _registered(vae: CascadeVAE, load: Callable[..., CascadeVAE], *paths: Any) -> CascadeVAE:
    """The same VAE, with what the host needs to make it again on another device."""
    vae.patcher.cached_patcher_init = (_patcher, (load, *paths))
    return vae


def _patcher(load: Callable[..., Any], *paths: Any, disable_dynamic: bool = False) -> Any:
    # A VAE of ours holds torch's own layers, whose weights are always real.
    return load(*paths).patcher


def stage_a_features(config: StageAConfig) -> float:
    """Values in memory at once to a latent cell, by the widest layer; finer levels have more cells."""
    return LIVE_IN_STAGE_A * max(hidden * 4**finer for finer, hidden in enumerate(reversed(config.c_hidden)))


def _encoder_features(config: SemanticEncoderConfig) -> float:
    """Values in memory at once to a pixel, by the widest layer."""
    strides = [config.stem_stride, *(stage.stride for stage in config.stages)]
    scales = [math.prod(strides[: i + 1]) for i in range(len(config.stages))]
    widths = (s.c_in * s.expand_ratio / scale**2 for s, scale in zip(config.stages, scales, strict=True))
    return LIVE_ACTIVATIONS * max(widths)


def _previewer_features(config: PreviewerConfig | None) -> float:
    """Values in memory at once to a latent cell, by the widest layer."""
    widest = cells = 1
    for kernel_size, _, c_out in config.convolutions if config else ():
        cells *= 4 if kernel_size == 2 else 1
        widest = max(widest, c_out * cells)
    return LIVE_ACTIVATIONS * widest
