"""Stage C's own latents of known pictures: what Stage B meets in use, with the right answer beside it.

Latents of a picture, noised as far as a time between none and all, and denoised by Stage C under the
picture's caption, keep the scene and get Stage C's hand: its rough outlines, its errors under guidance. Stage
B learns from them to draw what was meant, by the caption where the latents leave it open.

Source: Meng et al. 2022, "SDEdit", section 3.2, for the way there; Ho et al. 2022, "Cascaded Diffusion
Models", section 4, for why a cascade's later stage must see its earlier stage's errors.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Mapping, Sequence

import torch
from torch import Tensor

from ..checkpoints.identify import Part
from ..samplers.sample import sample
from ..samplers.schedule import STAGE_C_SHIFT, alpha_sigma, logsnr_of_time
from ..samplers.solvers import SOLVERS
from ..samplers.target import TARGETS
from .draws import random_of, seed_of
from .examples import Field
from .order import NO_BUCKET
from .workspace import ENCODED_AT_ONCE, Workspace


class Redrawer:
    """Stage C at work on the latents of pictures.

    Args:
        work: its ``settings.redraw`` says how; ``companions.stage_c`` and ``companions.text_encoder`` do it.
    """

    def __init__(self, work: Workspace):
        self.work, self.redraw = work, work.settings.redraw
        self.stage_c = work.companion(Part.STAGE_C).eval()
        self.text_encoder = work.companion(Part.TEXT_ENCODER)
        self.target = TARGETS[work.recorded(Part.STAGE_C).prediction]

    def __call__(self, clean: Tensor, captions: Sequence[str], start: float, seed: int) -> Tensor:
        """Redraw latents ``b c h w`` from time ``start`` on; like them."""
        generator = torch.Generator().manual_seed(seed)
        image = torch.zeros(len(clean), 1, self.stage_c.config.c_image, device=clean.device)
        told, untold = (
            self.stage_c.tokens(*self.work.encode_rows(self.text_encoder, self.work.rows(texts)), image)
            for texts in (captions, [""] * len(captions))
        )
        alpha, sigma = alpha_sigma(logsnr_of_time(torch.tensor(start), STAGE_C_SHIFT))
        noise = torch.randn(clean.shape, generator=generator).to(clean)
        return sample(
            lambda x, t: self.stage_c(x, t, told), alpha * clean + sigma * noise, generator=generator,
            unconditional=lambda x, t: self.stage_c(x, t, untold), start=start, shift=STAGE_C_SHIFT,
            steps=max(2, round(self.redraw.steps * start)), cfg=self.redraw.cfg, target=self.target,
            solver=SOLVERS["DDIM"],
        )  # fmt: skip


def redrawn_field(work: Workspace) -> Field:
    """Stage C's latents of a picture, a share of them redrawn: ``16 h w``. Redrawn once and kept."""
    redraw, semantics = work.settings.redraw, work.semantics_field()
    redrawer = Redrawer(work)

    def make(places: Sequence[int]) -> Iterable[Mapping[str, Tensor]]:
        found = dict.fromkeys(places, torch.empty(0))
        for bucket in sorted({work.buckets[i] for i in places} - {NO_BUCKET}):
            equal = [i for i in places if work.buckets[i] == bucket]
            for first in range(0, len(equal), ENCODED_AT_ONCE):
                some = equal[first : first + ENCODED_AT_ONCE]
                low, high = redraw.times
                start = low + (high - low) * random_of("redraw", some[0]).random()
                clean = torch.stack([semantics(i, random_of("redraw", i)) for i in some]).to(work.device)
                captions = [work.source.caption(i, random_of("redraw", i)) for i in some]
                drawn = redrawer(clean, captions, start, seed_of("redraw", some[0]))
                found.update(zip(some, drawn.half().cpu(), strict=True))
        return [{"drawn": found[i]} for i in places]

    depends = [
        *(work.file_of(part) for part in (Part.STAGE_C, Part.SEMANTIC_ENCODER, Part.TEXT_ENCODER)),
        redraw.times, redraw.steps, redraw.cfg,
    ]  # fmt: skip
    store = work.store("redrawn", depends, make)

    def load(i: int, rng: random.Random) -> Tensor:
        return store[i]["drawn"].float() if rng.random() < redraw.share else semantics(i, rng)

    return load
