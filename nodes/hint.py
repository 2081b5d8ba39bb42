"""What ControlNets of Stage C follow: edges, a picture with a hole, a small picture, faces."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ..adapters import hints
from ..latents.geometry import STAGE_C_COMPRESSION, compression_of_small, stage_c_size
from . import check
from .host import detect_faces, face_models, io, say
from .latent import empty_stage_b, encode_cells

CATEGORY = "cascade/adapt"
FACES = io.Custom("CASCADE_FACES")
"""Faces of one picture, a list of ``adapters.hints.Face``."""


def _hint_output(channels: str) -> Any:
    return io.Image.Output(
        display_name="hint", tooltip=f"For Apply ControlNet (Cascade); an image of {channels}."
    )


def _preview_output(what: str) -> Any:
    return io.Image.Output(display_name="preview", tooltip=f"{what}, to look at.")


class CascadeHintCanny(io.ComfyNode):
    """Edges of a picture."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        def threshold(name: str, default: float, what: str) -> Any:
            return io.Float.Input(
                name,
                default=default,
                min=0.0,
                max=2000.0,
                step=1.0,
                tooltip=f"{what}, in steps of brightness of 0 to 255 over neighbouring pixels; lower finds "
                f"more. {default} was used in training.",
            )

        return io.Schema(
            node_id="CascadeHintCanny",
            display_name="Hint Canny (Cascade)",
            category=CATEGORY,
            search_aliases=["canny", "edges", "edge detection", "line art"],
            description="Edges of a picture as the canny ControlNet knows them: found at 224x224 pixels, "
            "soft. Those of ComfyUI's Canny node are finer than in training.",
            inputs=[
                io.Image.Input("image", tooltip="What to take the edges of, of any size."),
                threshold("low_threshold", hints.CANNY_LOW, "Gradient above which an edge goes on"),
                threshold("high_threshold", hints.CANNY_HIGH, "Gradient above which an edge begins"),
                io.Int.Input(
                    "side",
                    default=hints.CANNY_SIDE,
                    min=0,
                    max=4096,
                    tooltip="Pixels along each side at which edges are looked for; 224 as in training, more "
                    "finds finer ones, 0 is the picture's own size.",
                ),
            ],
            outputs=[
                io.Image.Output(
                    display_name="hint", tooltip="White lines on black, for Apply ControlNet (Cascade)."
                )
            ],
        )

    @classmethod
    def execute(cls, image: Tensor, low_threshold: float, high_threshold: float, side: int) -> io.NodeOutput:
        """The edges, ``b h w 3``."""
        lines = hints.canny_hint(_pixels(image), low_threshold, high_threshold, side)
        return io.NodeOutput(lines.expand(-1, 3, -1, -1).movedim(1, -1).contiguous())


def _pixels(image: Tensor) -> Tensor:
    """An IMAGE as ``b 3 h w``."""
    return image[..., :3].movedim(-1, 1).float()


class CascadeHintInpaint(io.ComfyNode):
    """A picture with holes."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        def border(name: str) -> Any:
            return io.Int.Input(
                name,
                default=0,
                min=0,
                max=8192,
                step=8,
                tooltip=f"Pixels to paint beyond the {name} edge, for outpainting; 0 for none.",
            )

        return io.Schema(
            node_id="CascadeHintInpaint",
            display_name="Hint Inpaint (Cascade)",
            category=CATEGORY,
            search_aliases=["inpaint", "outpaint", "pad image for outpainting"],
            description="A picture with a white hole and the hole's mask, as the inpainting ControlNet knows "
            "them; with borders, a larger picture to paint outwards.",
            inputs=[
                io.Image.Input("image", tooltip="What to keep, of any size."),
                io.Float.Input(
                    "threshold",
                    default=0.5,
                    min=0.0,
                    max=0.999,
                    step=0.01,
                    tooltip="The hole is where the mask is above it; the ControlNet knows no half holes.",
                ),
                *(border(name) for name in ("left", "top", "right", "bottom")),
                io.Mask.Input(
                    "mask",
                    optional=True,
                    tooltip="Where to paint, 1 for the hole; of any size. Not needed with borders.",
                ),
            ],
            outputs=[
                _hint_output("four channels, the last one 1 in the hole"),
                _preview_output("The picture with its hole in white"),
                io.Image.Output(display_name="image", tooltip="The picture with its borders, to composite."),
                io.Mask.Output(display_name="mask", tooltip="The hole with the borders."),
            ],
        )

    @classmethod
    def execute(
        cls,
        image: Tensor,
        threshold: float,
        left: int,
        top: int,
        right: int,
        bottom: int,
        mask: Tensor | None = None,
    ) -> io.NodeOutput:
        """The hint ``b h w 4``, its colours, the larger picture and the mask ``b h w``."""
        sides = (left, top, right, bottom)
        pixels = _pixels(image)
        if mask is None and not any(sides):
            raise ValueError(
                "there is nothing to paint: wire a mask, or say how many pixels to paint beyond an edge"
            )
        holes = torch.zeros_like(pixels[:, :1]) if mask is None else check.masks(mask, len(pixels))[:, None]
        holes = hints.inpaint_hint(pixels, holes, threshold)[:, 3:]
        pixels, holes = hints.with_borders(pixels, holes, sides)
        hint = hints.inpaint_hint(pixels, holes).movedim(1, -1)
        return io.NodeOutput(hint, hint[..., :3], pixels.movedim(1, -1), holes[:, 0])


class CascadeHintSuperResolution(io.ComfyNode):
    """A small picture's latents, and empty ones of a large one."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="CascadeHintSuperResolution",
            display_name="Hint Super-Resolution (Cascade)",
            category=CATEGORY,
            search_aliases=["StableCascade_SuperResolutionControlnet", "upscale", "super resolution"],
            description="What the super-resolution ControlNet follows: Stage C's latents of a small picture, "
            "and empty latents of one twice as large, for both stages.",
            inputs=[
                io.Image.Input("image", tooltip="The small picture; it is not cropped."),
                io.Vae.Input("semantic_encoder", tooltip="The VAE of Load Semantic Encoder (Cascade)."),
                io.Int.Input(
                    "scale",
                    default=2,
                    min=1,
                    max=4,
                    tooltip="How much larger the picture becomes; 2 was trained.",
                ),
                io.Float.Input(
                    "compression",
                    default=0.0,
                    min=0.0,
                    max=128.0,
                    step=0.01,
                    advanced=True,
                    tooltip="Pixels of the small picture per cell; 0 takes 32 for released files, as the "
                    "reference, and what the file says for others.",
                ),
            ],
            outputs=[
                _hint_output("16 channels, one pixel for a cell of the latents"),
                _preview_output("Three of its channels as colours"),
                io.Latent.Output(display_name="stage_c", tooltip="Empty, for Stage C's sampler."),
                io.Latent.Output(display_name="stage_b", tooltip="Empty, for Stage B's sampler."),
            ],
        )

    @classmethod
    def execute(cls, image: Tensor, semantic_encoder: Any, scale: int, compression: float) -> io.NodeOutput:
        """The hint ``b h w 16``, a preview of it, and latents of both stages."""
        check.vae_channels(
            semantic_encoder, check.STAGE_C_CHANNELS, "semantic_encoder", "Load Semantic Encoder (Cascade)"
        )
        batch, height, width, _ = image.shape
        cells = stage_c_size(width, height, compression or _small_compression(semantic_encoder))
        hint = hints.super_resolution_hint(encode_cells(semantic_encoder, image, cells), scale)
        stage_c = {"samples": torch.zeros_like(hint)}
        stage_b = empty_stage_b(batch, width * scale, height * scale)
        preview = hints.as_colours(torch.nn.functional.interpolate(hint, scale_factor=hints.FACE_CELL))
        return io.NodeOutput(hint.movedim(1, -1), preview.movedim(1, -1), stage_c, stage_b)


def _small_compression(semantic_encoder: Any) -> float:
    recorded = getattr(semantic_encoder, "cascade", None)
    trained = recorded.compression if recorded else STAGE_C_COMPRESSION
    return compression_of_small(trained, semantic_encoder.spacial_compression_encode())


class CascadeDetectFaces(io.ComfyNode):
    """The faces in a picture."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="CascadeDetectFaces",
            display_name="Detect Faces (Cascade)",
            category=CATEGORY,
            search_aliases=["insightface", "arcface", "face embedding", "identity"],
            description="Finds faces and who they are, by InsightFace, for Hint Identity (Cascade). It needs "
            "pip install insightface onnxruntime, and its models in models/insightface.",
            inputs=[
                io.Image.Input("image", tooltip="A picture of one to four faces; the first of a batch."),
                io.Combo.Input(
                    "models",
                    options=face_models(),
                    tooltip="Folder in models/insightface/models; buffalo_l holds what the reference used.",
                ),
                io.Int.Input(
                    "count",
                    default=hints.MOST_FACES,
                    min=1,
                    max=hints.MOST_FACES,
                    tooltip="The largest so many faces.",
                ),
                io.Float.Input(
                    "threshold",
                    default=0.5,
                    min=0.0,
                    max=1.0,
                    step=0.01,
                    tooltip="How sure of a face it must be; 0.5 as the reference, lower finds more.",
                ),
            ],
            outputs=[
                FACES.Output(display_name="faces", tooltip="Where they are and who they are."),
                _preview_output("The picture, dark outside of the faces"),
            ],
        )

    @classmethod
    def execute(cls, image: Tensor, models: str, count: int, threshold: float) -> io.NodeOutput:
        """The faces, and the picture with their boxes."""
        faces = detect_faces(image[0, ..., :3], models, count, threshold)
        if not faces:
            raise ValueError(
                "no face was found in the picture: use one in which a face is larger, or a lower threshold"
            )
        return io.NodeOutput(faces, hints.lit(faces, image[:1, ..., :3]))


class CascadeHintIdentity(io.ComfyNode):
    """A map of faces."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        def side(name: str) -> Any:
            return io.Int.Input(
                name,
                default=1024,
                min=hints.FACE_CELL,
                max=16384,
                step=8,
                tooltip="Pixels of the picture to draw; faces keep their share of it.",
            )

        return io.Schema(
            node_id="CascadeHintIdentity",
            display_name="Hint Identity (Cascade)",
            category=CATEGORY,
            search_aliases=["face identity", "arcface", "face swap", "same person"],
            description="What the face identity ControlNet follows: who is where in the picture to draw.",
            inputs=[
                FACES.Input("faces", tooltip="From Detect Faces (Cascade); up to four count."),
                side("width"),
                side("height"),
            ],
            outputs=[
                _hint_output("as many channels as an embedding has, one pixel for 32"),
                _preview_output("A colour for each face in its place"),
            ],
        )

    @classmethod
    def execute(cls, faces: list, width: int, height: int) -> io.NodeOutput:
        """The hint ``1 h/32 w/32 c`` and a preview of it."""
        if len(faces) > hints.MOST_FACES:
            say(f"{len(faces)} faces were given, and the first {hints.MOST_FACES} count")
        hint = hints.identity_hint(faces, width, height)
        preview = hints.as_colours(torch.nn.functional.interpolate(hint, scale_factor=hints.FACE_CELL))
        return io.NodeOutput(hint.movedim(1, -1), preview.movedim(1, -1))
