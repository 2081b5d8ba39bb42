"""What a run works with: its source, the parts that it uses without training them, and its caches."""

from __future__ import annotations

import logging
import random
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from ..checkpoints.header import read_header
from ..checkpoints.identify import Part
from ..checkpoints.open import load_part
from ..checkpoints.recorded import Recorded
from ..conditioning.image import encode as encode_image
from ..conditioning.text import LENGTH, Tokens, encode
from ..latents.geometry import stage_c_size
from ..stage_a.model import STAGE_B_SCALE
from . import picturebook
from .cache import Store, cached, key_of
from .examples import COLOUR_NAMES, Field
from .order import NO_BUCKET
from .picturebook import styles
from .settings import Settings
from .sources import Source, UnreadablePicture, bucket_sizes, cut, nearest_bucket, open_source

ENCODED_AT_ONCE = 16


def to_images(pictures: np.ndarray | Tensor) -> Tensor:
    """``b h w 3`` uint8 -> ``b 3 h w`` in [0, 1]."""
    return torch.as_tensor(pictures).movedim(-1, -3).float().div(255)


def drawing_files() -> list[Path]:
    """The code that decides what the picture-book world's pictures look like."""
    names = ("scene", "things", "paint", "hand")
    return [Path(picturebook.__file__).with_name(f"{name}.py") for name in names]


class Workspace:
    """Everything that a run needs besides the network that it trains.

    Args:
        settings: of the run.
        base: folder that companions, sources and caches are relative to.
        say: takes lines about slow preparations.
    """

    def __init__(self, settings: Settings, base: Path, say: Callable[[str], None]):
        self.settings, self.base, self.say = settings, base, say
        self.device = torch.device("cpu")
        self.sizes = bucket_sizes(settings.data)

    @cached_property
    def source(self) -> Source:
        """The pictures."""
        return open_source(self.settings.data, self.base)

    @cached_property
    def buckets(self) -> list[int]:
        """Number of each picture's bucket in ``sizes``."""
        if len(self.sizes) == 1:
            return [0] * len(self.source)
        return [self._bucket(i) for i in range(len(self.source))]

    def _bucket(self, i: int) -> int:
        try:
            return nearest_bucket(self.source.size(i), self.sizes)
        except UnreadablePicture as error:
            logging.getLogger(__name__).warning("%s; it is left out", error)
            return NO_BUCKET

    # Companions ----------------------------------------------------------------------------------------

    def file_of(self, part: Part) -> Path:
        """The companion's file.

        Raises:
            ValueError: the settings name none, or it does not exist.
        """
        name = getattr(self.settings.companions, part.name.lower())
        if not name:
            raise ValueError(
                f"training {self.settings.part} needs a {part.value}; name its file in "
                f"companions.{part.name.lower()}"
            )
        if not (self.base / name).exists():
            raise ValueError(f"{self.base / name} is not there; train or download the {part.value} first")
        return self.base / name

    def companion(self, part: Part) -> nn.Module:
        """A part that is used and not trained, in fp32."""
        return load_part(self.file_of(part), part).float().requires_grad_(False).to(self.device)

    def recorded(self, part: Part) -> Recorded:
        """What the companion's file says of itself."""
        return Recorded.from_metadata(read_header(self.file_of(part)).metadata, part.value)

    def metadata_of(self, file: Path) -> dict[str, str]:
        """What a file says of itself, to be said of what is trained from it."""
        metadata = read_header(file).metadata or {}
        return {name: value for name, value in metadata.items() if name.startswith("cascade.")}

    # Text ----------------------------------------------------------------------------------------------

    @cached_property
    def tokens(self) -> Tokens:
        """The rows of the text encoder's table."""
        if not self.settings.companions.text_encoder:
            return Tokens(picturebook.TOKEN_IDS, picturebook.POSITIONS)
        ids = self.recorded(Part.TEXT_ENCODER).token_ids
        shape = read_header(self.file_of(Part.TEXT_ENCODER)).shapes[
            "text_model.embeddings.position_embedding.weight"
        ]
        return Tokens(ids, shape[0] if ids else LENGTH)

    @cached_property
    def _ids_of(self) -> Callable[[str], Sequence[int]]:
        folder = self.settings.companions.tokenizer
        if not folder:
            return picturebook.ids_of
        from transformers import CLIPTokenizer

        tokenizer = CLIPTokenizer.from_pretrained(self.base / folder, local_files_only=True)
        return lambda word: tokenizer.encode(word, add_special_tokens=False)

    def rows(self, captions: Sequence[str]) -> Tensor:
        """Captions as rows of the text encoder's table, ``b n``."""
        encoded = [self.tokens.encode(caption, self._ids_of).rows for caption in captions]
        return torch.tensor(encoded, device=self.device)

    def encode_rows(self, encoder: nn.Module, rows: Tensor) -> tuple[Tensor, Tensor]:
        """Hidden states ``b n c`` and pooled text ``b c``."""
        return encode(encoder, rows, self.tokens.end_row)

    # Entries of examples -------------------------------------------------------------------------------

    def store(
        self,
        name: str,
        depends: Sequence[Any],
        make: Callable[[Sequence[int]], Iterable[Mapping[str, Tensor]]],
    ) -> Store:
        """What ``make`` gives for the pictures of these numbers, made once for all that it depends on."""
        data = self.settings.data
        what = [data.picturebook, data.folder, data.shards, data.size, data.multiple, data.ratios, *depends]
        what += drawing_files() if data.picturebook else self.source.contents()
        if data.style:
            what += [data.style, Path(styles.__file__)]
        folder, count = self.base / "cache" / f"{name}-{key_of(*what)}", len(self.source)
        with torch.inference_mode():
            return cached(folder, count, make, lambda done: self.say(f"{name}: {done} of {count}"))

    def _encoded(self, name: str, depends: Sequence[Any], encode: Callable[[Tensor], Tensor]) -> Field:
        """What ``encode`` makes of every picture, ``b 3 h w`` in [0, 1] -> ``b …``; kept in half precision.

        For pictures that cannot be read nothing is kept, and the entry raises UnreadablePicture.
        """

        def make(places: Sequence[int]) -> list[dict[str, Tensor]]:
            found = dict.fromkeys(places, torch.empty(0))
            for bucket in sorted({self.buckets[i] for i in places} - {NO_BUCKET}):
                equal = [i for i in places if self.buckets[i] == bucket]
                for start in range(0, len(equal), ENCODED_AT_ONCE):
                    pictures = dict(self._readable(equal[start : start + ENCODED_AT_ONCE]))
                    if pictures:
                        images = to_images(torch.stack(list(pictures.values()))).to(self.device)
                        found.update(zip(pictures, encode(images).half().cpu(), strict=True))
            return [{"encoded": found[i]} for i in places]

        store = self.store(name, depends, make)

        def load(i: int, rng: random.Random) -> Tensor:
            encoded = store[i]["encoded"]
            if not encoded.numel():
                raise UnreadablePicture(f"picture {i} could not be read when {store.folder} was made")
            return encoded.float()

        return load

    def _readable(self, places: Sequence[int]) -> Iterable[tuple[int, Tensor]]:
        for i in places:
            try:
                yield i, self.picture(i)
            except UnreadablePicture as error:
                logging.getLogger(__name__).warning("%s; it is left out", error)

    @cached_property
    def _drawn(self) -> Store:
        """Scenes of the picture-book world, drawn once."""

        def drawn(i: int) -> dict[str, Tensor]:
            drawing = self.source.drawing(i)
            things = [
                (picturebook.KINDS.index(t.kind), COLOUR_NAMES.index(t.colour), *t.box)
                for t in drawing.things
            ]
            return {"picture": torch.from_numpy(drawing.picture.copy()), "things": torch.tensor(things)}

        return self.store("pictures", [], lambda places: map(drawn, places))

    def picture(self, i: int, rng: random.Random | None = None) -> Tensor:
        """Picture i cut to its bucket's size, ``h w 3`` uint8; with ``rng`` at a random place."""
        if self.settings.data.picturebook:
            return self._drawn[i]["picture"]
        size = self.sizes[self.buckets[i]]
        return torch.from_numpy(cut(self.source.picture(i), size, rng).copy())

    def crop(self, i: int, rng: random.Random) -> Tensor:
        """A square of ``data.crop`` pixels from a random place of picture i, ``h w 3`` uint8."""
        picture, side = self.picture(i, rng), self.settings.data.crop
        if not side:
            return picture
        if side > min(picture.shape[:2]):
            raise ValueError(
                f"data.crop is {side}, and pictures are {picture.shape[1]}x{picture.shape[0]}; "
                "choose a smaller crop or a larger data.size"
            )
        top, left = (rng.randint(0, length - side) for length in picture.shape[:2])
        return picture[top : top + side, left : left + side]

    def things(self, i: int, rng: random.Random | None = None) -> tuple[picturebook.Placed, ...]:
        """What is where in picture i."""
        if not self.settings.data.picturebook:
            return self.source.things(i)
        return tuple(
            picturebook.Placed(picturebook.KINDS[int(kind)], COLOUR_NAMES[int(colour)], tuple(box))
            for kind, colour, *box in self._drawn[i]["things"].tolist()
        )

    def caption(self, i: int, rng: random.Random) -> str:
        """A caption of picture i; empty for a share of ``objective.drop_text``."""
        dropped = rng.random() < self.settings.objective.drop_text
        caption = self.source.caption(i, rng)
        return "" if dropped else caption

    def text_field(self) -> dict[str, Field]:
        """Captions to encode at each visit, or features of one of those that were encoded once."""
        count = self.settings.data.captions
        if not count:
            return {"caption": self.caption}
        encoder = self.companion(Part.TEXT_ENCODER)

        def features(captions: Sequence[str]) -> dict[str, Tensor]:
            text, pooled = self.encode_rows(encoder, self.rows(captions))
            return {"text": text.half().cpu(), "pooled": pooled.half().cpu()}

        def of(i: int) -> dict[str, Tensor]:
            return features([self.source.caption(i, random.Random(k)) for k in range(count)])

        depends = [self.file_of(Part.TEXT_ENCODER), self.settings.companions.tokenizer, count]
        if self.settings.data.picturebook:
            depends.append(Path(picturebook.__file__).with_name("wording.py"))
        store = self.store("text", depends, lambda places: map(of, places))
        with torch.inference_mode():
            empty = features([""])

        def load(i: int, rng: random.Random) -> tuple[Tensor, Tensor]:
            dropped, which = rng.random() < self.settings.objective.drop_text, rng.randrange(count)
            found, row = (empty, 0) if dropped else (store[i], which)
            return found["text"][row].float(), found["pooled"][row].float()

        return {"features": load}

    def latents_field(self) -> Field:
        """Stage A's latents in Stage B's scale, ``4 h w``."""
        encoder = self.companion(Part.STAGE_A)
        return self._encoded(
            "stage_a", [self.file_of(Part.STAGE_A)], lambda images: encoder.encode(images) / STAGE_B_SCALE
        )

    def semantics_field(self) -> Field:
        """Stage C's latents, ``16 h w``."""
        encoder, compression = self.companion(Part.SEMANTIC_ENCODER), self.compression
        return self._encoded(
            "semantic",
            [self.file_of(Part.SEMANTIC_ENCODER), compression],
            lambda images: encoder(encoder_input(encoder, images, compression)),
        )

    @property
    def compression(self) -> float:
        """Pixels to a Stage C cell, along a side."""
        return self.recorded(Part.SEMANTIC_ENCODER).compression

    def embedding_field(self) -> Field:
        """The image encoder's embedding of each picture, ``c``."""
        encoder = self.companion(Part.IMAGE_ENCODER)
        return self._encoded(
            "image", [self.file_of(Part.IMAGE_ENCODER)], lambda images: encode_image(encoder, images)
        )


def encoder_input(encoder: nn.Module, images: Tensor, compression: float) -> Tensor:
    """Pictures at the size at which the encoder makes one cell of ``compression`` pixels.

    Bilinear with antialiasing, as the reference reduces Stage C's pictures.
    """
    height, width = images.shape[-2:]
    columns, rows = stage_c_size(width, height, compression)
    downscale = encoder.config.downscale
    return shrink(images, rows * downscale, columns * downscale)


def shrink(images: Tensor, height: int, width: int) -> Tensor:
    """Antialiased bilinear resize of ``b c h w``."""
    return functional.interpolate(images, (height, width), mode="bilinear", antialias=True)
