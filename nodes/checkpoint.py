"""Loaders of several parts: an all-in-one file, and a whole cascade picked part by part."""

from __future__ import annotations

from .host import (
    DEFAULT,
    Part,
    checkpoint_choices,
    fingerprint,
    io,
    load_checkpoint,
    load_pipeline,
    path_of,
    path_of_checkpoint,
)
from .load import CATEGORY, NO_FILE, check_pair, pick_file, pick_precision, pick_previewer


class CascadeLoadCheckpoint(io.ComfyNode):
    """All parts in one file, each on its socket."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="CascadeLoadCheckpoint",
            display_name="Load Checkpoint (Cascade)",
            category=CATEGORY,
            search_aliases=["all in one", "checkpoint", "stable_cascade_stage_c", "stable_cascade_stage_b"],
            description="Loads what an all-in-one file holds. That of Stage C has the text encoder, the "
            "semantic encoder and the image encoder with it; that of Stage B has Stage A. A socket for which "
            "the file holds nothing says so when it is used.",
            inputs=[
                io.Combo.Input(
                    "file",
                    options=checkpoint_choices(),
                    tooltip="A safetensors file from models/checkpoints, under the names of any program.",
                ),
                pick_precision(),
            ],
            outputs=[
                io.Model.Output(display_name="model", tooltip="Stage C or Stage B."),
                io.Clip.Output(display_name="clip", tooltip="The text encoder, in files of Stage C."),
                io.Vae.Output(
                    display_name="vae",
                    tooltip="Stage A in files of Stage B, the semantic encoder in those of Stage C.",
                ),
                io.ClipVision.Output(
                    display_name="clip_vision", tooltip="The image encoder, in files of Stage C."
                ),
            ],
        )

    @classmethod
    def execute(cls, file: str, weight_dtype: str = DEFAULT) -> io.NodeOutput:
        """The parts, on their sockets."""
        return io.NodeOutput(*load_checkpoint(path_of_checkpoint(file), weight_dtype))

    @classmethod
    def fingerprint_inputs(cls, file: str, weight_dtype: str = DEFAULT) -> tuple:
        """Changes when the file is replaced."""
        return fingerprint(path_of_checkpoint(file))


class CascadeLoadPipeline(io.ComfyNode):
    """A whole cascade in one node, the small one unless other files are picked."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        encoder = pick_file(
            Part.SEMANTIC_ENCODER, "A semantic encoder (effnet_encoder)", "vae", "semantic_encoder"
        )
        encoder.options = [*encoder.options, NO_FILE]
        return io.Schema(
            node_id="CascadeLoadPipeline",
            display_name="Load Pipeline (Cascade)",
            category=CATEGORY,
            search_aliases=["stable cascade", "load all", "pipeline", "load model", "small cascade"],
            description="Loads every part of a cascade and makes sure that they belong together: released "
            "with released ones, small with small ones.",
            inputs=[
                pick_file(Part.STAGE_C, "A Stage C of any size", "diffusion_models", "stage_c"),
                pick_file(Part.STAGE_B, "A Stage B of any size", "diffusion_models", "stage_b"),
                pick_file(Part.STAGE_A, "A Stage A", "vae", "stage_a"),
                pick_file(Part.TEXT_ENCODER, "A CLIP text encoder", "text_encoders", "text_encoder"),
                encoder,
                pick_previewer(),
                pick_precision(),
            ],
            outputs=[
                io.Model.Output(display_name="stage_c", tooltip="Sample it first, at cfg around 4."),
                io.Model.Output(
                    display_name="stage_b", tooltip="Needs conditioning from Decoder Conditioning."
                ),
                io.Vae.Output(display_name="stage_a", tooltip="Decodes Stage B's latents to pictures."),
                io.Clip.Output(display_name="clip", tooltip="Encodes prompts for Stage C and Stage B."),
                io.Vae.Output(
                    display_name="semantic_encoder", tooltip="For Encode Image and Preview Stage C (Cascade)."
                ),
            ],
        )

    @classmethod
    def execute(cls, weight_dtype: str = DEFAULT, **picked: str) -> io.NodeOutput:
        """The parts, on their sockets."""
        given = _given(picked)
        if Part.PREVIEWER in given:
            check_pair(given[Part.SEMANTIC_ENCODER], given[Part.PREVIEWER])
        return io.NodeOutput(*load_pipeline(given, weight_dtype))

    @classmethod
    def fingerprint_inputs(cls, weight_dtype: str = DEFAULT, **picked: str) -> list[tuple]:
        """Changes when a file is replaced."""
        return [fingerprint(path_of(part, choice)) for part, choice in _given(picked).items()]


def _given(picked: dict[str, str]) -> dict[Part, str]:
    """The parts that are to be loaded; without an encoder there is nothing to put a previewer on."""
    encoder = picked["semantic_encoder"] != NO_FILE
    given = {name: choice for name, choice in picked.items() if choice != NO_FILE}
    return {Part(name): choice for name, choice in given.items() if name != "previewer" or encoder}
