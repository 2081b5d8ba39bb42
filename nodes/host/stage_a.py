"""Stage A as the host's VAE, in tiles where memory is short."""

from __future__ import annotations

import math
from collections.abc import Callable

import comfy.model_management
import torch
from torch import Tensor

from ...stage_a import decode_in_tiles, encode_in_tiles
from .. import check
from .coder import CascadeVAE
from .messages import say

AROUND = 16
"""Cells around a tile of Stage A in estimates of memory; the released network sees 13."""

SMALLEST_TILE = 32
"""Latent cells; smaller ones are mostly what lies around them."""


class StageAVAE(CascadeVAE):
    """Stage A: whole where memory allows, and otherwise in tiles that make the same picture."""

    def decode(self, samples_in: Tensor, vae_options: dict | None = None) -> Tensor:
        """Pictures of latents, ``b c h w`` -> ``b h w 3``."""
        check.vae_latents(samples_in, self.latent_channels, self.name)
        height, width = samples_in.shape[-2:]
        tile = self._tile(height, width, lambda h, w: self.memory_used_decode((1, 1, h, w), self.vae_dtype))
        if tile is None:
            return super().decode(samples_in, vae_options)
        return self.decode_tiled_(samples_in, tile, tile).movedim(1, -1)

    def encode(self, pixel_samples: Tensor) -> Tensor:
        """Latents of pictures, ``b h w 3`` -> ``b c h w``; the host cuts them to whole latent cells."""
        cell = self.downscale_ratio
        height, width = (side // cell for side in pixel_samples.shape[1:3])

        def cost(h: int, w: int) -> float:
            return self.memory_used_encode((1, 3, h * cell, w * cell), self.vae_dtype)

        tile = self._tile(height, width, cost)
        if tile is None:
            return super().encode(pixel_samples)
        return self.encode_tiled(pixel_samples, tile_x=tile * cell, tile_y=tile * cell)

    def decode_tiled_(
        self, samples: Tensor, tile_x: int = 256, tile_y: int = 256, overlap: int = 0
    ) -> Tensor:
        """What the host calls for tiles, in latent cells. The overlap is what Stage A sees."""
        cell, network = self.upscale_ratio, self.first_stage_model
        batch, _, height, width = samples.shape
        out = torch.empty(
            batch, 3, height * cell, width * cell, device=self.output_device, dtype=self.vae_output_dtype()
        )

        def decode(latents: Tensor) -> Tensor:
            pixels = network.decode(latents.to(self.device, self.vae_dtype))
            return self.process_output(pixels.to(out))

        return self._smaller(decode_in_tiles, decode, samples, min(tile_x, tile_y), out)

    def encode_tiled_(
        self, pixel_samples: Tensor, tile_x: int = 1024, tile_y: int = 1024, overlap: int = 0
    ) -> Tensor:
        """The same for latents, with tiles in pixels."""
        cell, network = self.downscale_ratio, self.first_stage_model
        batch, _, height, width = pixel_samples.shape
        out = torch.empty(
            batch, self.latent_channels, height // cell, width // cell,
            device=self.output_device, dtype=self.vae_output_dtype(),
        )  # fmt: skip

        def encode(images: Tensor) -> Tensor:
            return network.encode(images.to(self.device, self.vae_dtype)).to(out)

        return self._smaller(encode_in_tiles, encode, pixel_samples, min(tile_x, tile_y) // cell, out)

    def _tile(self, height: int, width: int, cost: Callable[[int, int], float]) -> int | None:
        """Longest side of a tile in latent cells for the memory there is; None where everything fits.

        Args:
            height, width: of the latents.
            cost: bytes that latents of a height and width take.
        """
        management = comfy.model_management
        management.load_models_gpu([self.patcher], memory_required=cost(height, width))
        free = management.get_free_memory(self.device)
        if cost(height, width) <= free:
            return None
        side = max(height, width)
        while side > SMALLEST_TILE and cost(*(min(side + 2 * AROUND, n) for n in (height, width))) > free:
            side = math.ceil(side / 2)
        return side

    def _smaller(
        self, run: Callable[..., Tensor], network: Callable, given: Tensor, tile: int, out: Tensor
    ) -> Tensor:
        """Work in tiles, a picture at a time, and in smaller ones where memory runs out."""
        pictures = list(zip(given.split(1), out.split(1), strict=True))
        while pictures:
            try:
                run(self.first_stage_model.config, network, pictures[0][0], max(tile, 1), pictures[0][1])
                pictures.pop(0)
                continue
            except Exception as error:
                comfy.model_management.raise_non_oom(error)
                if tile <= SMALLEST_TILE:
                    raise
            tile = math.ceil(min(tile, *given.shape[-2:]) / 2)
            comfy.model_management.soft_empty_cache()
            pixels = tile * self.upscale_ratio
            say(f"memory ran out in Stage A: it goes on in tiles of {pixels} pixels, with the same result")
        return out
