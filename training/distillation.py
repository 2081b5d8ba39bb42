"""Teach Stage C to come in a few steps to where it comes in many, with its guidance in it.

Source: Luo et al. 2023, "Latent Consistency Models", algorithm 1, with the one-step estimate itself as the
consistency function, as the reference's LCM sampler uses it; the network is its own target without an average
and the loss a pseudo-Huber one, after Song & Dhariwal 2023, "Improved Techniques for Training Consistency
Models", sections 3.2 and 3.3.
"""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor, nn

from ..checkpoints.identify import Part
from ..samplers.guidance import guide
from ..samplers.schedule import alpha_sigma, logsnr_of_time, time_of_logsnr
from ..samplers.solvers import SOLVERS
from ..samplers.steps import ddim
from ..samplers.target import TARGETS
from .draws import Draws
from .examples import regions
from .lora import LoraTask
from .objective import draw_noise, draw_times, question, squared_error
from .stage_c import StageCTask
from .start import network_of
from .task import Batch, Files, as_metadata, text_features
from .workspace import Workspace


class StageCDistillation(StageCTask):
    """Estimate at each time what the guided teacher, one step further, leads to.

    The teacher is the file that the run starts from. Images are not distilled: prompts are text alone.
    """

    preview: ClassVar = {"steps": 4, "cfg": 1.0, "solver": SOLVERS["LCM"]}

    def __init__(self, work: Workspace):
        settings = work.settings
        if not settings.start:
            raise ValueError(
                "a distillation has no start; name the file of the Stage C whose steps are to become fewer"
            )
        if settings.objective.train_encoder or settings.objective.reading:
            raise ValueError(
                "a distillation keeps text encoder and features as they are; set objective.train_encoder to "
                "false and objective.reading to 0"
            )
        super().__init__(work)
        self.distillation = settings.distillation
        teacher = network_of(Part.STAGE_C, {}, settings.start, work.base)
        self.teacher = teacher.eval().requires_grad_(False).to(work.device)
        encoder = self.text_encoder or work.companion(Part.TEXT_ENCODER)
        with torch.no_grad():
            self.empty = work.encode_rows(encoder, work.rows([""]))

    def losses(self, network: nn.Module, batch: Batch, draws: Draws) -> Tensor:
        told, clean = self.distillation, self._clean(batch)
        text, pooled = text_features(self.work, batch, self.text_encoder)
        image = torch.zeros(len(draws), 1, self.teacher.config.c_image, device=self.work.device)
        drawn = draw_times(draws, self.objective, self.settings.schedule.batch)
        now = (drawn * told.times).ceil() / told.times
        then = now - 1 / told.times
        noise = draw_noise(draws, self.objective, clean.shape)
        x, _, _, levels = question(clean, noise, now, self.objective)
        next_levels = logsnr_of_time(then, self.objective.shift)

        def estimate(one: nn.Module, noisy: Tensor, logsnr: Tensor) -> Tensor:
            prediction, _ = one(noisy, time_of_logsnr(logsnr), text, pooled, image)
            return self._read(prediction, noisy, logsnr)[0]

        with torch.no_grad():
            guided, moved = self._teach(x, levels, next_levels, text, pooled, image)
            ahead = estimate(network, moved, next_levels)
            at_the_end = (then < 0.5 / told.times).view(-1, 1, 1, 1)
            wanted = torch.where(at_the_end, guided, ahead)
        found = estimate(network, x, levels)
        where = regions(batch["things"], *clean.shape[-2:]).to(clean)
        error = squared_error(found, wanted, where, self.objective.region_weight)
        return self.weighted((error + told.huber**2).sqrt() - told.huber, levels)

    def _teach(
        self, x: Tensor, now: Tensor, then: Tensor, text: Tensor, pooled: Tensor, image: Tensor
    ) -> tuple[Tensor, Tensor]:
        """The teacher's guided clean estimate, and where its DDIM step leads."""
        teacher, t = self.teacher, time_of_logsnr(now)
        empty = [one.expand(len(x), *one.shape[1:]) for one in self.empty]
        conditional = self._read(teacher(x, t, teacher.tokens(text, pooled, image)), x, now)
        unconditional = self._read(teacher(x, t, teacher.tokens(*empty, image)), x, now)
        clean, noise = map(guide, conditional, unconditional, [self.distillation.cfg] * 2)
        levels = (level.view(-1, 1, 1, 1) for level in (now, then))
        return clean, ddim(clean, noise, *levels, torch.zeros_like(x))

    def _read(self, prediction: Tensor, x: Tensor, logsnr: Tensor) -> tuple[Tensor, Tensor]:
        """Clean estimate and noise of a prediction."""
        alpha, sigma_vp = (factor.view(-1, 1, 1, 1) for factor in alpha_sigma(logsnr))
        return TARGETS[self.objective.prediction](prediction.float(), x, alpha, sigma_vp)

    def files(self, network: nn.Module) -> Files:
        """Stage C, with the scale of the guidance that is in it; it is sampled without any."""
        (module, metadata) = super().files(network)[Part.STAGE_C.value]
        return {Part.STAGE_C.value: (module, metadata | as_metadata({"guidance": self.distillation.cfg}))}


class DistilledLora(LoraTask, StageCDistillation):
    """The same as a LoRA, by which the Stage C that it was made for, or a relative, draws in few steps."""

    def files(self, network: nn.Module) -> Files:
        ((module, metadata),) = LoraTask.files(self, network).values()
        return {"lora_lcm": (module, metadata | as_metadata({"guidance": self.distillation.cfg}))}
