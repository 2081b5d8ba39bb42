"""Training of Stage B: Stage A's latents from Stage C's."""

from __future__ import annotations

import random
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from ..checkpoints.identify import Part
from ..samplers.sample import sample
from ..samplers.schedule import STAGE_B_SHIFT
from ..samplers.target import TARGETS
from ..stage_a.model import STAGE_B_SCALE
from ..stage_b import StageB
from .draws import Draws, random_of
from .encoders import strides_of
from .examples import Field, regions
from .objective import draw_noise, draw_times, question, squared_error
from .task import Batch, Files, Task, text_features
from .windows import Windows, whole, windows_on
from .workspace import Workspace, encoder_input, to_images


class StageBPredictor(nn.Module):
    """Stage B with what turns its conditions into what it adds to its input."""

    def __init__(self, stage_b: StageB, encoder: nn.Module | None):
        super().__init__()
        self.stage_b, self.encoder = stage_b, encoder

    def forward(
        self, x: Tensor, t: Tensor, pooled: Tensor, semantic: Tensor, keep: Tensor, noise: Tensor,
        windows: Windows,
    ) -> Tensor:  # fmt: skip
        """Predict what noise there is in windows of latents.

        Args:
            x, t: the noisy windows, ``n c h w``, and their times, ``n``.
            pooled: of each picture's caption, ``b c``.
            semantic: Stage C latents; pictures, with an encoder that trains along.
            keep: 0 for pictures whose Stage C latents become zeros, ``b 1 1 1``.
            noise: for the Stage C latents.
            windows: where in which picture they lie.
        """
        if self.encoder is not None:
            semantic = self.encoder(semantic)
        stage, patch = self.stage_b, self.stage_b.config.patch_size
        # Mapped whole and cut afterwards: resized alone, a window would not line up with its surroundings.
        semantic_map = stage.semantic_map((semantic + noise) * keep, windows.height, windows.width)
        return stage(
            x, t, stage.tokens(pooled)[list(windows.pictures)],
            windows.cut(semantic_map.movedim(-1, 1), patch).movedim(1, -1),
        )  # fmt: skip


class StageBTask(Task):
    """Draw Stage A's latents from Stage C's, which get some noise so that Stage B forgives Stage C.

    Source: Stability ``train/train_b.py``.
    """

    def __init__(self, work: Workspace):
        super().__init__(work)
        along = self.objective.train_encoder
        encoder = work.companion(Part.SEMANTIC_ENCODER).requires_grad_(True).train() if along else None
        self.network = StageBPredictor(self.new(Part.STAGE_B), encoder)
        self.text_encoder = None if work.settings.data.captions else work.companion(Part.TEXT_ENCODER)
        # Without a cache the latents are made at each visit, so that the encoders see changing crops.
        self.frozen = None if work.settings.data.latent_cache else work.companion(Part.STAGE_A)
        needs_encoder = not along and not work.settings.data.latent_cache
        self.frozen_encoder = work.companion(Part.SEMANTIC_ENCODER) if needs_encoder else None

    def fields(self) -> dict[str, Field]:
        work, data = self.work, self.settings.data
        fields = {**work.text_field(), "things": work.things}
        if data.latent_cache:
            fields["latents"] = work.latents_field()
        if data.latent_cache and not self.objective.train_encoder:
            fields["semantic"] = work.semantics_field()
        else:
            fields["picture"] = work.picture
        return fields

    def losses(self, network: nn.Module, batch: Batch, draws: Draws) -> Tensor:
        objective, latents = self.objective, self._clean(batch)
        semantic, cells = self._semantic(batch, draws)
        _, pooled = text_features(self.work, batch, self.text_encoder)
        windows = self._windows(batch, latents, draws)
        clean = windows.cut(latents)
        times = draw_times(draws, objective, self.settings.schedule.batch, windows.each)
        noise = windows.cut(draw_noise(draws, objective, latents.shape))
        x, t, answer, logsnr = question(clean, noise, times, objective)
        keep = draws.keep(objective.drop_semantic, 4)
        blur = objective.semantic_noise * draws.uniform(1, 1, 1) * draws.normal(*cells)
        prediction = network(x, t, pooled, semantic, keep, blur, windows)
        where = windows.cut(regions(batch["things"], *latents.shape[-2:]).to(latents))
        loss = squared_error(prediction, answer, where, objective.region_weight)
        return self.weighted(loss, logsnr).view(len(draws), windows.each).mean(dim=1)

    def _random_of_step(self, what: str, draws: Draws) -> random.Random:
        """Randomness that all examples of a step share, in whatever batches they come."""
        step = draws.positions[0] // self.settings.schedule.batch
        return random_of(what, self.settings.schedule.seed, step)

    def _windows(self, batch: Batch, latents: Tensor, draws: Draws) -> Windows:
        if self._random_of_step("windows", draws).random() >= self.objective.window_share:
            return whole(latents)
        return windows_on(batch["things"], latents, self.network.stage_b.config.patch_size, draws)

    def _clean(self, batch: Batch) -> Tensor:
        if self.frozen is None:
            return batch["latents"]
        with torch.no_grad():
            return self.frozen.encode(to_images(batch["picture"])) / STAGE_B_SCALE

    def _semantic(self, batch: Batch, draws: Draws) -> tuple[Tensor, tuple[int, ...]]:
        """What the network takes as Stage C latents, and the shape of one of them."""
        if "semantic" in batch:
            return batch["semantic"], tuple(batch["semantic"].shape[1:])
        encoder = self.frozen_encoder or self.network.encoder
        images = to_images(batch["picture"])
        if self.settings.data.latent_cache:
            small = encoder_input(encoder, images, self.work.compression)
        else:
            small = self._reduced(images, draws, encoder.config.downscale)
        if self.frozen_encoder is None:
            channels, downscale = encoder.config.channels, encoder.config.downscale
            return small, (channels, *(-(-side // downscale) for side in small.shape[-2:]))
        with torch.no_grad():
            semantic = encoder(small)
        return semantic, tuple(semantic.shape[1:])

    def _reduced(self, images: Tensor, draws: Draws, downscale: int) -> Tensor:
        """Pictures reduced by one factor from ``semantic_scale`` for the whole step, nearest neighbours."""
        low, high = self.objective.semantic_scale
        factor = low + (high - low) * self._random_of_step("scale", draws).random()
        sides = [max(1, int(side * factor) // downscale) * downscale for side in images.shape[-2:]]
        return functional.interpolate(images, sides, mode="nearest")

    def files(self, network: nn.Module) -> Files:
        entries: dict[str, Any] = {"prediction": self.objective.prediction}
        if self.settings.data.latent_cache:
            entries["latent_rgb"] = self.linear_preview(self.work.latents_field())
        entries["head_dim"] = network.stage_b.config.trunk.head_width
        files: Files = {Part.STAGE_B.value: (network.stage_b, self.recorded(**entries))}
        if network.encoder is not None:
            kept = self.work.metadata_of(self.work.file_of(Part.SEMANTIC_ENCODER))
            files[Part.SEMANTIC_ENCODER.value] = (network.encoder, kept | strides_of(network.encoder))
        return files

    def pictures(self, network: nn.Module) -> Tensor | None:
        if not self.settings.data.latent_cache or self.objective.train_encoder:
            return None
        shown, stage, device = self.shown(), network.stage_b, self.work.device
        semantic, latents = (shown[name].to(device) for name in ("semantic", "latents"))
        _, pooled = text_features(self.work, shown, self.text_encoder)
        tokens, semantic_map = stage.tokens(pooled), stage.semantic_map(semantic, *latents.shape[-2:])
        drawn = sample(
            lambda x, t: stage(x, t, tokens, semantic_map),
            torch.randn(latents.shape, generator=torch.Generator().manual_seed(0)).to(device),
            generator=torch.Generator().manual_seed(1), steps=10, shift=STAGE_B_SHIFT,
            target=TARGETS[self.objective.prediction],
        )  # fmt: skip
        decoder = self.work.companion(Part.STAGE_A)
        pictures = decoder.decode(torch.cat([latents, drawn]) * STAGE_B_SCALE)
        return pictures.clamp(0, 1).movedim(1, -1)
