"""What a training run asks of the part that it trains, and what all parts have in common."""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from ..checkpoints.identify import Part
from ..checkpoints.recorded import Recorded
from .draws import Draws
from .examples import Examples, Field, collate
from .objective import LEVEL_WEIGHTS, ConstantWeight
from .order import NO_BUCKET
from .start import network_of
from .workspace import Workspace, shrink, to_images

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


def text_features(work: Workspace, batch: Batch, encoder: nn.Module | None) -> tuple[Tensor, Tensor]:
    """Hidden states ``b n c`` and pooled text ``b c`` of a batch's captions, cached or encoded now."""
    if "features" in batch:
        text, pooled = batch["features"]
        return text.to(work.device), pooled.to(work.device)
    with torch.no_grad():
        return work.encode_rows(encoder, work.rows(batch["caption"]))
