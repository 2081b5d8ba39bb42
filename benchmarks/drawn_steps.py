"""The small cascade's stages under a solver and noise levels, against a thousand steps."""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from pathlib import Path

import torch
from comfyui_cascade.benchmarks.analytic import nothing, relative
from comfyui_cascade.benchmarks.drawing import AT_ONCE, cascade_in, texts
from comfyui_cascade.benchmarks.judge import read
from comfyui_cascade.benchmarks.small_cascade import latent_judge_for
from comfyui_cascade.benchmarks.verdicts import tally, verdict
from comfyui_cascade.checkpoints.identify import Part
from comfyui_cascade.latents.geometry import stage_b_size, stage_c_size
from comfyui_cascade.pipeline import stages
from comfyui_cascade.pipeline.denoise import Guided, Stage
from comfyui_cascade.samplers.guidance import Guidance
from comfyui_cascade.samplers.schedule import STAGE_B_SHIFT, STAGE_C_SHIFT
from comfyui_cascade.samplers.solvers import RANDOM, SOLVERS, Denoise, Solver
from comfyui_cascade.samplers.spacing import cosine
from comfyui_cascade.training.picturebook import draw, fresh_scenes, prompt_of
from torch import Tensor

SIZE = (256, 256)
Say = Callable[[str], None]


def estimate(stage: Stage, cfg: float = 1.0) -> Denoise:
    """The guided clean estimate of a stage, at one noise level for all pictures."""
    guided = Guided(stage, Guidance(cfg))
    return lambda x, sigma: guided(x, sigma.expand(len(x)))


class Drawn:
    """Latents of one stage, drawn from the same noise by any solver.

    Args:
        parts: clean estimates, a part of the pictures each.
        noise: of all pictures.
        shift: of the stage's schedule.
        exact_steps: that stand for infinitely many.
        say: takes lines about progress.
    """

    def __init__(self, parts: list[Denoise], noise: Tensor, shift: float, exact_steps: int, say: Say):
        self.parts, self.noise, self.shift, self.exact_steps, self.say = parts, noise, shift, exact_steps, say

    @torch.inference_mode()
    def draw(self, solver: Solver, sigmas: Tensor) -> Tensor:
        """All pictures' latents."""
        generator = torch.Generator().manual_seed(1)
        drawn = []
        for denoise, noise in zip(self.parts, self.noise.split(AT_ONCE), strict=True):
            start = noise * (1 + sigmas[0] ** 2).sqrt()
            fresh = lambda like=start: torch.randn(like.shape, generator=generator)  # noqa: E731
            drawn.append(solver(denoise, start, sigmas, fresh, nothing))
        return torch.cat(drawn)

    @cached_property
    def exact(self) -> Tensor:
        """What very many steps come to, without fresh noise."""
        self.say(f"{self.exact_steps} steps")
        return self.draw(SOLVERS["DPM++ 2M"], cosine(self.exact_steps, self.shift))


class DrawnC:
    """Stage C's latents of prompts, with the judge's alignment."""

    def __init__(
        self, weights: Path, judges: Path, count: int, cfg: float, exact_steps: int, say: Say,
        lora: Path | None = None,
    ):  # fmt: skip
        cascade = cascade_in(weights, [] if lora is None else [(lora, 1.0)])
        self.scenes = fresh_scenes(count)
        self.judge = latent_judge_for(cascade, judges / "latent_judge.safetensors", say)
        prompts = [prompt_of(scene) for scene in self.scenes]
        width, height = stage_c_size(*SIZE, cascade.parts.compression)
        parts = []
        for start in range(0, count, AT_ONCE):
            told = texts(cascade, prompts[start : start + AT_ONCE])
            stage = stages.stage_c(cascade.parts, told, cascade.text(""), (height, width))
            parts.append(estimate(stage, cfg))
        channels = cascade.parts.config(Part.STAGE_C).channels
        noise = torch.randn(count, channels, height, width, generator=torch.Generator().manual_seed(0))
        self.drawn = Drawn(parts, noise, STAGE_C_SHIFT, exact_steps, say)

    def figures(self, name: str, solver: Solver, sigmas: Tensor) -> dict[str, float]:
        """Error, for solvers that add no noise, and alignment."""
        latents, found = self.drawn.draw(solver, sigmas), {}
        if name not in RANDOM:
            found["error"] = relative(latents, self.drawn.exact)
        if self.judge is not None:
            readings = zip(read(self.judge, latents), self.scenes, strict=True)
            found["alignment"] = tally([verdict(reading, scene) for reading, scene in readings]).alignment
        return found


class DrawnB:
    """Stage B's latents of true pictures' Stage C latents."""

    def __init__(self, weights: Path, count: int, exact_steps: int, say: Say):
        cascade, scenes = cascade_in(weights), fresh_scenes(count)
        pictures = torch.stack([torch.tensor(draw(scene, SIZE).picture) for scene in scenes])
        pictures = pictures.movedim(-1, 1).float() / 255
        width, height = stage_b_size(*SIZE)
        parts = []
        for start in range(0, count, AT_ONCE):
            told = texts(cascade, [prompt_of(scene) for scene in scenes[start : start + AT_ONCE]])
            semantic = cascade.encode(pictures[start : start + AT_ONCE])
            stage = stages.stage_b(cascade.parts, semantic, told, cascade.text(""), (height, width))
            parts.append(estimate(stage))
        channels = cascade.parts.config(Part.STAGE_B).channels
        noise = torch.randn(count, channels, height, width, generator=torch.Generator().manual_seed(0))
        self.drawn = Drawn(parts, noise, STAGE_B_SHIFT, exact_steps, say)

    def figures(self, name: str, solver: Solver, sigmas: Tensor) -> dict[str, float]:
        """Error, for solvers that add no noise."""
        if name in RANDOM:
            return {}
        return {"error": relative(self.drawn.draw(solver, sigmas), self.drawn.exact)}
