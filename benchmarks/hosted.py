"""The small cascade as ComfyUI runs it, in this process: what is measured is what its nodes do."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from comfyui_cascade.benchmarks.contestants import comfyui
from comfyui_cascade.benchmarks.drawing import cascade_in, texts
from comfyui_cascade.checkpoints.identify import Part
from torch import Tensor

UNGUIDED = 1.0


class Hosted:
    """MODELs of a cascade's parts, and what samples them.

    Args:
        folder: with a file for each part, named after it.
    """

    def __init__(self, folder: Path):
        comfyui()
        from comfyui_cascade.nodes import host

        self.host = host
        self.cascade = cascade_in(folder)

    def model(self, part: Part, weight_dtype: str = "default") -> Any:
        """A MODEL, as its loader gives it."""
        return self.host.load_model(self.cascade.parts.file(part), part, weight_dtype)

    def draw(
        self, model: Any, prompts: Sequence[str], start: Tensor, steps: int, sampler: str = "DDIM",
        spacing: str = "cosine", cfg: float = UNGUIDED, guidance: Any = None, prior: Tensor | None = None,
    ) -> Tensor:  # fmt: skip
        """Latents of prompts, a picture each, from the same noise in every call.

        Args:
            model: a MODEL.
            prompts: as many as pictures.
            start: zeros of the latents' shape.
            steps, sampler, spacing, cfg: see KSampler; names are ours.
            guidance: a ``Guidance`` in the place of ``cfg``.
            prior: Stage C latents, for Stage B.
        """
        more = {} if prior is None else {"stable_cascade_prior": prior}
        settings = {
            "seed": 0, "steps": steps, "cfg": cfg, "sampler_name": sampler, "scheduler": spacing,
            "denoise": 1.0,
        }  # fmt: skip
        with torch.inference_mode():
            positive, negative = (self._conditioning(of) for of in (prompts, [""] * len(prompts)))
            positive[0][1].update(more)
            latents = {"samples": start}
            drawn = self.host.ksample(model, latents, positive, negative, settings, guidance)
        return drawn["samples"]

    def _conditioning(self, prompts: Sequence[str]) -> list:
        known = texts(self.cascade, prompts)
        return [[known.hidden, {"pooled_output": known.pooled}]]
