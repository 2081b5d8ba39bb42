"""How often the cascade's pictures show what was asked, stage by stage, so that a weak one can be told."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import torch
from comfyui_cascade.benchmarks.drawing import Sampling, decode, draw_latents, in_parts, unknown_words
from comfyui_cascade.benchmarks.judge import Judge, feature_distance, read, seen_of
from comfyui_cascade.benchmarks.verdicts import Tally, tally, verdict
from comfyui_cascade.pipeline import Cascade
from comfyui_cascade.training.picturebook import Scene, draw, fresh_scenes, held_out_scenes, prompt_of
from torch import Tensor

LOW_CFG, NO_CFG = 2.5, 1.0
"""Guidance scales besides the chosen one; 1 is no guidance."""

VARIED_PROMPTS, VARIED_SEEDS = 4, 4
"""Prompts and seeds of each from which diversity is measured."""

TIMED = 3
"""Pictures whose time is taken, one at a time, after one that warms up."""

Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Likeness:
    """How alike pictures are to those that they should equal, averaged over pictures.

    Attributes:
        psnr: in dB.
        ssim: structural similarity, 1 for equal pictures.
        ms_ssim: the same over several scales; None for pictures too small for it.
        feature_distance: see ``judge.feature_distance``; 0 for equal pictures.
    """

    psnr: float
    ssim: float
    ms_ssim: float | None
    feature_distance: float


@dataclass(frozen=True, slots=True)
class Diversity:
    """Mean distance of two pictures: root mean square over pixels, and of the judge's features.

    Attributes:
        drawn: between seeds of one prompt.
        true_same: between true pictures of one prompt, whose seeds differ.
        true_other: between true pictures of different prompts.
    """

    drawn: tuple[float, float]
    true_same: tuple[float, float]
    true_other: tuple[float, float]


SMALLEST_FOR_MS_SSIM = 176
"""Pixels along a side; torchmetrics asks for more than 160 at five scales."""


class Evaluation:
    """Measurements of one cascade; each is made when it is asked for.

    Args:
        cascade: to measure.
        judge: of pictures.
        latent_judge: of Stage C latents, made for this cascade's semantic encoder; or None.
        count: pictures in each row of the table.
        cfg: the guidance scale that matters most.
        sampling: how pictures are drawn.
        say: takes lines about progress.
    """

    def __init__(
        self, cascade: Cascade, judge: Judge, latent_judge: Judge | None, count: int, cfg: float,
        sampling: Sampling, say: Say,
    ):  # fmt: skip
        self.cascade, self.judge, self.latent_judge = cascade, judge, latent_judge
        self.count, self.cfg, self.sampling, self.say = count, cfg, sampling, say
        self._latents: dict[tuple[str, float], Tensor] = {}

    @cached_property
    def scenes(self) -> dict[str, list[Scene]]:
        """Fresh scenes, and those of held-out pairs of kind and colour and of held-out arrangements."""
        held_out = held_out_scenes(2 * self.count)
        return {"seen": fresh_scenes(self.count), "pairs": held_out[::2], "relations": held_out[1::2]}

    def unknown_words(self) -> list[str]:
        """Words of the prompts that the cascade cannot read."""
        prompts = [prompt_of(scene) for scenes in self.scenes.values() for scene in scenes]
        return unknown_words(self.cascade, prompts)

    def true_pictures(self, scenes: Sequence[Scene]) -> Tensor:
        """What the world itself draws, ``b 3 h w`` in [0, 1]."""
        drawn = [torch.tensor(draw(scene, self.sampling.size).picture) for scene in scenes]
        return torch.stack(drawn).movedim(-1, 1).float() / 255

    @cached_property
    def true(self) -> Tensor:
        """The true pictures of the fresh scenes."""
        return self.true_pictures(self.scenes["seen"])

    @cached_property
    def round_trip(self) -> Tensor:
        """They through Stage A."""

        def there_and_back(part: slice) -> Tensor:
            return self.cascade.decode(self.cascade.encode_details(self.true[part])).clamp(0, 1)

        return self._in_parts("Stage A", there_and_back, self.count)

    @cached_property
    def true_latents(self) -> Tensor:
        """Their Stage C latents."""
        return self._in_parts(
            "semantic encoder", lambda part: self.cascade.encode(self.true[part]), self.count
        )

    @cached_property
    def redrawn(self) -> Tensor:
        """What Stage B and A make of those."""
        return self._decoded("Stage B and A", self.true_latents, self.scenes["seen"])

    def latents(self, which: str, cfg: float) -> Tensor:
        """Stage C latents of the prompts of some scenes."""
        if (which, cfg) not in self._latents:
            prompts = [prompt_of(scene) for scene in self.scenes[which]]
            self._latents[which, cfg] = self._in_parts(
                f"Stage C, {which}, cfg {cfg:g}",
                lambda part: draw_latents(self.cascade, prompts[part], cfg, self._seeded(part)),
                self.count,
            )
        return self._latents[which, cfg]

    def drawn(self, which: str, cfg: float) -> Tensor:
        """Pictures of the prompts of some scenes."""
        name = f"Stage B and A, {which}, cfg {cfg:g}"
        return self._decoded(name, self.latents(which, cfg), self.scenes[which])

    def _decoded(self, name: str, latents: Tensor, scenes: Sequence[Scene]) -> Tensor:
        prompts = [prompt_of(scene) for scene in scenes]
        return self._in_parts(
            name,
            lambda part: decode(self.cascade, latents[part], prompts[part], self._seeded(part)),
            len(scenes),
        )

    def _from_prompts(self, prompts: Sequence[str], sampling: Sampling) -> Tensor:
        latents = draw_latents(self.cascade, prompts, self.cfg, sampling)
        return decode(self.cascade, latents, prompts, sampling)

    def _seeded(self, part: slice) -> Sampling:
        return replace(self.sampling, seed=self.sampling.seed + 1000 * part.start)

    def _in_parts(self, name: str, make: Callable[[slice], Tensor], count: int) -> Tensor:
        return in_parts(make, count, lambda done: self.say(f"{name}: {done}"))

    # Rows of the table ---------------------------------------------------------------------------------

    def rows(self) -> dict[str, Callable[[], Tally]]:
        """What the table's rows are called, and how each is measured."""

        def pictures(which: str, cfg: float) -> Callable[[], Tally]:
            return lambda: self._judged(self.drawn(which, cfg), which)

        def latents(which: str) -> Callable[[], Tally]:
            return lambda: self._latents_judged(self.latents(which, self.cfg), which)

        rows = {
            "true pictures (the judge itself)": lambda: self._judged(self.true, "seen"),
            "Stage A there and back": lambda: self._judged(self.round_trip, "seen"),
            "Stage B and A from true latents": lambda: self._judged(self.redrawn, "seen"),
            f"prompts, cfg {self.cfg:g}": pictures("seen", self.cfg),
            f"prompts, cfg {LOW_CFG:g}": pictures("seen", LOW_CFG),
            "prompts, no guidance": pictures("seen", NO_CFG),
            f"held-out colours, cfg {self.cfg:g}": pictures("pairs", self.cfg),
            f"held-out relations, cfg {self.cfg:g}": pictures("relations", self.cfg),
        }
        if self.latent_judge is not None:
            rows |= {
                "latents: true (their judge itself)": lambda: self._latents_judged(self.true_latents, "seen"),
                f"latents: prompts, cfg {self.cfg:g}": latents("seen"),
                f"latents: held-out colours, cfg {self.cfg:g}": latents("pairs"),
                f"latents: held-out relations, cfg {self.cfg:g}": latents("relations"),
            }
        return rows

    def _judged(self, pictures: Tensor, which: str) -> Tally:
        return self._tallied(self.judge, seen_of(pictures), which)

    def _latents_judged(self, latents: Tensor, which: str) -> Tally:
        return self._tallied(self.latent_judge, latents, which)

    def _tallied(self, judge: Judge, seen: Tensor, which: str) -> Tally:
        scenes = self.scenes[which]
        readings = read(judge, seen)
        return tally([verdict(reading, scene) for reading, scene in zip(readings, scenes, strict=True)])

    # Figures beside it ---------------------------------------------------------------------------------

    def likeness(self, pictures: Tensor) -> Likeness:
        """How alike pictures of the fresh scenes are to the true ones."""
        from torchmetrics.functional import image as metrics

        several = metrics.multiscale_structural_similarity_index_measure
        large = min(self.sampling.size) >= SMALLEST_FOR_MS_SSIM
        return Likeness(
            psnr=metrics.peak_signal_noise_ratio(pictures, self.true, data_range=1.0, dim=(1, 2, 3)).item(),
            ssim=metrics.structural_similarity_index_measure(pictures, self.true, data_range=1.0).item(),
            ms_ssim=several(pictures, self.true, data_range=1.0).item() if large else None,
            feature_distance=self._feature_distance(pictures, self.true),
        )

    def _feature_distance(self, first: Tensor, second: Tensor) -> float:
        return feature_distance(self.judge, seen_of(first), seen_of(second)).mean().item()

    def diversity(self) -> Diversity:
        """How much the seed changes."""
        scenes = self.scenes["seen"][:VARIED_PROMPTS]
        repeated = [scene for scene in scenes for _ in range(VARIED_SEEDS)]
        prompts = [prompt_of(scene) for scene in repeated]
        drawn = self._in_parts(
            "diversity", lambda part: self._from_prompts(prompts[part], self._seeded(part)), len(repeated)
        )
        reseeded = [replace(scene, seed=scene.seed + i) for i, scene in enumerate(repeated)]
        same = [(i, j) for i in range(len(repeated)) for j in range(i) if repeated[i] == repeated[j]]
        other = [(i, j) for i in range(len(repeated)) for j in range(i) if repeated[i] != repeated[j]]
        true = self.true_pictures(reseeded)
        return Diversity(*(self._distances(*p) for p in ((drawn, same), (true, same), (true, other))))

    def _distances(self, pictures: Tensor, pairs: Sequence[tuple[int, int]]) -> tuple[float, float]:
        if not pairs:
            return 0.0, 0.0
        first, second = (pictures[list(side)] for side in zip(*pairs, strict=True))
        pixels = (first - second).square().mean((1, 2, 3)).sqrt().mean().item()
        return pixels, self._feature_distance(first, second)

    def seconds(self) -> float:
        """Seconds that one picture takes from a prompt, alone, with guidance."""
        prompts = [prompt_of(scene) for scene in (self.scenes["seen"] * (TIMED + 1))[: TIMED + 1]]
        for i, prompt in enumerate(prompts):
            if i == 1:
                start = time.perf_counter()
            self._from_prompts([prompt], self.sampling)
        return (time.perf_counter() - start) / TIMED
