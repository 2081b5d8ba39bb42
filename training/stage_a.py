"""Training of Stage A: pictures into latents and back."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from ..checkpoints.identify import Part
from ..stage_a import StageA
from ..stage_a.model import STAGE_B_SCALE
from .draws import Draws
from .examples import Field
from .task import Batch, Files, Task
from .workspace import Workspace, to_images


class Autoencoder(nn.Module):
    """Stage A there and back, with noise on the latents or through the codebook."""

    def __init__(self, stage_a: StageA):
        super().__init__()
        self.stage_a = stage_a

    def forward(self, images: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
        """``b 3 h w`` and noise like the latents -> pictures, and the codebook's loss for each, ``b``.

        The straight-through step lets the encoder learn as if nothing were rounded. Source: van den Oord
        et al. 2017, "Neural Discrete Representation Learning", equation 3, with commitment 0.25.
        """
        latents = self.stage_a.encode(images)
        if not self.stage_a.config.codebook_size:
            return self.stage_a.decode(latents + noise), latents.new_zeros(len(latents))
        book = self.stage_a.vquantizer["codebook"].weight
        flat = latents.movedim(1, -1)
        nearest = torch.cdist(flat.detach().flatten(0, 2), book.detach()).argmin(dim=1)
        chosen = functional.embedding(nearest.view(flat.shape[:-1]), book).movedim(-1, 1)
        losses = (chosen - latents.detach()).square() + 0.25 * (chosen.detach() - latents).square()
        return self.stage_a.decode(latents + (chosen - latents).detach()), losses.mean(dim=(1, 2, 3))


LATENT_NOISE = 0.15
"""Largest noise on Stage A's latents, in Stage B's scale: its decoder learns to forgive Stage B."""


def picture_errors(drawn: Tensor, images: Tensor) -> Tensor:
    """Absolute, squared and edge error of pictures ``b 3 h w``, summed for each: ``b``."""
    error = drawn - images
    edges = error.diff(dim=-1).abs().mean(dim=(1, 2, 3)) + error.diff(dim=-2).abs().mean(dim=(1, 2, 3))
    return (error.abs() + 2 * error.square()).mean(dim=(1, 2, 3)) + 0.5 * edges


class StageATask(Task):
    """Reconstruct pictures, or squares cut from them."""

    def __init__(self, work: Workspace):
        super().__init__(work)
        self.network = Autoencoder(self.new(Part.STAGE_A))

    def fields(self) -> dict[str, Field]:
        return {"picture": self.work.crop}

    def losses(self, network: nn.Module, batch: Batch, draws: Draws) -> Tensor:
        images = to_images(batch["picture"])
        channels, (height, width) = self.network.stage_a.config.channels, images.shape[-2:]
        level = LATENT_NOISE * STAGE_B_SCALE * draws.uniform(1, 1, 1)
        drawn, book = network(images, level * draws.normal(channels, height // 4, width // 4))
        return picture_errors(drawn, images) + book

    def files(self, network: nn.Module) -> Files:
        return {Part.STAGE_A.value: (network.stage_a, self.recorded())}

    def pictures(self, network: nn.Module) -> Tensor:
        images = self.shown_images()
        drawn = network.stage_a.decode(network.stage_a.encode(images))
        return torch.cat([images, drawn]).movedim(1, -1)
