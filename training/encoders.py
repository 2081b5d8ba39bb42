"""How the small cascade's encoders learn, from labels that only the picture-book world has.

The released cascade took its text and image encoders from CLIP and its semantic encoder from a classifier
of photographs. The small one learns its own: each encoder has to make kinds, colours and the rest legible
to a small reader, which is thrown away afterwards.
"""

from __future__ import annotations

import random
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import Conv2d, Linear, functional

from ..checkpoints.identify import Part
from ..checkpoints.open import NETWORKS
from ..conditioning.image import preprocess
from ..conditioning.text import encode
from ..stage_c.coder import Previewer, SemanticEncoder
from .draws import Draws
from .examples import COLOUR_NAMES, Field, label_maps, reading_losses
from .picturebook import (
    GROUNDS,
    KINDS,
    LARGEST_COUNT,
    PLACES,
    RELATIONS,
    SIZES,
    STYLES,
    TIMES,
    WEATHERS,
    Scene,
    captions,
    training_scene,
)
from .previewer import preview_losses
from .settings import from_table
from .task import Batch, Files, Task, as_metadata
from .workspace import Workspace, encoder_input, shrink, to_images

READING = 0.05
"""Weight of the readers' loss against that of the pictures."""


# Semantic encoder ----------------------------------------------------------------------------------------


class SemanticAutoencoder(nn.Module):
    """Encoder, previewer, and a reader that keeps kinds and colours legible in the latents."""

    def __init__(self, encoder: SemanticEncoder, previewer: Previewer):
        super().__init__()
        self.encoder, self.previewer = encoder, previewer
        self.reader = nn.Sequential(
            Conv2d(encoder.config.channels, 64, 3, padding=1),
            nn.GELU(),
            Conv2d(64, len(KINDS) + len(COLOUR_NAMES), 1),
        )

    def forward(self, images: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
        """Pictures at the encoder's size, noise for the latents -> preview, readings ``b k h w``."""
        latents = self.encoder(images) + noise
        return self.previewer(latents), self.reader(latents)


class SemanticEncoderTask(Task):
    """Reconstruct small pictures, things more than backgrounds, and read kind and colour in every cell.

    ``network`` holds the sizes of both parts, in the tables ``encoder`` and ``previewer``.
    """

    def __init__(self, work: Workspace):
        super().__init__(work)
        tables = work.settings.network
        if work.settings.start:
            raise ValueError("a semantic encoder begins anew, together with its previewer; leave start out")
        if "compression" not in work.settings.recorded:
            raise ValueError(
                "a semantic encoder needs recorded.compression, pixels to a cell; 42.67 is usual"
            )
        encoder, previewer = (
            network_class(from_table(config_class, tables.get(name, {}), f"network.{name}"))
            for name, (network_class, config_class) in (
                ("encoder", NETWORKS[Part.SEMANTIC_ENCODER]),
                ("previewer", NETWORKS[Part.PREVIEWER]),
            )
        )
        self.network = SemanticAutoencoder(encoder, previewer)
        self.compression = float(work.settings.recorded["compression"])

    def fields(self) -> dict[str, Field]:
        return {"picture": self.work.picture, "things": self.work.things}

    def losses(self, network: nn.Module, batch: Batch, draws: Draws) -> Tensor:
        encoder = self.network.encoder
        images = encoder_input(encoder, to_images(batch["picture"]), self.compression)
        rows, columns = (-(-side // encoder.config.downscale) for side in images.shape[-2:])
        level = self.objective.semantic_noise * draws.uniform(1, 1, 1)
        preview, readings = network(images, level * draws.normal(encoder.config.channels, rows, columns))
        reading = reading_losses(readings, label_maps(batch["things"], rows, columns))
        return preview_losses(preview, batch, self.objective.region_weight) + READING * reading

    def files(self, network: nn.Module) -> Files:
        return {
            Part.SEMANTIC_ENCODER.value: (network.encoder, self.recorded() | strides_of(network.encoder)),
            Part.PREVIEWER.value: (network.previewer, self.recorded()),
        }

    def pictures(self, network: nn.Module) -> Tensor:
        images = self.shown_images()
        drawn = network.previewer(network.encoder(encoder_input(network.encoder, images, self.compression)))
        return torch.cat([shrink(images, *drawn.shape[-2:]), drawn]).clamp(0, 1).movedim(1, -1)


# What a scene is, as answers to questions ----------------------------------------------------------------

NOT_SAID = -1
"""The answer to a question that does not arise, such as where the second group of a scene is."""

_QUESTIONS: tuple[Sequence, ...] = (
    KINDS, COLOUR_NAMES, range(1, LARGEST_COUNT + 1), SIZES, KINDS, COLOUR_NAMES, PLACES, RELATIONS,
    GROUNDS, TIMES, WEATHERS, STYLES,
)  # fmt: skip


def answers(scene: Scene) -> list[int]:
    """A scene as numbers: the first group's kind, colour, count and size, the second's kind and colour,
    place, relation, ground, time, weather and style.
    """
    first, *rest = scene.groups
    second = rest[0] if rest else None
    said = (
        first.kind, first.colour, first.count, scene.size, second and second.kind,
        second and second.colour, scene.place, scene.relation, scene.ground, scene.time, scene.weather,
        scene.style,
    )  # fmt: skip
    return [
        choices.index(value) if value in choices else NOT_SAID
        for choices, value in zip(_QUESTIONS, said, strict=True)
    ]


class SceneReader(nn.Module):
    """Reads a scene from an embedding with one linear layer: ``b c`` -> the loss of each example, ``b``."""

    def __init__(self, channels: int):
        super().__init__()
        self.answers = Linear(channels, sum(map(len, _QUESTIONS)))

    def forward(self, embedding: Tensor, right: Tensor) -> Tensor:
        logits = self.answers(embedding.float()).split([len(q) for q in _QUESTIONS], dim=1)
        return sum(
            functional.cross_entropy(part, answer, ignore_index=NOT_SAID, reduction="none")
            for part, answer in zip(logits, right.unbind(1), strict=True)
        )


class EncoderAndReader(nn.Module):
    """An encoder of the small cascade, and the reader that it is trained for."""

    def __init__(self, encoder: nn.Module, reader: SceneReader):
        super().__init__()
        self.encoder, self.reader = encoder, reader


def head_width(encoder: nn.Module) -> int:
    """Channels of an attention head of a CLIP encoder."""
    return encoder.config.hidden_size // encoder.config.num_attention_heads


def _need_scenes(work: Workspace) -> None:
    if not work.settings.data.picturebook:
        raise ValueError(
            f"training a {work.settings.part} needs to know what pictures show, and only the picture-book "
            "world tells; set data.picturebook"
        )


class TextAndReader(EncoderAndReader):
    """Captions -> losses."""

    def __init__(self, encoder: nn.Module, reader: SceneReader, end_row: int):
        super().__init__(encoder, reader)
        self.end_row = end_row

    def forward(self, rows: Tensor, right: Tensor) -> Tensor:
        return self.reader(encode(self.encoder, rows, self.end_row)[1], right)


class TextEncoderTask(Task):
    """Read from the caption alone what the scene is; what a caption leaves out is learnt as its average.

    Every position is another scene; the source's pictures are not looked at.
    """

    def __init__(self, work: Workspace):
        super().__init__(work)
        _need_scenes(work)
        encoder = self.new(Part.TEXT_ENCODER)
        reader = SceneReader(encoder.config.projection_dim)
        self.network = TextAndReader(encoder, reader, work.tokens.end_row)

    def fields(self) -> dict[str, Field]:
        def scene(i: int, rng: random.Random) -> Scene:
            return training_scene(rng.randrange(1_000_000))

        return {"scene": scene}

    def losses(self, network: nn.Module, batch: Batch, draws: Draws) -> Tensor:
        texts = [
            captions(scene, random.Random(place))
            for scene, place in zip(batch["scene"], batch["position"], strict=True)
        ]
        right = torch.tensor([answers(scene) for scene in batch["scene"]], device=self.work.device)
        return network(self.work.rows(texts), right)

    def files(self, network: nn.Module) -> Files:
        ids, heads = self.work.tokens.token_ids, head_width(network.encoder)
        entries = {"token_ids": list(ids)} if ids else {}
        return {Part.TEXT_ENCODER.value: (network.encoder, self.recorded(head_dim=heads, **entries))}


class ImageAndReader(EncoderAndReader):
    """Preprocessed pictures -> losses."""

    def forward(self, pixels: Tensor, right: Tensor) -> Tensor:
        return self.reader(self.encoder(pixel_values=pixels).image_embeds, right)


class ImageEncoderTask(Task):
    """Read from the picture what the scene is."""

    def __init__(self, work: Workspace):
        super().__init__(work)
        _need_scenes(work)
        encoder = self.new(Part.IMAGE_ENCODER)
        self.network = ImageAndReader(encoder, SceneReader(encoder.config.projection_dim))

    def fields(self) -> dict[str, Field]:
        return {
            "picture": self.work.picture,
            "answers": lambda i, rng: torch.tensor(answers(training_scene(i))),
        }

    def losses(self, network: nn.Module, batch: Batch, draws: Draws) -> Tensor:
        encoder = self.network.encoder
        size = encoder.config.image_size
        pixels = preprocess(to_images(batch["picture"]), size, encoder.mean, encoder.std)
        return network(pixels, batch["answers"])

    def files(self, network: nn.Module) -> Files:
        encoder = network.encoder
        seen = {"image_mean": list(encoder.mean), "image_std": list(encoder.std)}
        metadata = self.recorded(head_dim=head_width(encoder), **seen)
        return {Part.IMAGE_ENCODER.value: (encoder, metadata)}


def strides_of(encoder: nn.Module) -> dict[str, str]:
    """Metadata of a semantic encoder: the strides, which shapes do not tell."""
    config = encoder.config
    return as_metadata({"strides": [config.stem_stride, *(stage.stride for stage in config.stages)]})
