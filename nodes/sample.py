"""The whole cascade in one node: Stage C, then Stage B."""

from __future__ import annotations

from typing import Any

from ..samplers.guidance import Guidance
from . import check
from .condition import with_stage_c, without_control
from .host import NOISES, SAMPLERS, SCHEDULERS, io, ksample, traits

SETTINGS = ("steps", "cfg", "sampler", "scheduler", "denoise")
"""Of each stage, in the order of their widgets; the node's names end in _c and _b."""


def _settings(stage: str, steps: int, cfg: float, cfg_tip: str) -> list:
    """The widgets of one stage."""
    end, name = stage[-1:].lower(), stage
    return [
        io.Int.Input(
            f"steps_{end}", default=steps, min=1, max=10000,
            tooltip=f"{name}'s steps; {steps} are usual, and more are slower and finer.",
        ),
        io.Float.Input(f"cfg_{end}", default=cfg, min=0.0, max=100.0, step=0.1, round=0.01, tooltip=cfg_tip),
        io.Combo.Input(
            f"sampler_{end}", options=SAMPLERS, default="ddpm",
            tooltip=f"How {name} gets from one noise level to the next; it was published with ddpm; the "
            "names in capitals are of this pack.",
        ),
        io.Combo.Input(
            f"scheduler_{end}", options=SCHEDULERS, default="simple",
            tooltip=f"How {name}'s steps are spread over the noise levels; it was published with "
            "simple; beta and aligned may do with fewer steps.",
        ),
        io.Float.Input(
            f"denoise_{end}", default=1.0, min=0.0, max=1.0, step=0.01,
            tooltip=f"How much of {name}'s latents is drawn anew, from 0 for nothing to 1 for everything.",
        ),
    ]  # fmt: skip


class CascadeSampler(io.ComfyNode):
    """Stage C and Stage B, as the wired graph runs them."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="CascadeSampler",
            display_name="Sample Stage C and B (Cascade)",
            category="cascade/sample",
            search_aliases=["ksampler", "stable cascade sampler", "text to image", "generate", "txt2img"],
            description="Samples Stage C, gives what it drew to Stage B and samples that: the same "
            "pictures, to the bit, as KSampler, Decoder Conditioning (Cascade) and KSampler with one "
            "seed.",
            inputs=[
                io.Model.Input("stage_c", tooltip="The MODEL of Load Stage C (Cascade)."),
                io.Model.Input("stage_b", tooltip="The MODEL of Load Stage B (Cascade)."),
                io.Conditioning.Input("positive", tooltip="What the picture shows, for both stages."),
                io.Conditioning.Input("negative", tooltip="What it does not show, for both stages."),
                io.Latent.Input("stage_c_latent", tooltip="Where Stage C starts: 16 channels."),
                io.Latent.Input(
                    "stage_b_latent", tooltip="Where Stage B starts: 4 channels, of the same picture."
                ),
                io.Int.Input(
                    "seed",
                    default=0,
                    min=0,
                    max=0xFFFFFFFFFFFFFFFF,
                    control_after_generate=True,
                    tooltip="Of the noise in both stages; equal seeds give equal pictures.",
                ),
                *_settings(
                    "Stage C",
                    20,
                    4.0,
                    "How strongly Stage C follows the prompt; 3 to 6 is usual, 1 turns the negative off.",
                ),
                *_settings(
                    "Stage B",
                    10,
                    1.0,
                    "How strongly Stage B follows the prompt; 1 is fastest, and up to 1.1 is usual.",
                ),
                io.Float.Input(
                    "rescale",
                    default=0.0,
                    min=0.0,
                    max=1.0,
                    step=0.05,
                    optional=True,
                    advanced=True,
                    tooltip="Tames the contrast that cfg adds, in both stages: 0 leaves it, and 0.7 is what "
                    "Stability's own program does.",
                ),
                io.Combo.Input(
                    "noise",
                    options=list(NOISES),
                    default="batch",
                    optional=True,
                    advanced=True,
                    tooltip="Whose the noise is: the batch's, as KSampler draws it, or each picture's, by "
                    "which picture i is that of seed + i alone; take a sampler in capitals for that.",
                ),
            ],
            outputs=[
                io.Latent.Output(display_name="stage_b", tooltip="For VAE Decode with Stage A."),
                io.Latent.Output(
                    display_name="stage_c", tooltip="What Stage C drew, for Preview Stage C (Cascade)."
                ),
            ],
        )

    @classmethod
    def execute(
        cls,
        stage_c: Any,
        stage_b: Any,
        positive: list,
        negative: list,
        stage_c_latent: dict[str, Any],
        stage_b_latent: dict[str, Any],
        seed: int,
        rescale: float = 0.0,
        noise: str = "batch",
        **widgets: Any,
    ) -> io.NodeOutput:
        """Stage B's latents and Stage C's."""
        _check(stage_c, stage_b, stage_c_latent["samples"], stage_b_latent["samples"])

        def run(end: str, model: Any, start: dict[str, Any], prompt: list, negative: list) -> dict[str, Any]:
            settings = _of_stage(end, seed, widgets)
            guidance = Guidance(settings["cfg"], rho=rescale) if rescale else None
            return ksample(model, start, prompt, negative, settings, guidance, noise)

        drawn = run("c", stage_c, stage_c_latent, positive, negative)
        latents = run("b", stage_b, stage_b_latent, with_stage_c(positive, drawn), without_control(negative))
        return io.NodeOutput(latents, drawn)


def _of_stage(end: str, seed: int, widgets: dict[str, Any]) -> dict[str, Any]:
    """One stage's settings under the names of the host's sampler."""
    values = {name: widgets[f"{name}_{end}"] for name in SETTINGS}
    return {"seed": seed, "sampler_name": values.pop("sampler"), **values}


def _check(stage_c: Any, stage_b: Any, stage_c_latents: Any, stage_b_latents: Any) -> None:
    """Everything that can be said before the first step."""
    check.stage_model(traits(stage_c).channels, check.STAGE_C_CHANNELS, "stage_c")
    check.stage_model(traits(stage_b).channels, check.STAGE_AB_CHANNELS, "stage_b")
    check.latent_channels(stage_c_latents, check.STAGE_C_CHANNELS, "Stage C")
    check.latent_channels(stage_b_latents, check.STAGE_AB_CHANNELS, "Stage B")
    check.same_batch(stage_b_latents, stage_c_latents)
    check.same_picture(stage_b_latents, stage_c_latents)
