"""What a model file is, told from its contents."""

from __future__ import annotations

from pathlib import Path

from ..checkpoints.folder import networks_in
from ..checkpoints.report import report
from .host import fingerprint, io
from .host.catalogue import every_file, place_of, shown


class CascadeIdentify(io.ComfyNode):
    """A file's part, layout, sizes and precision as text."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="CascadeIdentify",
            display_name="Identify File (Cascade)",
            category="cascade/load",
            search_aliases=["inspect", "model info", "metadata", "what is this file"],
            description="Says what a model file is, whatever its name: which part of Stable Cascade or which "
            "other model, whose names it has, its sizes, precision and metadata. Only the file's first bytes "
            "are read.",
            inputs=[
                io.Combo.Input(
                    "file",
                    options=every_file(),
                    tooltip="A file in ComfyUI's model folders, or a folder in models/diffusers.",
                )
            ],
            outputs=[io.String.Output(display_name="text", tooltip="What the file is, on several lines.")],
            is_output_node=True,
        )

    @classmethod
    def execute(cls, file: str) -> io.NodeOutput:
        """The text, also on the node itself."""
        text = "\n\n".join(_said(path) for path in networks_in(place_of(file)))
        return io.NodeOutput(text, ui=shown(text))

    @classmethod
    def fingerprint_inputs(cls, file: str) -> tuple:
        """Changes when the file is replaced."""
        return fingerprint(str(place_of(file)))


def _said(path: Path) -> str:
    """What a file is; of one that cannot be read, the sentence that says why."""
    try:
        return report(path).text
    except ValueError as error:
        return str(error)
