"""The official Stable Cascade files, into ComfyUI's model folders: what ``dev.py weights`` does.

``comfy model download`` puts one address into one folder, and docs/weights.md gives its command for each of
these files. It is not what runs here: comfy-cli takes nothing but a whole file (status 200), deletes what it
had when the connection is cut, and compares no checksum. So this module asks for the missing bytes itself.
"""

from __future__ import annotations

import errno
import hashlib
import http.client
import json
import math
import re
import shutil
import struct
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .progress import Problem

CHUNK = 1 << 20  # bytes read at once
TIMEOUT = 60  # seconds without a byte before a connection counts as cut
TRIES = 5  # in a row that bring nothing new
REPORT = 5  # seconds between two lines of progress
BUSY = (408, 429, 500, 502, 503, 504)  # answers that may be another one later
LARGEST_HEADER = 100_000_000  # bytes; what safetensors itself allows

Say = Callable[[str], None]


@dataclass(frozen=True)
class Official:
    """A published file.

    Attributes:
        part: what it is, such as ``stage_c``.
        sets: ``lite``, ``full`` or both.
        name: of the file on disk.
        directory: below ComfyUI's ``models``.
        url: where it comes from.
        size, sha256: of the file, where they are known.
        parameters: elements of all float tensors, known where the other two are not.
    """

    part: str
    sets: tuple[str, ...]
    name: str
    directory: str
    url: str
    size: int | None = None
    sha256: str | None = None
    parameters: int | None = None


@dataclass(frozen=True)
class Catalogue:
    """The files and the licence that they come with."""

    licence: dict[str, str]
    files: tuple[Official, ...]

    @classmethod
    def read(cls, path: Path) -> Catalogue:
        """The catalogue in a JSON file."""
        content = json.loads(path.read_text(encoding="utf-8"))
        files = (Official(**{**entry, "sets": tuple(entry["sets"])}) for entry in content["files"])
        return cls(content["licence"], tuple(files))

    def of(self, name: str) -> tuple[Official, ...]:
        """The files of a set."""
        return tuple(file for file in self.files if name in file.sets)


def download(
    catalogue: Catalogue, name: str, models: Path, say: Say, accepted: bool, pause: float = 2.0
) -> list[Path]:
    """Bring a set of files into ComfyUI's folders; returns where they are.

    Args:
        catalogue, name: the files and which set of them.
        models: ComfyUI's ``models`` folder.
        say: takes a line for the person.
        accepted: the licence, before anything was asked.
        pause: seconds before the second try of a connection; each further one waits twice as long.

    Raises:
        Problem: the licence was not accepted, or a file could not be had whole. What arrived of it stays
            beside its place with the ending ``.part``, and the next call goes on from there.
    """
    files = catalogue.of(name)
    known = sum(file.size or 0 for file in files)
    say(f"{len(files)} files by Stability AI, at least {known / 1e9:.1f} GB, under this licence:")
    for line in catalogue.licence.values():
        say(f"    {line}")
    if not accepted and not _asks(say):
        raise Problem("The licence was not accepted, so nothing was downloaded: with --yes you accept it.")
    missing = [file for file in files if not _is_there(file, models, say)]
    _check_room(missing, models)
    for file in missing:
        _bring(file, models, say, pause)
    return [models / file.directory / file.name for file in files]


def _asks(say: Say) -> bool:
    """Whether the person at the keyboard accepts; without one nobody does."""
    if not sys.stdin.isatty():
        return False
    say('Type "yes" to accept it and start:')
    return sys.stdin.readline().strip().lower() in ("y", "yes")


def _is_there(file: Official, models: Path, say: Say) -> bool:
    """Whether the file is in its place already, and is the right one."""
    place = models / file.directory / file.name
    if not place.exists():
        return False
    wrong = difference(file, place)
    if wrong:
        raise Problem(
            f"{place} is there and {wrong}: it is not the official file, and it was left alone; "
            "rename or delete it, then run this again."
        )
    say(f"{file.name} is there already")
    return True


def _check_room(files: list[Official], models: Path) -> None:
    needed = sum((file.size or 0) - _size(_part(file, models)) for file in files)
    place = next(folder for folder in (models, *models.parents) if folder.exists())
    free = shutil.disk_usage(place).free
    if free < needed:
        raise Problem(
            f"{models} is on a disk with {free / 1e9:.1f} GB free and {needed / 1e9:.1f} GB are to come: "
            "free some, or give a folder on another disk with --dir."
        )


def _part(file: Official, models: Path) -> Path:
    """Where a file grows. ComfyUI's pickers show no file with this ending."""
    return models / file.directory / f"{file.name}.part"


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _bring(file: Official, models: Path, say: Say, pause: float) -> None:
    """Download one file, check it and only then give it its name."""
    part = _part(file, models)
    part.parent.mkdir(parents=True, exist_ok=True)
    say(f"{file.name} to {part.parent}")
    try:
        _fetch(file, part, say, pause)
    except OSError as error:
        if error.errno != errno.ENOSPC:
            raise
        raise Problem(
            f"The disk is full with {_size(part) / 1e9:.1f} GB of {file.name}: "
            "free some, then run this again; it goes on from there."
        ) from None
    wrong = difference(file, part)
    if wrong:
        part.unlink()
        raise Problem(
            f"{file.name} {wrong}: it was damaged on the way, or {file.url} is another file now. "
            "It was deleted. Run this again; if it says the same, do not use that file and report it."
        )
    part.replace(part.with_suffix(""))


def _fetch(file: Official, part: Path, say: Say, pause: float) -> None:
    """Ask for the bytes that are missing until none is."""
    most, idle = -1, 0
    while True:
        wrong = _attempt(file, part, say)
        if not wrong:
            return
        have = _size(part)
        idle = 0 if have > most else idle + 1
        most = max(most, have)
        if idle == TRIES:
            raise Problem(
                f"{file.name} could not be downloaded, {wrong}: check the network, then run this again; "
                f"it goes on from the {have / 1e6:.0f} MB that are there."
            )
        say(f"    {wrong}; going on from {have / 1e6:.0f} MB")
        time.sleep(pause * 2**idle)


def _attempt(file: Official, part: Path, say: Say) -> str | None:
    """One request for what is missing. None when the file is whole, else what came in between."""
    have = _size(part)
    if have == file.size:
        return None
    headers = {"User-Agent": "ComfyUI-Cascade", **({"Range": f"bytes={have}-"} if have else {})}
    try:
        with urllib.request.urlopen(
            urllib.request.Request(file.url, headers=headers), timeout=TIMEOUT
        ) as answer:
            start, total = _span(answer)
            if start not in (0, have):
                part.unlink()
                return f"the server sent bytes from {start} on instead of {have}"
            if file.size and total and total != file.size:
                raise Problem(
                    f"{file.url} holds {total:,} bytes where {file.size:,} are expected: it is not the file "
                    "that was published; do not use it, and report it."
                )
            _append(answer, part, start, total, say)
    except urllib.error.HTTPError as error:
        return _refused(error, file, part)
    except (urllib.error.URLError, http.client.HTTPException, ConnectionError, TimeoutError) as error:
        return f"the connection failed ({getattr(error, 'reason', None) or error or type(error).__name__})"
    return "the connection was cut" if total and _size(part) < total else None


def _span(answer: http.client.HTTPResponse) -> tuple[int, int | None]:
    """Where in the file an answer starts, and how long the whole file is, if it says so."""
    if answer.status == 206:
        span = re.match(r"bytes (\d+)-\d+/(\d+|\*)", answer.headers.get("Content-Range", ""))
        if span:
            return int(span[1]), None if span[2] == "*" else int(span[2])
    length = answer.headers.get("Content-Length")
    return 0, int(length) if length else None  # a server that knows no ranges sends all of it


def _append(answer: http.client.HTTPResponse, part: Path, start: int, total: int | None, say: Say) -> None:
    said, since = time.monotonic(), start
    with part.open("r+b" if start else "wb") as out:
        out.seek(start)
        while chunk := answer.read(CHUNK):
            out.write(chunk)
            now = time.monotonic()
            if now - said >= REPORT:
                whole = f" of {total / 1e6:.0f}" if total else ""
                speed = (out.tell() - since) / (now - said) / 1e6
                say(f"    {out.tell() / 1e6:.0f}{whole} MB, {speed:.1f} MB/s")
                said, since = now, out.tell()


def _refused(error: urllib.error.HTTPError, file: Official, part: Path) -> str | None:
    """What to make of an answer that is an error."""
    if error.code == 416:  # nothing after what is there: it is the whole file, or not of this file at all
        if part.exists() and error.headers.get("Content-Range") == f"bytes */{_size(part)}":
            return None
        part.unlink(missing_ok=True)
        return "the server has nothing after what was there"
    if error.code in BUSY:
        return f"the server answered {error.code} ({error.reason})"
    raise Problem(
        f"{file.url} answers {error.code} ({error.reason}): open it in a browser, accept what it asks there, "
        f"and put the file into {part.parent} as {file.name}."
    )


def difference(file: Official, path: Path) -> str | None:
    """How a file on disk differs from the published one; None when it does not."""
    size = path.stat().st_size
    if file.size is not None and size != file.size:
        return f"has {size:,} bytes where {file.size:,} are expected"
    if file.sha256 is not None:
        found = _sha256(path)
        return None if found == file.sha256 else f"has the SHA-256 {found} where {file.sha256} is expected"
    try:
        found = _parameters(path)
    except (ValueError, KeyError, TypeError, AttributeError, struct.error):
        return "is not a whole safetensors file"
    if found != file.parameters:
        return f"has {found:,} parameters where {file.parameters:,} are expected"
    return None


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as content:
        while chunk := content.read(CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


def _parameters(path: Path) -> int:
    """Elements of all float tensors of a safetensors file.

    Raises:
        ValueError: it is none, or not whole.
    """
    with path.open("rb") as content:
        (length,) = struct.unpack("<Q", content.read(8))
        if length > LARGEST_HEADER:
            raise ValueError("the header is too long")
        header: dict[str, Any] = json.loads(content.read(length))
    tensors = [entry for key, entry in header.items() if key != "__metadata__"]
    if 8 + length + max(entry["data_offsets"][1] for entry in tensors) != path.stat().st_size:
        raise ValueError("it is cut")
    return sum(math.prod(entry["shape"]) for entry in tensors if "F" in entry["dtype"])
