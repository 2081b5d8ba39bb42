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
from .beside import BesideStageCTask
from .draws import Draws
from .settings import from_table
from .task import Batch, Files
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


class ImageAdapterTask(BesideStageCTask):
    """Draw Stage C's latents from the embedding of their own picture, with and without its caption.

    ``companions.stage_c`` names the Stage C, which is not trained. ``objective.drop_image`` is the share of
    pictures that are not shown, so that guidance works; a tenth is usual, not Stage C's nine tenths.
    """

    def __init__(self, work: Workspace):
        super().__init__(work)
        work.file_of(Part.IMAGE_ENCODER)  # says what to do where it is missing
        self.has_images = True
        self.network = self._adapter()

    def _adapter(self) -> ImageAdapter:
        settings = self.settings
        if settings.start:
            return load_image_adapter(self.work.base / settings.start).requires_grad_(True).train()
        sizes = from_table(Sizes, settings.network, "network (image_adapter)")
        config = self.stage_c.config
        return new_image_adapter(config.trunk, config.c_image, sizes.tokens, sizes.c_token).train()

    def predicted(
        self, network: nn.Module, x: Tensor, t: Tensor, tokens: Tensor, batch: Batch, draws: Draws
    ) -> Tensor:
        image = batch["embedding"][:, None] * draws.keep(self.objective.drop_image, 3)
        return self._predict(network, x, t, tokens, image)

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
