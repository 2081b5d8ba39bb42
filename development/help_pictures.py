"""Pictures of help pages: ``python -m comfyui_cascade.development.help_pictures URL [NODE …]``."""

from __future__ import annotations

import io
import itertools
import sys
import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from comfyui_cascade.adapters import hints
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from .environment import ROOT
from .help_examples import EXAMPLES
from .help_graphs import TEXT, Example, Panel
from .help_page import Page
from .help_server import Server
from .progress import Steps

DOCS = ROOT / "web" / "docs"
HEIGHT, GAP = 224, 6
"""Pixels of the pictures in a strip, and between them."""

WIDEST = 1100
LARGEST_FILE = 38_000
"""Bytes."""

QUALITIES = (85, 75, 65, 55, 45, 35)
LETTERS, PAPER, INK = 13, (24, 26, 31), (214, 218, 226)
FONT, LETTER, LINE = ImageFont.load_default(LETTERS), 7, LETTERS + 6
"""Pixels of a letter across, and from line to line."""


def draw(url: str, names: Sequence[str], step: Steps) -> None:
    """Write the pictures of some nodes, or of all.

    Args:
        url: of a running server.
        names: ids of nodes.
        step: told what is drawn and what is left out.
    """
    server = Server(url)
    wanted = {name: EXAMPLES[name] for name in names or EXAMPLES}
    with Page(url) as page:
        for name, example in wanted.items():
            step(f"{name}, wired")
            write(page.wired(example.graph, name), DOCS / name / "wired.webp")
    for name, example in wanted.items():
        lacking = [part for part in example.needs if not (ROOT / "weights" / f"{part}.safetensors").is_file()]
        if lacking:
            step(f"{name} has no picture of its effect, because weights/ lacks {', '.join(lacking)}")
            continue
        step(f"{name}, its effect")
        labels = [panel.label for panel in example.panels]
        write(strip(_shown(server, name, example), labels), DOCS / name / "effect.webp")


def _shown(server: Server, name: str, example: Example) -> list[Image.Image]:
    if not example.panels:
        return MADE_UP[name]()
    return [_panel(panel, server.outputs(example.graph, panel)) for panel in example.panels]


def _panel(panel: Panel, outputs: Mapping[str, Any]) -> Image.Image:
    if panel.source[1] == TEXT:
        return page_of(outputs["text"])
    return Image.open(io.BytesIO(outputs["image"])).convert("RGB")


def strip(pictures: Sequence[Image.Image], labels: Sequence[str] = ()) -> Image.Image:
    """Pictures side by side at one height, on nothing; a single wide one as it is.

    Args:
        pictures: of any size.
        labels: what stands below each of them.
    """
    if len(pictures) == 1 and pictures[0].width > 2 * HEIGHT:
        return pictures[0]
    scaled = [
        one.resize((round(one.width * HEIGHT / one.height), HEIGHT), Image.Resampling.LANCZOS)
        for one in pictures
    ]
    lines = [textwrap.wrap(label, one.width // LETTER) for one, label in zip(scaled, labels, strict=False)]
    tall = HEIGHT + max((len(text) * LINE + LINE // 2 for text in lines if text), default=0)
    page = Image.new("RGBA", (sum(one.width for one in scaled) + GAP * (len(scaled) - 1), tall))
    pen, left = ImageDraw.Draw(page), 0
    for one, text in itertools.zip_longest(scaled, lines, fillvalue=[]):
        page.paste(one, (left, 0))
        if text:
            pen.rectangle((left, HEIGHT, left + one.width - 1, tall), PAPER)
            place = (left + one.width / 2, (HEIGHT + tall) / 2)
            pen.multiline_text(place, "\n".join(text), INK, FONT, anchor="mm", align="center")
        left += one.width + GAP
    return page


def page_of(text: str) -> Image.Image:
    """A text as it stands on a node."""
    lines = [line for whole in text.splitlines() for line in textwrap.wrap(whole, 78) or [""]]
    page = Image.new("RGB", (620, 24 + len(lines) * (LETTERS + 6)), PAPER)
    ImageDraw.Draw(page).multiline_text((14, 12), "\n".join(lines), INK, FONT, spacing=6)
    return page


def write(picture: Image.Image, path: Path) -> None:
    """A WebP of no more bytes than a page should load."""
    if picture.width > WIDEST:
        size = (WIDEST, round(picture.height * WIDEST / picture.width))
        picture = picture.resize(size, Image.Resampling.LANCZOS)
    for quality in QUALITIES:
        held = io.BytesIO()
        picture.save(held, "WEBP", quality=quality, method=6)
        if len(held.getvalue()) <= LARGEST_FILE:
            break
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(held.getvalue())


# What needs models that do not ship ------------------------------------------------------------------------


def _picture(pixels: Tensor) -> Image.Image:
    """``h w c`` in [0, 1] as a picture."""
    return Image.fromarray((pixels * 255).round().to(torch.uint8).numpy())


def _boxed_face() -> list[Image.Image]:
    cat = Image.open(ROOT / "pictures" / "cat.png").convert("RGB")
    pixels = torch.frombuffer(bytearray(cat.tobytes()), dtype=torch.uint8).reshape(cat.height, cat.width, 3)
    face = hints.Face((0.58, 0.36, 0.86, 0.66), torch.ones(4))
    return [cat, _picture(hints.lit([face], pixels[None] / 255)[0])]


def _two_faces() -> list[Image.Image]:
    chance = torch.Generator().manual_seed(1)
    boxes = ((0.1, 0.2, 0.4, 0.6), (0.6, 0.3, 0.9, 0.7))
    faces = [hints.Face(box, torch.randn(512, generator=chance)) for box in boxes]
    cells = hints.as_colours(hints.identity_hint(faces, 512, 512))
    return [_picture(cells[0].movedim(0, -1)).resize((HEIGHT, HEIGHT), Image.Resampling.NEAREST)]


MADE_UP = {"CascadeDetectFaces": _boxed_face, "CascadeHintIdentity": _two_faces}
"""Effects that are shown on made-up values, as the pages say."""

if __name__ == "__main__":
    draw(sys.argv[1], sys.argv[2:], Steps())
