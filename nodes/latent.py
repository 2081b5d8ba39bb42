"""Latents of both diffusion stages: empty, from pictures, and as a small picture."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from ..latents.geometry import (
    SMALLEST_IMAGE,
    STAGE_B_COMPRESSION,
    STAGE_C_COMPRESSION,
    stage_b_size,
    stage_c_size,
)
from . import check
from .host import io, say, traits

CATEGORY = "cascade/latent"
LARGEST_SIDE = 16384


def _compression() -> Any:
    return io.Float.Input(
        "compression",
        default=0.0,
        min=0.0,
        max=128.0,
        step=0.01,
        advanced=True,
        tooltip="Pixels per Stage C cell along a side; 0 takes the value the model was trained at, 42.67 "
        "where no model says otherwise, and lower values give more cells and slower sampling.",
    )


def _side(name: str) -> Any:
    return io.Int.Input(
        name,
        default=1024,
        min=SMALLEST_IMAGE,
        max=LARGEST_SIDE,
        step=8,
        tooltip=f"Pixels, from {SMALLEST_IMAGE}; Stage B gets an even number of cells of 4 pixels and "
        "Stage C one cell for each begun compression, both rounded up, so 1000 pixels give 250 and 24 "
        "cells.",
    )


def _outputs() -> list:
    return [
        io.Latent.Output(display_name="stage_c", tooltip="16 channels, for Stage C's sampler."),
        io.Latent.Output(display_name="stage_b", tooltip="4 channels, for Stage B's sampler."),
    ]


class CascadeEmptyLatents(io.ComfyNode):
    """Empty latents for both stages."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="CascadeEmptyLatents",
            display_name="Empty Latents (Cascade)",
            category=CATEGORY,
            search_aliases=["StableCascade_EmptyLatentImage", "empty latent image", "width height", "batch"],
            description="Empty latents of one picture for both diffusion stages, of any size.",
            inputs=[
                _side("width"),
                _side("height"),
                io.Int.Input(
                    "batch_size",
                    default=1,
                    min=1,
                    max=4096,
                    tooltip="Pictures to draw at once, each with its own noise.",
                ),
                _compression(),
                io.Model.Input(
                    "stage_c",
                    optional=True,
                    tooltip="The Stage C to sample, for the compression it was trained at.",
                ),
            ],
            outputs=_outputs(),
        )

    @classmethod
    def execute(
        cls, width: int, height: int, batch_size: int, compression: float, stage_c: Any = None
    ) -> io.NodeOutput:
        """Zeros of both sizes."""
        trained = traits(stage_c).compression if stage_c is not None else STAGE_C_COMPRESSION
        if compression:
            check.tell_compression(compression, trained, say)
        return io.NodeOutput(
            _empty(batch_size, check.STAGE_C_CHANNELS, stage_c_size(width, height, compression or trained)),
            empty_stage_b(batch_size, width, height),
        )


def _empty(batch: int, channels: int, size: tuple[int, int]) -> dict[str, Any]:
    return {"samples": torch.zeros(batch, channels, size[1], size[0])}


def empty_stage_b(batch: int, width: int, height: int) -> dict[str, Any]:
    """Zeros for Stage B, for pictures of a size in pixels."""
    # Declared as the host's own empty latents do: wired into another model, they are resized to fit.
    latents = _empty(batch, check.STAGE_AB_CHANNELS, stage_b_size(width, height))
    return latents | {"downscale_ratio_spacial": STAGE_B_COMPRESSION}


class CascadeEncodeImage(io.ComfyNode):
    """Latents of a picture."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="CascadeEncodeImage",
            display_name="Encode Image (Cascade)",
            category=CATEGORY,
            search_aliases=["StableCascade_StageC_VAEEncode", "vae encode", "image to image", "img2img"],
            description="A picture as latents of both stages, to change it, or to reconstruct it by Stage "
            "B alone.",
            inputs=[
                io.Image.Input("image", tooltip=f"Any size from {SMALLEST_IMAGE} pixels; it is not cropped."),
                io.Vae.Input("semantic_encoder", tooltip="The VAE of Load Semantic Encoder (Cascade)."),
                _compression(),
                io.Vae.Input(
                    "stage_a",
                    optional=True,
                    tooltip="The VAE of Load Stage A (Cascade); without it Stage B's latents are empty.",
                ),
            ],
            outputs=_outputs(),
        )

    @classmethod
    def execute(
        cls, image: Tensor, semantic_encoder: Any, compression: float, stage_a: Any = None
    ) -> io.NodeOutput:
        """The picture, stretched to whole cells and encoded for each stage."""
        check.vae_channels(
            semantic_encoder, check.STAGE_C_CHANNELS, "semantic_encoder", "Load Semantic Encoder (Cascade)"
        )
        trained = getattr(semantic_encoder, "cascade", None)
        trained = trained.compression if trained else STAGE_C_COMPRESSION
        if compression:
            check.tell_compression(compression, trained, say)
        batch, height, width, _ = image.shape
        cells = stage_c_size(width, height, compression or trained)
        stage_c = {"samples": encode_cells(semantic_encoder, image, cells)}
        if stage_a is None:
            return io.NodeOutput(stage_c, empty_stage_b(batch, width, height))
        check.vae_channels(stage_a, check.STAGE_AB_CHANNELS, "stage_a", "Load Stage A (Cascade)")
        return io.NodeOutput(stage_c, {"samples": encode_cells(stage_a, image, stage_b_size(width, height))})


def encode_cells(vae: Any, image: Tensor, cells: tuple[int, int]) -> Tensor:
    """Latents of ``b h w c`` pictures with a given number of cells, ``(w, h)``."""
    ratio = vae.spacial_compression_encode()
    pixels = image[..., :3].movedim(-1, 1).float()
    size = (cells[1] * ratio, cells[0] * ratio)
    if pixels.shape[-2:] != size:
        pixels = functional.interpolate(pixels, size, mode="bilinear", antialias=True)
    return vae.encode(pixels.movedim(1, -1))


class CascadePreviewLatent(io.ComfyNode):
    """Stage C's latents as a small picture."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="CascadePreviewLatent",
            display_name="Preview Stage C (Cascade)",
            category=CATEGORY,
            search_aliases=["previewer", "decode stage c", "preview latent", "thumbnail"],
            description="A small picture of what Stage C drew, without Stage B: fast, and good enough to "
            "choose a seed.",
            inputs=[
                io.Latent.Input("stage_c", tooltip="What Stage C sampled: latents of 16 channels."),
                io.Vae.Input(
                    "semantic_encoder",
                    tooltip="The VAE of Load Semantic Encoder (Cascade), with a previewer.",
                ),
            ],
            outputs=[
                io.Image.Output(display_name="image", tooltip="Eight pixels to a cell for released files.")
            ],
        )

    @classmethod
    def execute(cls, stage_c: dict[str, Any], semantic_encoder: Any) -> io.NodeOutput:
        """The picture."""
        check.vae_channels(
            semantic_encoder, check.STAGE_C_CHANNELS, "semantic_encoder", "Load Semantic Encoder (Cascade)"
        )
        latents = check.stage_c_latents(stage_c["samples"])
        return io.NodeOutput(semantic_encoder.decode(latents))
