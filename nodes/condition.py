"""What steers Stage B."""

from __future__ import annotations

from typing import Any

from . import check
from .host import io


def with_stage_c(conditioning: list, latents: dict[str, Any]) -> list:
    """A CONDITIONING that carries Stage C's latents beside the prompt, and no ControlNet; a new one.

    Args:
        conditioning: what the host's text encoding gives.
        latents: Stage C's, as a LATENT.
    """
    stage_c = check.stage_c_latents(latents["samples"])
    prompts = without_control(conditioning)
    return [[text, {**entries, "stable_cascade_prior": stage_c}] for text, entries in prompts]


def without_control(conditioning: list) -> list:
    """A CONDITIONING for Stage B, which no ControlNet steers; a new one."""
    return [
        [text, {name: entry for name, entry in entries.items() if not name.startswith("control")}]
        for text, entries in conditioning
    ]


class CascadeDecoderConditioning(io.ComfyNode):
    """Conditioning for Stage B."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="CascadeDecoderConditioning",
            display_name="Decoder Conditioning (Cascade)",
            category="cascade/condition",
            search_aliases=["stage b conditioning", "StableCascade_StageB_Conditioning"],
            description="Adds Stage C's latents to a prompt, which Stage B then draws; use it for the "
            "positive prompt.",
            inputs=[
                io.Conditioning.Input("conditioning", tooltip="The encoded prompt, the same as for Stage C."),
                io.Latent.Input("stage_c", tooltip="What Stage C sampled: latents of 16 channels."),
            ],
            outputs=[
                io.Conditioning.Output(
                    display_name="conditioning", tooltip="The positive of Stage B's sampler."
                )
            ],
        )

    @classmethod
    def execute(cls, conditioning: list, stage_c: dict[str, Any]) -> io.NodeOutput:
        """The prompt with the latents."""
        return io.NodeOutput(with_stage_c(conditioning, stage_c))
