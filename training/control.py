"""ControlNets for Stage C: they learn to make it follow a hint, while Stage C stays as it is.

Source: Stability ``train/train_c_controlnet.py``; the same loss as Stage C's own training.
"""

from __future__ import annotations

from abc import abstractmethod
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from ..adapters.controlnet import (
    Backbone,
    ControlNet,
    ControlNetConfig,
    DeepBackbone,
    EfficientNetBackbone,
    load_controlnet,
    recorded,
)
from ..adapters.hints import as_colours, canny_hint, inpaint_hint, super_resolution_hint
from ..adapters.steering import block_widths, fitted
from ..checkpoints.identify import Part
from ..samplers.sample import sample
from ..samplers.schedule import STAGE_C_SHIFT
from ..samplers.target import TARGETS
from ..stage_c import StageC
from .beside import BesideStageCTask
from .draws import Draws
from .examples import Field
from .settings import from_table
from .task import SHOWN, Batch, Files
from .workspace import Workspace, encoder_input, shrink, to_images


class Kept:
    """A network that is used and not trained, out of sight of what copies, averages and writes networks."""

    def __init__(self, network: nn.Module):
        self.network = network

    def __deepcopy__(self, memo: dict[int, Any]) -> Kept:
        return self


class SteeredStageC(nn.Module):
    """A ControlNet to train, and the Stage C that it steers."""

    def __init__(self, controlnet: ControlNet, stage_c: StageC):
        super().__init__()
        self.controlnet = controlnet
        self.kept = Kept(stage_c)

    def forward(self, x: Tensor, t: Tensor, tokens: Tensor, hint: Tensor) -> Tensor:
        """What Stage C predicts; see ``StageC.forward`` and ``ControlNet.forward``."""
        return self.kept.network(x, t, tokens, self.controlnet(hint))


class ControlNetTask(BesideStageCTask):
    """Draw Stage C's latents from captions and hints; ``companions.stage_c`` names the Stage C.

    Each kind below says what its hint is, and how many channels and which backbone go with it.
    """

    KIND: str
    CHANNELS: int
    BACKBONE: type[Backbone]

    def __init__(self, work: Workspace):
        super().__init__(work)
        self.network = SteeredStageC(self._controlnet(), self.stage_c)

    def _controlnet(self) -> ControlNet:
        """The one to go on from, or a new one: at first it adds nothing."""
        settings, widths = self.settings, block_widths(self.stage_c)
        if settings.start:
            network = load_controlnet(self.work.base / settings.start).float().requires_grad_(True).train()
        else:
            network = ControlNet(self._config(widths)).train()
            for projection in network.projections:
                nn.init.zeros_(projection[-1].weight)
        config = network.config
        wrong = [b for b in config.blocks if b >= len(widths) or widths[b] != config.c_proj]
        if wrong:
            raise ValueError(
                f"the ControlNet feeds {config.c_proj} channels to residual block {wrong[0]}, and "
                f"{settings.companions.stage_c} has blocks of {', '.join(map(str, widths))}; change "
                "network.blocks or the Stage C"
            )
        if config.backbone.c_in != self.CHANNELS:
            raise ValueError(
                f"a ControlNet for {self.KIND} takes {self.CHANNELS} channels, and this one takes "
                f"{config.backbone.c_in}; set network.backbone.c_in to {self.CHANNELS}, or name another file "
                "in start"
            )
        return network

    def _config(self, widths: tuple[int, ...]) -> ControlNetConfig:
        table = dict(self.settings.network)
        where = f"network ({self.settings.part})"
        backbone = from_table(self.BACKBONE, table.pop("backbone", {}), f"{where}.backbone")
        blocks = tuple(table.pop("blocks", range(len(widths))))
        if table or not blocks:
            raise ValueError(f"{where} takes backbone and blocks, a list of numbers; correct the rest")
        return ControlNetConfig(backbone, widths[blocks[0] % len(widths)], blocks, self.KIND)

    @abstractmethod
    def hint(self, images: Tensor, draws: Draws) -> Tensor:
        """What the ControlNet follows, ``b c_in h w``, from pictures ``b 3 h w`` in [0, 1]."""

    def _fitted(self, images: Tensor, draws: Draws, latents: Tensor) -> Tensor:
        backbone = self.network.controlnet.config.backbone
        with torch.no_grad():
            return fitted(self.hint(images, draws), backbone, *latents.shape[-2:])

    def fields(self) -> dict[str, Field]:
        fields = super().fields()
        if "picture" not in fields:  # cached latents are of pictures that are cut in one way
            fields["picture"] = lambda i, rng: self.work.picture(i)
        return fields

    def predicted(
        self, network: nn.Module, x: Tensor, t: Tensor, tokens: Tensor, batch: Batch, draws: Draws
    ) -> Tensor:
        return network(x, t, tokens, self._fitted(to_images(batch["picture"]).to(x), draws, x))

    def files(self, network: nn.Module) -> Files:
        entries = recorded(network.controlnet.config)
        return {self.settings.part: (network.controlnet, self.recorded(**entries))}

    def pictures(self, network: nn.Module) -> Tensor | None:
        """True pictures, their hints, and what is drawn from the hints with an empty caption."""
        if not self.settings.companions.previewer or self.settings.data.captions:
            return None
        previewer = self.work.companion(Part.PREVIEWER)
        fields = {"semantic": self.work.semantics_field(), "picture": lambda i, rng: self.work.picture(i)}
        shown = self.shown(fields)
        true = shown["semantic"].to(self.work.device)
        images = to_images(shown["picture"]).to(true)
        hint = self._fitted(images, Draws(0, range(SHOWN)[: len(true)], self.work.device), true)
        empty = self.work.encode_rows(self.text_encoder, self.work.rows([""] * len(true)))
        tokens = self._tokens(*empty)
        noise = torch.randn(true.shape, generator=torch.Generator().manual_seed(0)).to(true)
        drawn = sample(
            lambda x, t: network(x, t, tokens, hint), noise, generator=torch.Generator().manual_seed(1),
            steps=20, shift=STAGE_C_SHIFT, target=TARGETS[self.objective.prediction],
        )  # fmt: skip
        seen = previewer(torch.cat([true, drawn])).clamp(0, 1)
        rows = [seen[: len(true)], shrink(as_colours(hint), *seen.shape[-2:]), seen[len(true) :]]
        return torch.cat(rows).movedim(1, -1)


class CannyTask(ControlNetTask):
    """Edges."""

    KIND, CHANNELS, BACKBONE = "canny", 1, EfficientNetBackbone

    def hint(self, images: Tensor, draws: Draws) -> Tensor:
        return canny_hint(images)


class InpaintTask(ControlNetTask):
    """Pictures with holes; the reference's are what a saliency network finds, ours are simple shapes."""

    KIND, CHANNELS, BACKBONE = "inpainting", 4, EfficientNetBackbone

    def hint(self, images: Tensor, draws: Draws) -> Tensor:
        return inpaint_hint(images, holes(draws, *images.shape[-2:]))


def holes(draws: Draws, height: int, width: int) -> Tensor:
    """Masks ``b 1 h w``, 1 in a hole: a box, an ellipse, or all that is outside of a box, as in outpainting.

    Many reach over an edge of the picture.
    """
    kind, across, down, wide, high = draws.uniform(5).unbind(dim=1)
    device = kind.device
    columns = torch.linspace(0, 1, width, device=device).view(1, 1, -1)
    rows = torch.linspace(0, 1, height, device=device).view(1, -1, 1)
    # Distance from the centre, in half sides of 0.15 to 0.45 of the picture.
    x = (columns - across.view(-1, 1, 1)).abs() / (0.15 + 0.3 * wide.view(-1, 1, 1))
    y = (rows - down.view(-1, 1, 1)).abs() / (0.15 + 0.3 * high.view(-1, 1, 1))
    box, ellipse = torch.maximum(x, y) < 1, x.square() + y.square() < 1
    which = kind.view(-1, 1, 1)
    return torch.where(which < 0.4, box, torch.where(which < 0.7, ellipse, ~box))[:, None].float()


class SuperResolutionTask(ControlNetTask):
    """Stage C's latents of pictures of half the size."""

    KIND, CHANNELS, BACKBONE = "super-resolution", 16, DeepBackbone

    def __init__(self, work: Workspace):
        self.encoder = work.companion(Part.SEMANTIC_ENCODER)
        super().__init__(work)

    def hint(self, images: Tensor, draws: Draws) -> Tensor:
        small = functional.interpolate(images, scale_factor=0.5, mode="nearest")
        return super_resolution_hint(self.encoder(encoder_input(self.encoder, small, self.work.compression)))
