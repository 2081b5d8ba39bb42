"""Loaders: one for each part of the cascade, any size, the small cascade without a file."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from .host import (
    COMPILE,
    DEFAULT,
    PRECISIONS,
    SMALL,
    Part,
    choices,
    compiled,
    fingerprint,
    io,
    load_image_encoder,
    load_model,
    load_semantic_encoder,
    load_stage_a,
    load_text_encoder,
    path_of,
)

NO_FILE = "none"
"""The choice of a loader whose file is optional."""

CATEGORY = "cascade/load"


def pick_file(part: Part, what: str, folder: str, name: str = "file") -> Any:
    """The widget that picks a file or folder of a part."""
    return io.Combo.Input(
        name,
        options=choices(part),
        tooltip=f"{what} as safetensors, from models/{folder}; names that end in / are folders of diffusers, "
        f"which may also lie in models/diffusers. `{SMALL}` ships with the pack and needs no file.",
    )


def pick_precision() -> Any:
    """The widget that picks the precision of weights; left out, it is the host's choice."""
    return io.Combo.Input(
        "weight_dtype",
        options=list(PRECISIONS),
        default=DEFAULT,
        optional=True,
        advanced=True,
        tooltip="How weights are kept in memory. `default` is what ComfyUI takes on this device; fp16 is "
        "computed so that it does not overflow, for cards without bf16; the fp8 kinds halve the memory of "
        "bf16 and lose quality.",
    )


class _Loader(io.ComfyNode):
    """A loader of one file; each node below says which part and onto which socket."""

    PART: Part
    LOAD: Callable[..., Any]

    @classmethod
    def execute(cls, file: str, **precision: str) -> io.NodeOutput:
        """The part, on its socket."""
        return io.NodeOutput(cls.LOAD(path_of(cls.PART, file), **precision))

    @classmethod
    def fingerprint_inputs(cls, file: str, **precision: str) -> tuple:
        """Changes when the file is replaced."""
        return fingerprint(path_of(cls.PART, file))


def pick_compile() -> Any:
    """The widget that has a stage's blocks compiled."""
    return io.Combo.Input(
        "compile",
        options=list(COMPILE),
        default=COMPILE[0],
        optional=True,
        advanced=True,
        tooltip="`blocks` has torch write code of its own for each kind of block. The first step then takes "
        "a minute or more, and what is gained depends on the machine: for many pictures. Sizes may change.",
    )


class _StageLoader(_Loader):
    """A loader of Stage B or Stage C."""

    @classmethod
    def execute(cls, file: str, compile: str = COMPILE[0], **precision: str) -> io.NodeOutput:
        """The MODEL."""
        return io.NodeOutput(compiled(load_model(path_of(cls.PART, file), cls.PART, **precision), compile))


class CascadeLoadStageA(_Loader):
    """Stage A as a VAE."""

    PART = Part.STAGE_A
    LOAD = staticmethod(load_stage_a)

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="CascadeLoadStageA",
            display_name="Load Stage A (Cascade)",
            category=CATEGORY,
            search_aliases=["stage a", "vqgan", "load vae"],
            description="The autoencoder between pictures and Stage B's latents; use it like any VAE.",
            inputs=[pick_file(cls.PART, "A Stage A", "vae")],
            outputs=[io.Vae.Output(display_name="stage_a", tooltip="Decodes Stage B's latents to pictures.")],
        )


class CascadeLoadStageB(_StageLoader):
    """Stage B as a MODEL."""

    PART = Part.STAGE_B

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="CascadeLoadStageB",
            display_name="Load Stage B (Cascade)",
            category=CATEGORY,
            search_aliases=["stage b", "decoder", "load diffusion model"],
            description="The second diffusion model: it turns Stage C's small latents into Stage A's large "
            "ones.",
            inputs=[
                pick_file(cls.PART, "A Stage B of any size", "diffusion_models"),
                pick_precision(),
                pick_compile(),
            ],
            outputs=[
                io.Model.Output(
                    display_name="stage_b", tooltip="Needs conditioning from Decoder Conditioning."
                )
            ],
        )


class CascadeLoadStageC(_StageLoader):
    """Stage C as a MODEL."""

    PART = Part.STAGE_C

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="CascadeLoadStageC",
            display_name="Load Stage C (Cascade)",
            category=CATEGORY,
            search_aliases=["stage c", "prior", "load diffusion model"],
            description="The first diffusion model: it draws a prompt as small latents of 16 channels.",
            inputs=[
                pick_file(cls.PART, "A Stage C of any size", "diffusion_models"),
                pick_precision(),
                pick_compile(),
            ],
            outputs=[io.Model.Output(display_name="stage_c", tooltip="Sample it first, at cfg around 4.")],
        )


class CascadeLoadTextEncoder(_Loader):
    """The text encoder as a CLIP."""

    PART = Part.TEXT_ENCODER
    LOAD = staticmethod(load_text_encoder)

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="CascadeLoadTextEncoder",
            display_name="Load Text Encoder (Cascade)",
            category=CATEGORY,
            search_aliases=["clip", "clip g", "load clip"],
            description="The CLIP that both diffusion stages were trained with; use it with CLIP Text "
            "Encode.",
            inputs=[
                pick_file(cls.PART, "A CLIP text encoder with projection", "text_encoders"),
                pick_precision(),
            ],
            outputs=[io.Clip.Output(display_name="clip", tooltip="Encodes prompts for Stage C and Stage B.")],
        )


class CascadeLoadImageEncoder(_Loader):
    """The image encoder as a CLIP_VISION."""

    PART = Part.IMAGE_ENCODER
    LOAD = staticmethod(load_image_encoder)

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="CascadeLoadImageEncoder",
            display_name="Load Image Encoder (Cascade)",
            category=CATEGORY,
            search_aliases=["clip vision", "image prompt", "unclip"],
            description="The CLIP for image prompts; use it with CLIP Vision Encode and unCLIPConditioning.",
            inputs=[pick_file(cls.PART, "A CLIP image encoder with projection", "clip_vision")],
            outputs=[
                io.ClipVision.Output(display_name="clip_vision", tooltip="Encodes pictures as prompts.")
            ],
        )


class CascadeLoadSemanticEncoder(io.ComfyNode):
    """The semantic encoder and the previewer as one VAE."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="CascadeLoadSemanticEncoder",
            display_name="Load Semantic Encoder (Cascade)",
            category=CATEGORY,
            search_aliases=["effnet", "efficientnet", "previewer"],
            description="A VAE for Stage C: encoding gives its latents, decoding draws small previews of "
            "them.",
            inputs=[
                pick_file(Part.SEMANTIC_ENCODER, "A semantic encoder (effnet_encoder)", "vae"),
                pick_previewer(),
            ],
            outputs=[
                io.Vae.Output(
                    display_name="semantic_encoder", tooltip="For Encode Image and Preview Stage C (Cascade)."
                )
            ],
        )

    @classmethod
    def execute(cls, file: str, previewer: str) -> io.NodeOutput:
        """The pair, on a VAE socket."""
        check_pair(file, previewer)
        return io.NodeOutput(load_semantic_encoder(*coder_paths(file, previewer)))

    @classmethod
    def fingerprint_inputs(cls, file: str, previewer: str) -> list[tuple]:
        """Changes when a file is replaced."""
        return [fingerprint(path) for path in coder_paths(file, previewer)]


def pick_previewer() -> Any:
    """The widget that picks a previewer, or none."""
    offered = choices(Part.PREVIEWER)
    small = [choice for choice in offered if choice == SMALL]
    return io.Combo.Input(
        "previewer",
        options=[*small, NO_FILE, *offered[len(small) :]],
        tooltip=f"What decodes, from models/vae; `{NO_FILE}` encodes only.",
    )


def check_pair(file: str, previewer: str) -> None:
    """A semantic encoder and a previewer that belong together."""
    if previewer == SMALL and file != SMALL:
        raise ValueError(
            f"the previewer of the small cascade does not understand the latents of `{file}`: choose "
            f"the previewer that was published with it, or {NO_FILE}"
        )


def coder_paths(file: str, previewer: str) -> list[str]:
    """Paths of a semantic encoder and, if there is one, of its previewer."""
    drawn = [] if previewer == NO_FILE else [path_of(Part.PREVIEWER, previewer)]
    return [path_of(Part.SEMANTIC_ENCODER, file), *drawn]
