"""An image adapter for Stage C: it learns to add what a picture shows, while Stage C stays as it is.

Source: Ye et al. 2023, "IP-Adapter", section 3.2; the same loss as Stage C's own training.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ..adapters.image_prompt import ImageAdapter, image_attention, load_image_adapter, new_image_adapter
from ..checkpoints.identify import Part
from ..layers.hooks import Hooks
from ..samplers.sample import sample
from ..samplers.schedule import STAGE_C_SHIFT
from ..samplers.target import TARGETS
from ..stage_c import StageC
from .draws import Draws
from .examples import regions
from .objective import draw_noise, draw_times, question, squared_error
from .parts import Batch, Files, StageCTask, Task
from .settings import from_table
from .workspace import Workspace


@dataclass(frozen=True, slots=True)
class Sizes:
    """Of a new adapter; everything else follows from the Stage C and the image encoder.

    Attributes:
        tokens: that one picture becomes.
        c_token: features of each.
    """

    tokens: int = 4
    c_token: int = 128


class ImageAdapterTask(StageCTask):
    """Draw Stage C's latents from the embedding of their own picture, with and without its caption.

    ``companions.stage_c`` names the Stage C, which is not trained. ``objective.drop_image`` is the share of
    pictures that are not shown, so that guidance works; a tenth is usual, not Stage C's nine tenths.
    """

    def __init__(self, work: Workspace):
        Task.__init__(self, work)  # Stage C's own would make a Stage C to train
        settings = work.settings
        self.text_encoder = None if settings.data.captions else work.companion(Part.TEXT_ENCODER)
        self.frozen_encoder = None if settings.data.latent_cache else work.companion(Part.SEMANTIC_ENCODER)
        work.file_of(Part.IMAGE_ENCODER)  # says what to do where it is missing
        self.has_images = True
        predicts = work.recorded(Part.STAGE_C).prediction
        if predicts != self.objective.prediction:
            raise ValueError(
                f"{settings.companions.stage_c} predicts {predicts}, and objective.prediction is "
                f"{self.objective.prediction}; set it to {predicts}"
            )
        self.stage_c: StageC = work.companion(Part.STAGE_C)
        self.network = self._adapter()

    def _adapter(self) -> ImageAdapter:
        settings = self.settings
        if settings.start:
            return load_image_adapter(self.work.base / settings.start).requires_grad_(True).train()
        sizes = from_table(Sizes, settings.network, "network (image_adapter)")
        config = self.stage_c.config
        return new_image_adapter(config.trunk, config.c_image, sizes.tokens, sizes.c_token).train()

    def losses(self, network: nn.Module, batch: Batch, draws: Draws) -> Tensor:
        objective, clean = self.objective, self._clean(batch)
        times = draw_times(draws, objective, self.settings.schedule.batch)
        x, t, answer, logsnr = question(clean, draw_noise(draws, objective, clean.shape), times, objective)
        image = batch["embedding"][:, None] * draws.keep(objective.drop_image, 3)
        prediction = self._predict(network, x, t, self._tokens(*self._text(batch)), image)
        where = regions(batch["things"], *clean.shape[-2:]).to(clean)
        return self.weighted(squared_error(prediction, answer, where, objective.region_weight), logsnr)

    def _tokens(self, text: Tensor, pooled: Tensor) -> Tensor:
        """Of the prompt alone: Stage C's own image prompt stays the zero vector that means none."""
        none = torch.zeros(len(text), 1, self.stage_c.config.c_image, device=text.device)
        with torch.no_grad():
            return self.stage_c.tokens(text, pooled, none)

    def _predict(self, network: nn.Module, x: Tensor, t: Tensor, tokens: Tensor, image: Tensor) -> Tensor:
        hooks = Hooks(attention=(image_attention(network(image), 1.0),))
        return self.stage_c(x, t, tokens, hooks=hooks)

    def files(self, network: nn.Module) -> Files:
        return {Part.IMAGE_ADAPTER.value: (network, self.recorded())}

    def pictures(self, network: nn.Module) -> Tensor | None:
        """The first pictures, and below what is drawn from their embeddings and an empty caption."""
        if not self.settings.companions.previewer or self.settings.data.captions:
            return None
        device = self.work.device
        previewer = self.work.companion(Part.PREVIEWER)
        shown = self.shown(
            {"semantic": self.work.semantics_field(), "embedding": self.work.embedding_field()}
        )
        image, true = shown["embedding"][:, None].to(device), shown["semantic"].to(device)
        empty = self.work.encode_rows(self.text_encoder, self.work.rows([""] * len(image)))
        tokens = self._tokens(*empty)
        noise = torch.randn(true.shape, generator=torch.Generator().manual_seed(0)).to(device)
        drawn = sample(
            lambda x, t: self._predict(network, x, t, tokens, image), noise,
            generator=torch.Generator().manual_seed(1),
            unconditional=lambda x, t: self._predict(network, x, t, tokens, torch.zeros_like(image)),
            steps=20, cfg=2.0, shift=STAGE_C_SHIFT, target=TARGETS[self.objective.prediction],
        )  # fmt: skip
        return previewer(torch.cat([true, drawn])).clamp(0, 1).movedim(1, -1)
