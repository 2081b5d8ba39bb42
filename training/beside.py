"""What is trained beside a Stage C that stays as it is."""

from __future__ import annotations

from abc import abstractmethod

import torch
from torch import Tensor, nn

from ..checkpoints.identify import Part
from ..stage_c import StageC
from .draws import Draws
from .examples import regions
from .objective import draw_noise, draw_times, question, squared_error
from .stage_c import StageCTask
from .task import Batch, Task
from .workspace import Workspace


class BesideStageCTask(StageCTask):
    """Help a frozen Stage C, which ``companions.stage_c`` names, to predict what it is trained to predict."""

    def __init__(self, work: Workspace):
        Task.__init__(self, work)  # Stage C's own would make a Stage C to train
        settings = work.settings
        self.text_encoder = None if settings.data.captions else work.companion(Part.TEXT_ENCODER)
        self.frozen_encoder = None if settings.data.latent_cache else work.companion(Part.SEMANTIC_ENCODER)
        self.has_images = False
        predicts = work.recorded(Part.STAGE_C).prediction
        if predicts != self.objective.prediction:
            raise ValueError(
                f"{settings.companions.stage_c} predicts {predicts}, and objective.prediction is "
                f"{self.objective.prediction}; set it to {predicts}"
            )
        self.stage_c: StageC = work.companion(Part.STAGE_C)

    @abstractmethod
    def predicted(
        self, network: nn.Module, x: Tensor, t: Tensor, tokens: Tensor, batch: Batch, draws: Draws
    ) -> Tensor:
        """What Stage C predicts with the network's help, for noisy latents ``b c h w`` and times ``b``."""

    def losses(self, network: nn.Module, batch: Batch, draws: Draws) -> Tensor:
        objective, clean = self.objective, self._clean(batch)
        times = draw_times(draws, objective, self.settings.schedule.batch)
        x, t, answer, logsnr = question(clean, draw_noise(draws, objective, clean.shape), times, objective)
        prediction = self.predicted(network, x, t, self._tokens(*self._text(batch)), batch, draws)
        where = regions(batch["things"], *clean.shape[-2:]).to(clean)
        return self.weighted(squared_error(prediction, answer, where, objective.region_weight), logsnr)

    def _tokens(self, text: Tensor, pooled: Tensor) -> Tensor:
        """Of the prompt alone: Stage C's own image prompt stays the zero vector that means none."""
        none = torch.zeros(len(text), 1, self.stage_c.config.c_image, device=text.device)
        with torch.no_grad():
            return self.stage_c.tokens(text, pooled, none)
