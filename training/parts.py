"""What each part is trained to do: its examples, its loss and the files that come out of it."""

from __future__ import annotations

import difflib
import json
import random
from abc import ABC, abstractmethod
from collections.abc import Mapping
from functools import cache
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import Linear, functional

from ..checkpoints.identify import Part
from ..checkpoints.recorded import Recorded
from ..conditioning.text import encode
from ..latents.geometry import stage_c_size
from ..samplers.sample import sample
from ..samplers.schedule import STAGE_B_SHIFT, STAGE_C_SHIFT
from ..samplers.target import TARGETS
from ..stage_a import StageA
from ..stage_a.model import STAGE_B_SCALE
from ..stage_b import StageB
from ..stage_c import StageC
from .draws import Draws, random_of
from .examples import COLOUR_NAMES, Examples, Field, collate, label_maps, reading_losses, regions
from .objective import LEVEL_WEIGHTS, ConstantWeight, draw_noise, draw_times, question, squared_error
from .order import NO_BUCKET
from .picturebook import KINDS
from .start import network_of
from .windows import Windows, whole, windows_on
from .workspace import Workspace, encoder_input, shrink, to_images

Batch = Mapping[str, Any]
Files = dict[str, tuple[nn.Module, dict[str, str]]]
"""For each file that a run writes, by its name without the suffix, the network in it and its metadata."""

SHOWN = 8
"""Pictures in a sample."""

FITTED = 400
"""Pictures to which a linear preview is fitted."""


class Task(ABC):
    """The training of one part.

    Attributes:
        network: what is trained. Its ``forward`` does all that gradients go through.
        weights: over noise levels; they may learn as the run goes on.
        seen: noise levels and losses since the weights last learnt, in the order of the examples. The loop
            lets them learn at the end of a step, from all its parts and processes.
    """

    network: nn.Module

    def __init__(self, work: Workspace):
        self.work, self.settings, self.objective = work, work.settings, work.settings.objective
        self.weights: ConstantWeight = LEVEL_WEIGHTS[self.objective.weight]()
        self.seen: list[tuple[Tensor, Tensor]] = []

    @abstractmethod
    def fields(self) -> dict[str, Field]:
        """Entries of an example."""

    @abstractmethod
    def losses(self, network: nn.Module, batch: Batch, draws: Draws) -> Tensor:
        """The loss of each example, ``b``.

        Args:
            network: ``self.network`` as it was prepared for its device.
            batch: entries of the examples.
            draws: all randomness.
        """

    @abstractmethod
    def files(self, network: nn.Module) -> Files:
        """What to write of a network like ``self.network``."""

    def pictures(self, network: nn.Module) -> Tensor | None:
        """A sample of what it can do, ``b h w 3`` in [0, 1]; None for a part that draws nothing."""
        return None

    def new(self, part: Part) -> nn.Module:
        """The network that the settings ask for."""
        settings, wanted = self.settings, self.objective.prediction
        network = network_of(part, settings.network, settings.start, self.work.base)
        if settings.start and part in (Part.STAGE_B, Part.STAGE_C):
            recorded = Recorded.from_metadata(self.work.metadata_of(self.work.base / settings.start))
            if recorded.prediction != wanted:
                raise ValueError(
                    f"{settings.start} predicts {recorded.prediction}, and objective.prediction is {wanted}; "
                    f"set it to {recorded.prediction}"
                )
        for module in network.modules():
            if isinstance(module, nn.Dropout):
                module.p = settings.schedule.dropout
        return network

    def weighted(self, loss: Tensor, logsnr: Tensor) -> Tensor:
        """Losses of noise levels, both ``n``, by the weights of these levels."""
        self.seen.append((logsnr.detach(), loss.detach()))
        return loss * self.weights(logsnr)

    def recorded(self, **entries: Any) -> dict[str, str]:
        """Metadata of the file of the part that is trained: what its first file said, what is known, and
        what the settings say.
        """
        known = {"compression": self.work.compression} if self.settings.companions.semantic_encoder else {}
        entries = {**known, **entries, **self.settings.recorded}
        kept = self.work.metadata_of(self.work.base / self.settings.start) if self.settings.start else {}
        return {**kept, **as_metadata(entries)}

    def shown(self, fields: Mapping[str, Field] | None = None) -> Batch:
        """A batch of the first examples of one shape, the same at each call.

        Args:
            fields: their entries; by default those of training.
        """
        buckets = self.work.buckets
        first = next(bucket for bucket in buckets if bucket != NO_BUCKET)
        places = [i for i, bucket in enumerate(buckets) if bucket == first][:SHOWN]
        examples = Examples(self.fields() if fields is None else fields, 0, buckets)
        return collate([examples[i, i] for i in places])

    def shown_images(self) -> Tensor:
        """The pictures of the first examples of one shape, whole, ``b 3 h w`` in [0, 1]."""
        pictures = self.shown({"picture": lambda i, rng: self.work.picture(i)})["picture"]
        return to_images(pictures).to(self.work.device)

    def linear_preview(self, latents: Field) -> dict[str, Any]:
        """Least-squares fit of colours in [-1, 1] to latents ``c h w``, as a host's previews take them."""
        fields = {"cells": latents, "picture": lambda i, rng: self.work.picture(i)}
        examples = Examples(fields, 0, self.work.buckets)
        places = [i for i, bucket in enumerate(self.work.buckets) if bucket != NO_BUCKET][:FITTED]
        rows, colours = [], []
        for example in (examples[i, i] for i in places):
            cells = example["cells"]
            small = shrink(to_images(example["picture"])[None], *cells.shape[-2:])[0]
            rows.append(cells.flatten(1).T)
            colours.append(small.flatten(1).T * 2 - 1)
        features = torch.cat(rows)
        features = torch.cat([features, torch.ones(len(features), 1)], dim=1)
        # By singular values, which cope with channels that say the same as others.
        right = torch.cat(colours).double()
        solution = torch.linalg.lstsq(features.double(), right, rcond=1e-5, driver="gelsd").solution
        rounded = [[round(value, 4) for value in row] for row in solution.tolist()]
        return {"factors": rounded[:-1], "bias": rounded[-1]}


def as_metadata(entries: Mapping[str, Any]) -> dict[str, str]:
    """Entries as a file of ours states them."""
    return {
        f"cascade.{name}": value if isinstance(value, str) else json.dumps(value)
        for name, value in entries.items()
    }


# Stage A -------------------------------------------------------------------------------------------------


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


# Stage B -------------------------------------------------------------------------------------------------


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


def text_features(work: Workspace, batch: Batch, encoder: nn.Module | None) -> tuple[Tensor, Tensor]:
    """Hidden states ``b n c`` and pooled text ``b c`` of a batch's captions, cached or encoded now."""
    if "features" in batch:
        text, pooled = batch["features"]
        return text.to(work.device), pooled.to(work.device)
    with torch.no_grad():
        return work.encode_rows(encoder, work.rows(batch["caption"]))


# Stage C -------------------------------------------------------------------------------------------------


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


# Previewer -----------------------------------------------------------------------------------------------


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


def strides_of(encoder: nn.Module) -> dict[str, str]:
    """Metadata of a semantic encoder: the strides, which shapes do not tell."""
    config = encoder.config
    return as_metadata({"strides": [config.stem_stride, *(stage.stride for stage in config.stages)]})


def task_of(part: str) -> type[Task]:
    """The task that trains a part.

    Raises:
        ValueError: nothing is called so.
    """
    if part not in parts():
        near = difflib.get_close_matches(part, parts(), n=1, cutoff=0.0)[0]
        raise ValueError(f"no part is called {part}; the nearest name is {near}")
    return parts()[part]


@cache
def parts() -> dict[str, type[Task]]:
    """The tasks by the names that settings use."""
    from .control import CannyTask, InpaintTask, SuperResolutionTask
    from .distillation import DistilledLora, StageCDistillation
    from .encoders import ImageEncoderTask, SemanticEncoderTask, TextEncoderTask
    from .image_adapter import ImageAdapterTask
    from .lora import LoraTask

    return {
        "stage_a": StageATask,
        "semantic_encoder": SemanticEncoderTask,
        "text_encoder": TextEncoderTask,
        "image_encoder": ImageEncoderTask,
        "stage_b": StageBTask,
        "stage_c": StageCTask,
        "stage_c_lcm": StageCDistillation,
        "lora_lcm": DistilledLora,
        "previewer": PreviewerTask,
        "image_adapter": ImageAdapterTask,
        "controlnet_canny": CannyTask,
        "controlnet_inpaint": InpaintTask,
        "controlnet_super_resolution": SuperResolutionTask,
        "lora": LoraTask,
    }
