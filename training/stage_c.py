"""Training of Stage C: its latents from captions and pictures."""

from __future__ import annotations

import random
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import Linear

from ..checkpoints.identify import Part
from ..conditioning.text import encode
from ..latents.geometry import stage_c_size
from ..samplers.sample import sample
from ..samplers.schedule import STAGE_C_SHIFT
from ..samplers.target import TARGETS
from ..stage_c import StageC
from .draws import Draws
from .examples import COLOUR_NAMES, Field, label_maps, reading_losses, regions
from .objective import draw_noise, draw_times, question, squared_error
from .picturebook import KINDS
from .task import SHOWN, Batch, Files, Task, text_features
from .workspace import Workspace, encoder_input, to_images


class StageCPredictor(nn.Module):
    """Stage C, with the text encoder if it trains along, and with a reader of its inner features."""

    def __init__(self, stage_c: StageC, encoder: nn.Module | None, end_row: int, reading: bool):
        super().__init__()
        self.stage_c, self.encoder = stage_c, encoder
        self.end_row = end_row
        width = stage_c.config.trunk.up[0].width
        self.reader = Linear(width, len(KINDS) + len(COLOUR_NAMES)) if reading else None

    def forward(
        self, x: Tensor, t: Tensor, text: Tensor, pooled: Tensor | None, image: Tensor
    ) -> tuple[Tensor, Tensor | None]:
        """Prediction, and readings ``b k h w`` of kind and colour in each cell.

        Args:
            x, t: noisy latents and times.
            text, pooled: features of the captions; with an encoder that trains along, the captions as rows
                of its table, and None.
            image: embeddings of image prompts, ``b 1 c``.
        """
        if self.encoder is not None:
            text, pooled = encode(self.encoder, text, self.end_row)
        tokens = self.stage_c.tokens(text, pooled, image)
        if self.reader is None:
            return self.stage_c(x, t, tokens), None
        features: list[Tensor] = []
        # Read where the trunk is deepest, behind its first level on the way up.
        deepest = self.stage_c.up_blocks[0][-1]
        hook = deepest.register_forward_hook(lambda block, inputs, output: features.append(output))
        try:
            prediction = self.stage_c(x, t, tokens)
        finally:
            hook.remove()
        return prediction, self.reader(features[-1]).movedim(-1, 1)


class StageCTask(Task):
    """Draw Stage C latents from captions and image embeddings. Source: Stability ``train/train_c.py``.

    Attributes:
        preview: of ``samplers.sample``, for its pictures.
    """

    preview: ClassVar[dict[str, Any]] = {"steps": 20, "cfg": 3.0}

    def __init__(self, work: Workspace):
        super().__init__(work)
        along = self.objective.train_encoder
        if self.objective.reading and not work.settings.data.picturebook:
            raise ValueError(
                "objective.reading needs to know what is where, which only data.picturebook does; set it to 0"
            )
        if along and work.settings.data.captions:
            raise ValueError(
                "a text encoder that trains along cannot use cached captions; set data.captions = 0"
            )
        text_encoder = None if work.settings.data.captions else work.companion(Part.TEXT_ENCODER)
        if along:
            text_encoder.requires_grad_(True).train()
        self.text_encoder = None if along else text_encoder
        stage_c = self.new(Part.STAGE_C)
        self.network = StageCPredictor(
            stage_c, text_encoder if along else None, work.tokens.end_row, self.objective.reading > 0
        )
        cached = work.settings.data.latent_cache
        self.frozen_encoder = None if cached else work.companion(Part.SEMANTIC_ENCODER)
        self.has_images = bool(work.settings.companions.image_encoder)

    def fields(self) -> dict[str, Field]:
        work = self.work
        fields = {**work.text_field(), "things": work.things}
        if self.settings.data.latent_cache:
            fields["semantic"] = work.semantics_field()
        else:
            fields["picture"] = work.picture
        if self.has_images:
            fields["embedding"] = work.embedding_field()
        return fields

    def losses(self, network: nn.Module, batch: Batch, draws: Draws) -> Tensor:
        objective, clean = self.objective, self._clean(batch)
        times = draw_times(draws, objective, self.settings.schedule.batch)
        x, t, answer, logsnr = question(clean, draw_noise(draws, objective, clean.shape), times, objective)
        prediction, readings = network(x, t, *self._text(batch), self._image(batch, draws))
        where = regions(batch["things"], *clean.shape[-2:]).to(clean)
        loss = self.weighted(squared_error(prediction, answer, where, objective.region_weight), logsnr)
        if readings is not None:
            labels = label_maps(batch["things"], *clean.shape[-2:])
            loss = loss + objective.reading * reading_losses(readings, labels)
        return loss

    def _clean(self, batch: Batch) -> Tensor:
        if self.frozen_encoder is None:
            return batch["semantic"]
        images = to_images(batch["picture"])
        with torch.no_grad():
            return self.frozen_encoder(encoder_input(self.frozen_encoder, images, self.work.compression))

    def _text(self, batch: Batch) -> tuple[Tensor, Tensor | None]:
        if self.objective.train_encoder:
            return self.work.rows(batch["caption"]), None
        return text_features(self.work, batch, self.text_encoder)

    def _image(self, batch: Batch, draws: Draws) -> Tensor:
        """Embeddings, all but a few of them zeros, as no image prompt is a zero vector."""
        if not self.has_images:
            return torch.zeros(len(draws), 1, self.network.stage_c.config.c_image, device=self.work.device)
        return batch["embedding"][:, None] * draws.keep(self.objective.drop_image, 3)

    def files(self, network: nn.Module) -> Files:
        entries: dict[str, Any] = {"prediction": self.objective.prediction}
        if self.settings.data.latent_cache:
            entries["latent_rgb"] = self.linear_preview(self.work.semantics_field())
        entries["head_dim"] = network.stage_c.config.trunk.head_width
        files: Files = {Part.STAGE_C.value: (network.stage_c, self.recorded(**entries))}
        if network.encoder is not None:
            kept = self.work.metadata_of(self.work.file_of(Part.TEXT_ENCODER))
            files[Part.TEXT_ENCODER.value] = (network.encoder, kept)
        return files

    def pictures(self, network: nn.Module) -> Tensor | None:
        if not self.settings.companions.previewer or self.settings.data.captions:
            return None
        stage, device = network.stage_c, self.work.device
        captions = [
            self.work.source.caption(i % len(self.work.source), random.Random(i)) for i in range(SHOWN)
        ]
        encoder = network.encoder or self.text_encoder
        image = torch.zeros(SHOWN, 1, stage.config.c_image, device=device)
        with_text, without = (
            stage.tokens(*self.work.encode_rows(encoder, self.work.rows(texts)), image)
            for texts in (captions, [""] * SHOWN)
        )
        columns, rows = stage_c_size(*self.work.sizes[0], self.work.compression)
        shape = (SHOWN, stage.config.channels, rows, columns)
        noise = torch.randn(shape, generator=torch.Generator().manual_seed(0)).to(device)
        drawn = sample(
            lambda x, t: stage(x, t, with_text), noise, generator=torch.Generator().manual_seed(1),
            unconditional=lambda x, t: stage(x, t, without), shift=STAGE_C_SHIFT,
            target=TARGETS[self.objective.prediction], **self.preview,
        )  # fmt: skip
        return self.work.companion(Part.PREVIEWER)(drawn).clamp(0, 1).movedim(1, -1)
