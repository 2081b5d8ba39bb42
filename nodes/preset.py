"""Guidance, sampler and noise levels of a sampling run, as programs are used to them."""

from __future__ import annotations

from typing import Any

from ..samplers.guidance import Guidance
from ..samplers.presets import PRESETS
from ..samplers.spacing import SPACINGS
from . import check
from .host import Guider, io, sampler_named, traits, with_schedule


class CascadeSamplingPreset(io.ComfyNode):
    """Another program's way to sample."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="CascadeSamplingPreset",
            display_name="Sampling Preset (Cascade)",
            category="cascade/sample",
            search_aliases=["stability", "diffusers", "recommended", "fast", "reproduce"],
            description="Guider, sampler and noise levels as another program has them, from the same noise "
            "with the same result; or as we recommend them.",
            inputs=[
                io.Model.Input("model", tooltip="Stage C or Stage B; each has its own settings."),
                io.Conditioning.Input("positive", tooltip="What the picture shows."),
                io.Conditioning.Input("negative", tooltip="What it does not show."),
                io.Combo.Input(
                    "preset",
                    options=list(PRESETS),
                    default="recommended",
                    tooltip="recommended is our default: 20 + 10 steps; fast needs 10 + 5; the others are "
                    "named after the programs that they reproduce.",
                ),
                io.Int.Input(
                    "steps", default=0, min=0, max=10000,
                    tooltip="0 takes the preset's: 20 for Stage C and 10 for Stage B.",
                ),
                io.Float.Input(
                    "denoise", default=1.0, min=0.0, max=1.0, step=0.01,
                    tooltip="How much of the latents is drawn anew, from 0 for nothing to 1 for everything.",
                ),
            ],
            outputs=[
                io.Guider.Output(display_name="guider", tooltip="For SamplerCustomAdvanced."),
                io.Sampler.Output(display_name="sampler", tooltip="For SamplerCustomAdvanced."),
                io.Sigmas.Output(display_name="sigmas", tooltip="For SamplerCustomAdvanced."),
            ],
        )  # fmt: skip

    @classmethod
    def execute(
        cls, model: Any, positive: list, negative: list, preset: str, steps: int, denoise: float
    ) -> io.NodeOutput:
        """Guider, sampler and noise levels."""
        chosen = PRESETS[preset]
        is_c = traits(model).channels == check.STAGE_C_CHANNELS
        stage = chosen.stage_c if is_c else chosen.stage_b
        sigmas = SPACINGS[stage.spacing](steps or stage.steps, stage.shift, denoise, 0.0)
        if denoise <= 0:
            sigmas = sigmas[:0]
        model = with_schedule(model, stage.shift, chosen.told_one)
        prompts = {"positive": positive, "negative": negative}
        guider = Guider(model, Guidance(stage.cfg, rho=chosen.rho), prompts)
        return io.NodeOutput(guider, sampler_named(chosen.sampler), sigmas)
