"""Pictures of many prompts at once, drawn by ``pipeline`` for what measures them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from comfyui_cascade.pipeline import settings as drawn_with
from comfyui_cascade.pipeline.cascade import Cascade, Progress
from comfyui_cascade.pipeline.control import Control
from comfyui_cascade.pipeline.load import FILES, load
from comfyui_cascade.pipeline.text import Text, rows_of
from comfyui_cascade.samplers.solvers import SOLVERS
from torch import Tensor

SAMPLERS = {name.lower().replace(" ", "_"): name for name in SOLVERS}
"""Solvers by names that need no quotes on a command line: ``ddpm``, ``unipc``, ``dpm++_2m``, …."""

STAGE_B_SEED = 1 << 32
"""Added to a seed for Stage B's noise."""

AT_ONCE = 8
"""Pictures drawn together."""

CFG = 4.0
"""Guidance of Stage C in the workflows that draw with the small cascade."""


@dataclass(frozen=True, slots=True)
class Sampling:
    """How pictures are drawn.

    Attributes:
        steps_c, steps_b: of Stage C and B.
        sampler_b: of Stage B, a name in ``SAMPLERS``.
        size: width and height in pixels, multiples of 8.
        seed: of the noise.
        sampler_c: of Stage C.
        spacing_c, spacing_b: of Stage C's and B's steps, names in ``pipeline.settings.SCHEDULERS``.
    """

    steps_c: int = 20
    steps_b: int = 10
    sampler_b: str = "ddim"
    size: tuple[int, int] = (256, 256)
    seed: int = 0
    sampler_c: str = "ddim"
    spacing_c: str = "cosine"
    spacing_b: str = "cosine"

    def settings(self, cfg: float = 1.0) -> drawn_with.Settings:
        """The same for the pipeline, with guidance of Stage C."""
        return drawn_with.Settings(
            self.seed,
            drawn_with.Sampling(self.steps_c, cfg, SAMPLERS[self.sampler_c], self.spacing_c),
            drawn_with.Sampling(self.steps_b, 1.0, SAMPLERS[self.sampler_b], self.spacing_b),
        )


def cascade_in(folder: Path, loras: Sequence[tuple[Path, float]] = ()) -> Cascade:
    """The cascade in a folder that has a file for each part, named after it, with LoRAs.

    Raises:
        ValueError: a part that drawing takes is missing, or the parts do not fit each other.
    """
    files = {part.value: folder / f"{part.value}.safetensors" for part in FILES}
    return load(files=files, loras=loras)


def texts(cascade: Cascade, prompts: Sequence[str]) -> Text:
    """What the stages are told of prompts, a row for each."""
    return rows_of([cascade.text(prompt) for prompt in prompts])


def unknown_words(cascade: Cascade, prompts: Sequence[str]) -> list[str]:
    """Words of prompts that the text encoder's table lacks; they are left out in drawing."""
    return sorted(set(texts(cascade, prompts).unknown))


def draw_latents(
    cascade: Cascade, prompts: Sequence[str], cfg: float, sampling: Sampling,
    progress: Progress | None = None, controls: Sequence[Control] = (),
) -> Tensor:  # fmt: skip
    """Stage C latents of prompts, a picture each."""
    return cascade.draw(
        texts(cascade, prompts), size=sampling.size, count=len(prompts), settings=sampling.settings(cfg),
        controls=controls, progress=progress,
    )  # fmt: skip


def decode(
    cascade: Cascade, semantic: Tensor, prompts: Sequence[str], sampling: Sampling,
    progress: Progress | None = None,
) -> Tensor:  # fmt: skip
    """Pictures ``b 3 h w`` in [0, 1] of Stage C latents, drawn by Stage B and decoded by Stage A."""
    seeded = replace(sampling, seed=sampling.seed + STAGE_B_SEED)
    details = cascade.draw_details(
        semantic, texts(cascade, prompts), size=sampling.size, settings=seeded.settings(), progress=progress
    )
    return cascade.decode(details).clamp(0, 1)


def in_parts(make: Callable[[slice], Tensor], count: int, say: Callable[[str], None]) -> Tensor:
    """What ``make`` gives for ``AT_ONCE`` pictures at a time, together."""
    parts = []
    for start in range(0, count, AT_ONCE):
        parts.append(make(slice(start, min(count, start + AT_ONCE))))
        say(f"{min(count, start + AT_ONCE)} of {count}")
    return torch.cat(parts)
