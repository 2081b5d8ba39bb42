"""Pictures that ship with the pack, so that workflows which start from a picture run as they are."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from PIL import Image

from .host import io

PICTURES = Path(__file__).parent.parent / "pictures"


class CascadeExamplePicture(io.ComfyNode):
    """A picture of the pack's."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="CascadeExamplePicture",
            display_name="Example Picture (Cascade)",
            category="cascade/load",
            search_aliases=["load image", "sample image", "test picture"],
            description="A picture of 256x256 pixels to try a workflow with; put Load Image in its place "
            "for your own.",
            inputs=[
                io.Combo.Input(
                    "picture",
                    options=sorted(path.stem for path in PICTURES.glob("*.png")),
                    tooltip="A scene like those the small cascade was trained on.",
                )
            ],
            outputs=[io.Image.Output(display_name="image", tooltip="256x256 pixels.")],
        )

    @classmethod
    def execute(cls, picture: str) -> io.NodeOutput:
        """The picture, ``1 256 256 3``."""
        pixels = np.asarray(Image.open(PICTURES / f"{picture}.png").convert("RGB"), dtype=np.float32)
        return io.NodeOutput(torch.from_numpy(pixels / 255)[None])
