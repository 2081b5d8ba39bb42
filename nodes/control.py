"""ControlNets of Stage C: load one and apply it; ``hint`` makes what it follows."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from ..adapters.controlnet import read_blocks
from .host import (
    adapter_choices,
    fingerprint,
    io,
    open_controlnet,
    path_of_adapter,
    with_control,
    with_mask,
)

CATEGORY = "cascade/adapt"
BOTH, POSITIVE, NEGATIVE = "both", "positive", "negative"


class CascadeLoadControlNet(io.ComfyNode):
    """A ControlNet of Stage C."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="CascadeLoadControlNet",
            display_name="Load ControlNet (Cascade)",
            category="cascade/load",
            search_aliases=["controlnet", "canny", "inpainting", "super resolution", "load controlnet model"],
            description="A ControlNet of Stage C, of any size and kind: canny, inpainting, super-resolution, "
            "identity, or one with channels of its own.",
            inputs=[
                io.Combo.Input(
                    "file",
                    options=adapter_choices("controlnet"),
                    tooltip="A ControlNet of Stable Cascade as safetensors, from models/controlnet; those of "
                    "the small cascade ship with the pack.",
                ),
                io.String.Input(
                    "blocks",
                    default="",
                    optional=True,
                    advanced=True,
                    tooltip="Numbers of Stage C's residual blocks that the projections feed, such as 0, 4, "
                    "8-12; empty for what the file or the release says, which is right for released files.",
                ),
            ],
            outputs=[
                io.ControlNet.Output(
                    display_name="control_net",
                    tooltip="For Apply ControlNet (Cascade), or ComfyUI's own Apply ControlNet.",
                )
            ],
        )

    @classmethod
    def execute(cls, file: str, blocks: str = "") -> io.NodeOutput:
        """The ControlNet."""
        return io.NodeOutput(open_controlnet(path_of_adapter("controlnet", file), read_blocks(blocks)))

    @classmethod
    def fingerprint_inputs(cls, file: str, blocks: str = "") -> tuple:
        """Changes when the file is replaced."""
        return fingerprint(path_of_adapter("controlnet", file)), blocks


class CascadeApplyControlNet(io.ComfyNode):
    """Both prompts, steered by a ControlNet."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="CascadeApplyControlNet",
            display_name="Apply ControlNet (Cascade)",
            category=CATEGORY,
            search_aliases=["ControlNetApplyAdvanced", "apply controlnet", "control"],
            description="Makes Stage C follow a hint. Several may be applied one after the other; their "
            "effects add up. Stage B takes the conditioning from before this node.",
            inputs=[
                io.Conditioning.Input("positive", tooltip="The encoded prompt for Stage C."),
                io.Conditioning.Input("negative", tooltip="What Stage C should avoid."),
                io.ControlNet.Input("control_net", tooltip="From Load ControlNet (Cascade), or ComfyUI's."),
                io.Image.Input(
                    "hint",
                    tooltip="What a Hint node makes for this kind of ControlNet. It is scaled to the "
                    "latents, and cut at its longer sides where its shape is another.",
                ),
                io.Float.Input(
                    "strength",
                    default=1.0,
                    min=-10.0,
                    max=10.0,
                    step=0.01,
                    tooltip="How strongly it steers: 1 as trained, 0 not at all; above 1.5 pictures suffer.",
                ),
                io.Float.Input(
                    "start_percent",
                    default=0.0,
                    min=0.0,
                    max=1.0,
                    step=0.001,
                    tooltip="Share of the sampling run after which it begins to steer; 0 from the start.",
                ),
                io.Float.Input(
                    "end_percent",
                    default=1.0,
                    min=0.0,
                    max=1.0,
                    step=0.001,
                    tooltip="Share of the sampling run after which it lets go; lower gives Stage C freedom "
                    "in details.",
                ),
                io.Combo.Input(
                    "apply_to",
                    options=[BOTH, POSITIVE, NEGATIVE],
                    default=BOTH,
                    tooltip=f"Which prompts it steers. `{BOTH}` as in training; `{POSITIVE}` alone lets "
                    "guidance push towards the hint as well, which is stronger and costs a second pass.",
                ),
                io.Mask.Input(
                    "mask",
                    optional=True,
                    tooltip="Where it steers, 1 fully, 0 not at all; of any size, soft edges stay soft.",
                ),
            ],
            outputs=[
                io.Conditioning.Output(display_name="positive", tooltip="For Stage C's sampler."),
                io.Conditioning.Output(display_name="negative", tooltip="For Stage C's sampler."),
            ],
        )

    @classmethod
    def execute(
        cls,
        positive: list,
        negative: list,
        control_net: Any,
        hint: Tensor,
        strength: float,
        start_percent: float,
        end_percent: float,
        apply_to: str,
        mask: Tensor | None = None,
    ) -> io.NodeOutput:
        """Both prompts."""
        if strength == 0:
            return io.NodeOutput(positive, negative)
        control = with_mask(control_net, mask) if mask is not None else control_net.copy()
        control.set_cond_hint(hint.movedim(-1, 1), strength, (start_percent, end_percent))
        shared: dict[Any, Any] = {}
        return io.NodeOutput(
            positive if apply_to == NEGATIVE else with_control(positive, control, shared),
            negative if apply_to == POSITIVE else with_control(negative, control, shared),
        )
