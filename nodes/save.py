"""A loaded part back into a file."""

from __future__ import annotations

from typing import Any

from .host import LAYOUTS, STORED, io, save_parts
from .host.catalogue import shown

AS_IT_IS = "as it is"
"""The choice that keeps the precision of each weight."""


class CascadeSaveStage(io.ComfyNode):
    """Any part of a cascade as safetensors, merged and patched as it is."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="CascadeSaveStage",
            display_name="Save Stage (Cascade)",
            category="cascade/save",
            search_aliases=["save model", "export", "convert", "save checkpoint", "diffusers"],
            description="Writes a stage, a text encoder or a semantic encoder into ComfyUI's output folder, "
            "with LoRAs and merges applied and with what the file has to say about the network.",
            inputs=[
                io.MultiType.Input(
                    "part",
                    types=[io.Model, io.Vae, io.Clip],
                    tooltip="What to save: the output of any loader, or of a node that changed it.",
                ),
                io.String.Input(
                    "filename_prefix", default="cascade/stage", tooltip="Folder and name; a number is added."
                ),
                io.Combo.Input(
                    "layout",
                    options=LAYOUTS,
                    tooltip="Whose names the weights get: Stability's, as in the released files, "
                    "diffusers', in a folder with its config.json, or ComfyUI's.",
                ),
                io.Combo.Input(
                    "weight_dtype",
                    options=[AS_IT_IS, *STORED],
                    tooltip=f"Precision of the file; `{AS_IT_IS}` keeps that of each weight in memory.",
                ),
            ],
            outputs=[],
            is_output_node=True,
        )

    @classmethod
    def execute(cls, part: Any, filename_prefix: str, layout: str, weight_dtype: str) -> io.NodeOutput:
        """The names of the files, on the node."""
        return io.NodeOutput(ui=shown("\n".join(save_parts(part, filename_prefix, layout, weight_dtype))))
