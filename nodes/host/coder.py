"""A network of ours as the host's VAE: what Stage A and the semantic encoder have in common."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import comfy.model_management
import comfy.model_patcher
import comfy.sd
import torch
from torch import Tensor, nn

from ...checkpoints.recorded import Recorded
from .. import check
from .files import noted


class CascadeVAE(comfy.sd.VAE):
    """A VAE around a network of ours; the host's constructor, which knows files and sizes, is skipped.

    Args:
        network: with ``encode``, ``b 3 h w`` in [0, 1] to latents, and ``decode``.
        channels, downscale, upscale: of its latents.
        features: values in memory at once, to a pixel when encoding and to a latent cell when decoding.
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
        self.process_input, self.process_output = unchanged, finish
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
        """Pictures of latents, ``b c h w`` -> ``b h w 3``."""
        check.vae_latents(samples_in, self.latent_channels, self.name)
        return super().decode(samples_in, vae_options or {})

    def decode_tiled(self, samples: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        """The same in tiles, for pictures too large for the device."""
        check.vae_latents(samples, self.latent_channels, self.name)
        return super().decode_tiled(samples, *args, **kwargs)


def unchanged(image: Tensor) -> Tensor:
    """Decoded pictures as they are."""
    return image


def _memory(per_cell: float) -> Callable[[Any, torch.dtype], float]:
    """Bytes that ``b c h w`` of a shape and dtype will take."""

    def needed(shape: Any, dtype: torch.dtype) -> float:
        cells = shape[0] * shape[-2] * shape[-1]
        return cells * per_cell * comfy.model_management.dtype_size(dtype)

    return needed
