"""Training of the previewer: small pictures from Stage C's latents."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ..checkpoints.identify import Part
from .draws import Draws
from .examples import Field, regions
from .task import Batch, Files, Task
from .workspace import Workspace, shrink, to_images


class PreviewerTask(Task):
    """Draw small pictures straight from Stage C's latents."""

    def __init__(self, work: Workspace):
        super().__init__(work)
        self.network = self.new(Part.PREVIEWER)

    def fields(self) -> dict[str, Field]:
        return {
            "semantic": self.work.semantics_field(),
            "picture": self.work.picture,
            "things": self.work.things,
        }

    def losses(self, network: nn.Module, batch: Batch, draws: Draws) -> Tensor:
        semantic, objective = batch["semantic"], self.objective
        noise = objective.semantic_noise * draws.uniform(1, 1, 1) * draws.normal(*semantic.shape[1:])
        return preview_losses(network(semantic + noise), batch, objective.region_weight)

    def files(self, network: nn.Module) -> Files:
        return {Part.PREVIEWER.value: (network, self.recorded())}

    def pictures(self, network: nn.Module) -> Tensor:
        shown = self.shown()
        drawn = network(shown["semantic"].to(self.work.device))
        images = to_images(shown["picture"]).to(drawn)
        return torch.cat([shrink(images, *drawn.shape[-2:]), drawn]).clamp(0, 1).movedim(1, -1)


def preview_losses(preview: Tensor, batch: Batch, region_weight: float) -> Tensor:
    """Absolute and squared error of small pictures, things more than backgrounds: ``b``."""
    height, width = preview.shape[-2:]
    error = preview - shrink(to_images(batch["picture"]).to(preview), height, width)
    where = regions(batch["things"], height, width).to(preview)
    weights = 1 + (region_weight - 1) * where
    total = weights * (error.abs() + 2 * error.square())
    return total.sum(dim=(1, 2, 3)) / (3 * weights.sum(dim=(1, 2, 3)))
