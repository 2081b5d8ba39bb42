"""Where pictures and captions come from: a folder, webdataset shards, or the picture-book world."""

from __future__ import annotations

import glob
import io
import random
import struct
import tarfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from PIL import Image

from . import picturebook
from .picturebook.styles import STYLES
from .settings import Data

PICTURE_SUFFIXES = (".png", ".jpg", ".jpeg", ".webp")

_DAMAGES = (OSError, SyntaxError, ValueError, EOFError, struct.error, Image.DecompressionBombError)
"""What Pillow raises over files that are cut short, changed or no pictures at all."""


class UnreadablePicture(ValueError):
    """A picture's file is damaged; the sentence names it."""


@contextmanager
def _reading(name: str) -> Iterator[None]:
    try:
        yield
    except _DAMAGES as error:
        raise UnreadablePicture(f"{name} is no readable picture ({error})") from error


class Source(Protocol):
    """Pictures by number, each with captions."""

    def __len__(self) -> int: ...

    def size(self, i: int) -> tuple[int, int]:
        """Width and height of picture i, without decoding it; raises UnreadablePicture."""
        ...

    def picture(self, i: int) -> Image.Image:
        """Picture i in RGB; raises UnreadablePicture."""
        ...

    def caption(self, i: int, rng: random.Random) -> str:
        """One of the captions of picture i."""
        ...

    def things(self, i: int) -> tuple[picturebook.Placed, ...]:
        """What is where in picture i; () where nobody knows."""
        ...

    def contents(self) -> list[Any]:
        """What tells this source from one with other pictures or captions, for the names of caches."""
        ...


def open_source(data: Data, base: Path) -> Source:
    """The source that settings name; paths are relative to ``base``.

    Raises:
        ValueError: there are no pictures in it.
    """
    if data.picturebook:
        return PictureBook(data.picturebook, tuple(bucket_sizes(data)), data.style)
    if data.folder:
        return Folder(base / data.folder)
    return Shards(sorted(path for pattern in data.shards for path in _matches(base, pattern)))


def _matches(base: Path, pattern: str) -> Iterable[Path]:
    return map(Path, glob.glob(str(base / pattern), recursive=True))  # noqa: PTH207 - it may be absolute


class _WithoutThings:
    def things(self, i: int) -> tuple[picturebook.Placed, ...]:
        return ()


@dataclass(frozen=True)
class PictureBook:
    """The first ``count`` scenes of the picture-book world, drawn when they are asked for.

    ``sizes`` are width and height of the first scenes, and again of those that follow; ``style`` is laid over
    every picture. Captions do not tell it.
    """

    count: int
    sizes: tuple[tuple[int, int], ...] = ((picturebook.SIZE, picturebook.SIZE),)
    style: str = ""

    def __len__(self) -> int:
        return self.count

    def size(self, i: int) -> tuple[int, int]:
        return self.sizes[i % len(self.sizes)]

    def drawing(self, i: int) -> picturebook.Drawing:
        """Picture i, and what is where in it."""
        drawing = picturebook.draw(picturebook.training_scene(i), self.size(i))
        return replace(drawing, picture=STYLES[self.style](drawing.picture)) if self.style else drawing

    def picture(self, i: int) -> Image.Image:
        return Image.fromarray(self.drawing(i).picture)

    def caption(self, i: int, rng: random.Random) -> str:
        return picturebook.captions(picturebook.training_scene(i), rng)

    def things(self, i: int) -> tuple[picturebook.Placed, ...]:
        return self.drawing(i).things

    def contents(self) -> list[Any]:
        return []  # the settings and the drawing code tell


class Folder(_WithoutThings):
    """Pictures in a folder and below; ``name.txt`` beside ``name.png`` holds its captions, a line each."""

    def __init__(self, folder: Path):
        files = sorted(path for path in folder.rglob("*") if path.suffix.lower() in PICTURE_SUFFIXES)
        if not files:
            raise ValueError(
                f"{folder} holds no pictures ({', '.join(PICTURE_SUFFIXES)}); name another folder"
            )
        self.files = files

    def __len__(self) -> int:
        return len(self.files)

    def size(self, i: int) -> tuple[int, int]:
        with _reading(str(self.files[i])), Image.open(self.files[i]) as image:
            return image.size

    def picture(self, i: int) -> Image.Image:
        with _reading(str(self.files[i])), Image.open(self.files[i]) as image:
            return image.convert("RGB")

    def caption(self, i: int, rng: random.Random) -> str:
        text = self.files[i].with_suffix(".txt")
        return _one_line(text.read_text(encoding="utf-8") if text.exists() else "", rng)

    def contents(self) -> list[Any]:
        return [
            (path.name, path.stat().st_size)
            for file in self.files
            for path in (file, file.with_suffix(".txt"))
            if path.exists()
        ]


def _one_line(text: str, rng: random.Random) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return rng.choice(lines) if lines else ""


@dataclass(frozen=True, slots=True)
class _Member:
    """A picture in a shard and its caption: where their bytes begin, and how many there are."""

    shard: Path
    name: str
    picture: tuple[int, int]
    text: tuple[int, int] | None


class Shards(_WithoutThings):
    """Tar files of pictures and texts with equal names, as webdataset writes them; read in place."""

    def __init__(self, shards: Sequence[Path]):
        self.members = [member for shard in shards for member in _members(shard)]
        if not self.members:
            raise ValueError(f"no pictures in {len(shards)} shards; check the pattern in data.shards")

    def __len__(self) -> int:
        return len(self.members)

    def _reading(self, i: int) -> AbstractContextManager[None]:
        return _reading(f"{self.members[i].name} in {self.members[i].shard}")

    def _open(self, i: int) -> Image.Image:
        return Image.open(io.BytesIO(_read(self.members[i].shard, self.members[i].picture)))

    def size(self, i: int) -> tuple[int, int]:
        with self._reading(i):
            return self._open(i).size

    def picture(self, i: int) -> Image.Image:
        with self._reading(i):
            return self._open(i).convert("RGB")

    def caption(self, i: int, rng: random.Random) -> str:
        member = self.members[i]
        text = _read(member.shard, member.text).decode("utf-8") if member.text else ""
        return _one_line(text, rng)

    def contents(self) -> list[Any]:
        return [(member.shard.name, member.name, member.picture, member.text) for member in self.members]


def _members(shard: Path) -> Iterable[_Member]:
    try:
        with tarfile.open(shard, "r:") as tar:
            places = {Path(entry.name): (entry.offset_data, entry.size) for entry in tar if entry.isfile()}
    except tarfile.TarError as error:
        raise ValueError(f"{shard} is no whole, uncompressed tar file ({error}); write it again") from error
    for name, place in sorted(places.items()):
        if name.suffix.lower() in PICTURE_SUFFIXES:
            yield _Member(shard, str(name), place, places.get(name.with_suffix(".txt")))


def _read(shard: Path, place: tuple[int, int]) -> bytes:
    start, length = place
    with shard.open("rb") as file:
        file.seek(start)
        return file.read(length)


# How a picture is cut -----------------------------------------------------------------------------------


def bucket_sizes(data: Data) -> list[tuple[int, int]]:
    """Width and height of each bucket, of about ``data.size`` squared, sides multiples of ``data.multiple``.

    After the reference's multi-aspect buckets (Stability ``train/base.py``).
    """
    sizes = []
    for ratio in data.ratios:
        width, height = (data.size * ratio**0.5, data.size / ratio**0.5)
        sizes.append(tuple(max(1, round(side / data.multiple)) * data.multiple for side in (width, height)))
    return sizes


def nearest_bucket(size: tuple[int, int], buckets: Sequence[tuple[int, int]]) -> int:
    """The bucket whose shape is nearest to a picture's."""
    ratio = size[0] / size[1]
    return min(range(len(buckets)), key=lambda i: abs(buckets[i][0] / buckets[i][1] - ratio))


def cut(image: Image.Image, size: tuple[int, int], rng: random.Random | None = None) -> np.ndarray:
    """A picture of ``size``, reduced so that it just covers it and cropped: ``h w 3`` uint8.

    Args:
        image: any picture.
        size: width and height.
        rng: of the crop's place; without one it is the middle.
    """
    width, height = size
    scale = max(width / image.width, height / image.height)
    covering = (max(width, round(image.width * scale)), max(height, round(image.height * scale)))
    if covering != image.size:
        image = image.resize(covering, Image.Resampling.BILINEAR)
    room = (covering[0] - width, covering[1] - height)
    left, top = (rng.randint(0, r) if rng else r // 2 for r in room)
    return np.asarray(image.crop((left, top, left + width, top + height)))
