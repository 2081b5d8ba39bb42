"""Stage A, and the semantic encoder with its previewer, as the host's VAE."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import comfy.model_management
import comfy.model_patcher
import comfy.sd
import torch
from torch import Tensor, nn

from ...checkpoints.identify import Part, expect
from ...checkpoints.open import load_part
from ...checkpoints.recorded import Recorded
from ...stage_a import StageAConfig
from ...stage_c.coder import Previewer, PreviewerConfig, SemanticEncoder, SemanticEncoderConfig
from .. import check
from .files import naming, noted, notes_in

LIVE_ACTIVATIONS = 4
"""Tensors of the widest layer's size that are alive at once."""


class CascadeVAE(comfy.sd.VAE):
    """A VAE around a network of ours; the host's constructor, which knows files and sizes, is skipped.

    Args:
        network: with ``encode``, ``b 3 h w`` in [0, 1] to latents, and ``decode``.
        channels, downscale, upscale: of its latents.
        features: values in the widest layer, to a pixel when encoding and to a latent cell when decoding.
        dtypes: that it may compute in, best first.
        finish: changes decoded pictures in place, ``b 3 h w``.
        name: what errors call it.
        notes: entries of ours in the metadata of each part in it.
    """

    def __init__(
        self,
        network: nn.Module,
        *,
        channels: int,
        downscale: int,
        upscale: int,
        features: tuple[float, float],
        dtypes: list[torch.dtype],
        finish: Callable[[Tensor], Tensor],
        name: str,
        notes: dict[str, dict[str, str]],
    ):
        self.downscale_ratio, self.upscale_ratio, self.latent_channels = downscale, upscale, channels
        self.memory_used_encode, self.memory_used_decode = (_memory(per_cell) for per_cell in features)
        self.process_input, self.process_output = _unchanged, finish
        self.working_dtypes = dtypes
        self.name, self.notes = name, notes
        self.cascade = Recorded.from_metadata(next(iter(notes.values())))
        self._set_host_defaults()
        self._manage(network)

    def _set_host_defaults(self) -> None:
        """Everything else that the host's methods read: a picture, no video, no sound."""
        self.latent_dim, self.output_channels, self.pad_channel_value = 2, 3, None
        self.disable_offload = self.not_video = self.handles_tiling = False
        self.crop_input = True
        self.size = self.extra_1d_channel = self.format_encoded = None
        self.downscale_index_formula = self.upscale_index_formula = None
        self.audio_sample_rate = 44100

    def _manage(self, network: nn.Module) -> None:
        """Hand the network to the host's memory manager."""
        management = comfy.model_management
        self.device, self.output_device = management.vae_device(), management.intermediate_device()
        self.vae_dtype = management.vae_dtype(self.device, self.working_dtypes)
        self.first_stage_model = network.to(self.vae_dtype).eval()
        management.archive_model_dtypes(self.first_stage_model)
        self.patcher = comfy.model_patcher.CoreModelPatcher(
            self.first_stage_model, load_device=self.device, offload_device=management.vae_offload_device()
        )
        self.model_size()

    def get_sd(self) -> dict[str, Tensor]:
        """The weights for the host's saving nodes, which drop our metadata: it goes along as a tensor."""
        return super().get_sd() | noted(self.notes)

    def decode(self, samples_in: Tensor, vae_options: dict | None = None) -> Tensor:
        """Pictures of latents, ``b c h w`` → ``b h w 3``."""
        check.vae_latents(samples_in, self.latent_channels, self.name)
        return super().decode(samples_in, vae_options or {})

    def decode_tiled(self, samples: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        """The same in tiles, for pictures too large for the device."""
        check.vae_latents(samples, self.latent_channels, self.name)
        return super().decode_tiled(samples, *args, **kwargs)


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


def _unchanged(image: Tensor) -> Tensor:
    return image


def _clamp(image: Tensor) -> Tensor:
    return image.clamp_(0, 1)


def _memory(per_cell: float) -> Callable[[Any, torch.dtype], float]:
    """Bytes that ``b c h w`` of a shape and dtype will take."""

    def needed(shape: Any, dtype: torch.dtype) -> float:
        cells = shape[0] * shape[-2] * shape[-1]
        return cells * per_cell * comfy.model_management.dtype_size(dtype) * LIVE_ACTIVATIONS

    return needed


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
    cell = _stage_a_features(network.config)
    # Native Stage A takes and gives pictures in [0, 1] and does not clamp; so does this one.
    return _registered(
        CascadeVAE(
            network,
            channels=network.config.channels,
            downscale=ratio,
            upscale=ratio,
            features=(cell / ratio**2, cell),
            dtypes=[torch.bfloat16, torch.float32],
            finish=_unchanged,
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


def _stage_a_features(config: StageAConfig) -> float:
    """Values in the widest layer to a latent cell; each finer level has four times the cells."""
    return max(hidden * 4**finer for finer, hidden in enumerate(reversed(config.c_hidden)))


def _encoder_features(config: SemanticEncoderConfig) -> float:
    """Values in the widest layer to a pixel."""
    strides = [config.stem_stride, *(stage.stride for stage in config.stages)]
    scales = [math.prod(strides[: i + 1]) for i in range(len(config.stages))]
    return max(s.c_in * s.expand_ratio / scale**2 for s, scale in zip(config.stages, scales, strict=True))


def _previewer_features(config: PreviewerConfig | None) -> float:
    """Values in the widest layer to a latent cell."""
    widest = cells = 1
    for kernel_size, _, c_out in config.convolutions if config else ():
        cells *= 4 if kernel_size == 2 else 1
        widest = max(widest, c_out * cells)
    return widest
