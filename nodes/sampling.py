"""The pieces of a sampling run: noise levels, sampler, guidance and noise."""

from __future__ import annotations

from typing import Any

from ..samplers.guidance import METHODS, RESCALES, STAGE_C_CFG, Guidance
from ..samplers.schedule import shift_of_size
from ..samplers.solvers import SOLVERS, ddim_with
from ..samplers.spacing import SPACINGS
from . import check
from .curve import curve
from .host import (
    Guider,
    PictureNoise,
    io,
    preview_of,
    sampler_of,
    shift_of,
    traits,
)

CATEGORY = "cascade/sample"

TRAINED_CELLS = {check.STAGE_C_CHANNELS: 24.0, check.STAGE_AB_CHANNELS: 256.0}
"""Cells along a side at which the released stages are sampled with their usual shifts, by their channels."""


class CascadeScheduler(io.ComfyNode):
    """Noise levels of a run."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="CascadeScheduler",
            display_name="Scheduler (Cascade)",
            category=CATEGORY,
            search_aliases=["sigmas", "basic scheduler", "noise schedule", "shift"],
            description="Where the steps of a run lie between all noise and none, drawn as a curve below.",
            inputs=[
                io.Model.Input("model", tooltip="The stage to sample, for the shift of its schedule."),
                io.Combo.Input(
                    "spacing",
                    options=list(SPACINGS),
                    default="cosine",
                    tooltip="cosine is what the stages were trained and published with; aligned was found "
                    "on data with a known solution; lcm is for a Stage C distilled to few steps.",
                ),
                io.Int.Input(
                    "steps", default=20, min=1, max=10000,
                    tooltip="20 for Stage C and 10 for Stage B are usual; UniPC may do with half.",
                ),
                io.Float.Input(
                    "denoise", default=1.0, min=0.0, max=1.0, step=0.01,
                    tooltip="The time at which the run starts, 1 for all noise; lower values keep more of "
                    "the latents that it starts from, and 0 keeps them as they are.",
                ),
                io.Float.Input(
                    "shift", default=0.0, min=0.0, max=100.0, step=0.01,
                    tooltip="Of the noise levels: above 1 more steps at much noise. 0 takes the model's own, "
                    "2 for Stage C and 1 for Stage B.",
                ),
                io.Float.Input(
                    "end", default=0.0, min=0.0, max=1.0, step=0.01, advanced=True,
                    tooltip="The time at which the run stops; above 0 it leaves noise for another sampler.",
                ),
                io.Float.Input(
                    "trained_cells", default=0.0, min=0.0, max=4096.0, step=1.0, advanced=True,
                    tooltip="Cells along a side for which the shift is right, where latents are wired; 0 "
                    "takes 24 for Stage C and 256 for Stage B.",
                ),
                io.Latent.Input(
                    "latents", optional=True,
                    tooltip="Latents to sample: the shift grows with their side beyond trained_cells, as "
                    "larger pictures need more noise.",
                ),
            ],
            outputs=[io.Sigmas.Output(display_name="sigmas", tooltip="For SamplerCustomAdvanced.")],
        )  # fmt: skip

    @classmethod
    def execute(
        cls, model: Any, spacing: str, steps: int, denoise: float, shift: float, end: float,
        trained_cells: float, latents: dict[str, Any] | None = None,
    ) -> io.NodeOutput:  # fmt: skip
        """The levels, and their curve."""
        shift = shift or shift_of(model)
        if latents is not None:
            trained = trained_cells or TRAINED_CELLS.get(traits(model).channels, 24.0)
            shift = shift_of_size(shift, tuple(latents["samples"].shape[-2:]), trained)
        _check_times(denoise, end)
        sigmas = SPACINGS[spacing](steps, shift, denoise, end)
        if denoise <= end:
            sigmas = sigmas[:0]  # nothing to do, which the host's samplers understand
        return io.NodeOutput(sigmas, ui=preview_of(curve(sigmas), cls))


class CascadeSamplerSelect(io.ComfyNode):
    """A solver."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="CascadeSamplerSelect",
            display_name="Select Sampler (Cascade)",
            category=CATEGORY,
            search_aliases=["ksampler select", "solver", "dpm++", "unipc", "ddim", "lcm"],
            description="How a run gets from one noise level to the next. ComfyUI's own samplers, from "
            "KSamplerSelect, work as well.",
            inputs=[
                io.Combo.Input(
                    "sampler",
                    options=list(SOLVERS),
                    default="DDPM",
                    tooltip="DDPM is what the stages were published with; UniPC and DPM++ 2M need fewer; "
                    "LCM is for a Stage C distilled to few; Heun takes twice the time for a step.",
                ),
                io.Float.Input(
                    "eta", default=0.0, min=0.0, max=1.0, step=0.01, advanced=True,
                    tooltip="Fresh noise in the steps of DDIM: 0 for none, 1 for as much as DDPM's; the "
                    "others have their own.",
                ),
            ],
            outputs=[io.Sampler.Output(display_name="sampler", tooltip="For SamplerCustomAdvanced.")],
        )  # fmt: skip

    @classmethod
    def execute(cls, sampler: str, eta: float) -> io.NodeOutput:
        """The sampler."""
        return io.NodeOutput(sampler_of(ddim_with(eta) if sampler == "DDIM" else SOLVERS[sampler]))


class CascadeGuider(io.ComfyNode):
    """Guidance."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="CascadeGuider",
            display_name="Guider (Cascade)",
            category=CATEGORY,
            search_aliases=["cfg guider", "apg", "perp neg", "rescale cfg", "cfg zero", "guidance interval"],
            description="How strongly, when and in which way a run follows the prompt. Where the scale is 1 "
            "the negative prompt is not computed, which halves the time.",
            inputs=[
                io.Model.Input("model", tooltip="The stage to sample."),
                io.Conditioning.Input("positive", tooltip="What the picture shows."),
                io.Float.Input(
                    "cfg", default=STAGE_C_CFG, min=0.0, max=100.0, step=0.1, round=0.01,
                    tooltip="How strongly the prompt is followed; 3 to 6 for Stage C, 1 to 1.1 for Stage B, "
                    "and 1 turns the negative prompt off.",
                ),
                io.Float.Input(
                    "cfg_end", default=-1.0, min=-1.0, max=100.0, step=0.1, round=0.01,
                    tooltip="The scale at the end of the run, reached bit by bit; -1 for one scale "
                    "throughout.",
                ),
                io.Float.Input(
                    "rescale", default=0.0, min=0.0, max=1.0, step=0.05,
                    tooltip="Tames the contrast that guidance adds: 0 leaves it, as ComfyUI and diffusers "
                    "do; Stability's own program uses 0.7.",
                ),
                io.Combo.Input(
                    "method", options=list(METHODS), default="cfg",
                    tooltip="projected leaves out what only makes colours stronger and bears scales above "
                    "6; scaled fits the negative prompt to the positive one first.",
                ),
                io.Float.Input(
                    "start", default=1.0, min=0.0, max=1.0, step=0.01, advanced=True,
                    tooltip="Time at which guidance begins, 1 for the start of the run; a little lower "
                    "varies the composition more.",
                ),
                io.Float.Input(
                    "end", default=0.0, min=0.0, max=1.0, step=0.01, advanced=True,
                    tooltip="Time at which guidance stops, 0 for the end of the run; 0.3 is faster and hard "
                    "to tell.",
                ),
                io.Combo.Input(
                    "rescale_over", options=list(RESCALES), default="batch", advanced=True,
                    tooltip="What rescale measures: the whole batch, as Stability's program, or each "
                    "picture, which then does not depend on the others.",
                ),
                io.Float.Input(
                    "cfg_image", default=-1.0, min=-1.0, max=100.0, step=0.1, round=0.01, advanced=True,
                    tooltip="How strongly image prompts are followed, apart from the text; -1 as the text. "
                    "Costs half as much again.",
                ),
                io.Float.Input(
                    "negative_strength", default=1.0, min=0.0, max=10.0, step=0.05, advanced=True,
                    tooltip="Of the negative prompt where an empty one is wired too: 1 is usual, 0 turns it "
                    "off.",
                ),
                io.Conditioning.Input(
                    "negative", optional=True,
                    tooltip="What the picture does not show; left out, only the prompt is computed.",
                ),
                io.Conditioning.Input(
                    "empty", optional=True,
                    tooltip="An empty prompt: with it the negative acts only on what the prompt does not "
                    "say. Costs half as much again.",
                ),
            ],
            outputs=[io.Guider.Output(display_name="guider", tooltip="For SamplerCustomAdvanced.")],
        )  # fmt: skip

    @classmethod
    def execute(
        cls, model: Any, positive: list, cfg: float, cfg_end: float, rescale: float, method: str,
        start: float, end: float, rescale_over: str, cfg_image: float, negative_strength: float,
        negative: list | None = None, empty: list | None = None,
    ) -> io.NodeOutput:  # fmt: skip
        """The guider."""
        given = {"positive": positive, "negative": negative, "empty": empty}
        prompts = {name: prompt for name, prompt in given.items() if prompt is not None}
        _check_prompts(cfg, negative, empty)
        guidance = Guidance(
            cfg=cfg,
            cfg_end=None if cfg_end < 0 else cfg_end,
            start=start,
            end=end,
            rho=rescale,
            rescale=RESCALES[rescale_over],
            method=METHODS[method],
            negative_strength=None if empty is None else negative_strength,
            cfg_image=None if cfg_image < 0 else cfg_image,
        )
        return io.NodeOutput(Guider(model, guidance if negative is not None else Guidance(1.0), prompts))


def _check_times(denoise: float, end: float) -> None:
    if end and end >= denoise:
        raise ValueError(
            f"the run starts at time {denoise:g}, by denoise, and ends at {end:g}, but time falls from 1 to "
            "0 in it: lower end, or raise denoise"
        )


def _check_prompts(cfg: float, negative: list | None, empty: list | None) -> None:
    if negative is None and (cfg != 1 or empty is not None):
        raise ValueError(
            f"the guider was given a cfg of {cfg:g} and no negative prompt, but guidance leads away from "
            "one: wire an empty prompt as negative, or set cfg to 1 and leave empty free"
        )


class CascadeNoise(io.ComfyNode):
    """Noise that belongs to pictures."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="CascadeNoise",
            display_name="Noise (Cascade)",
            category=CATEGORY,
            search_aliases=["random noise", "seed", "batch seed"],
            description="Noise by which picture i of a batch is the picture of seed + i alone, on every "
            "device and at every batch size; use a sampler of Select Sampler (Cascade) with it.",
            inputs=[
                io.Int.Input(
                    "noise_seed", default=0, min=0, max=0xFFFFFFFFFFFFFFFF, control_after_generate=True,
                    tooltip="Of the first picture; the next ones count on from it.",
                )
            ],
            outputs=[io.Noise.Output(display_name="noise", tooltip="For SamplerCustomAdvanced.")],
        )  # fmt: skip

    @classmethod
    def execute(cls, noise_seed: int) -> io.NodeOutput:
        """The noise."""
        return io.NodeOutput(PictureNoise(noise_seed))
