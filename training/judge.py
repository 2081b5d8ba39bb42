"""Judge pictures: a detector that finds the things in a picture and tells what they are.

It marks the middle of each thing on a map of 16x16 cells and names kind and colour there; that learns in
minutes, where one label for a whole picture does not. Ground and time are read from the whole.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from .draw import SIZE, draw
from .loop import train
from .small import Recipe, shrink
from .world import COLOURS, GROUNDS, HELD_OUT, KINDS, LARGEST_COUNT, TIMES, Scene, training_scene

COLOUR_NAMES = tuple(COLOURS)
PIXELS, CELLS = 128, 16
FRESH = 10_000_000
"""Seeds from here on are nobody's training pictures."""

JUDGE_PICTURES = 5000
RATE, BATCH = 2e-3, 16
_SPLIT = (1, len(KINDS), len(COLOURS))


@dataclass(frozen=True, slots=True)
class Reading:
    """What a picture shows: kind, colour and horizontal place in [0, 1] of each thing; ground and time."""

    kinds: tuple[str, ...]
    colours: tuple[str, ...]
    places: tuple[float, ...]
    ground: str
    time: str


class Judge(nn.Module):
    """The detector: ``b 3 128 128`` in [0, 1] → maps ``b k 16 16`` and readings of the whole ``b 7``."""

    def __init__(self, width: int = 64):
        super().__init__()
        widths = (3, width // 4, width // 2, width)
        self.stem = nn.ModuleList(nn.Conv2d(a, b, 3, stride=2, padding=1) for a, b in pairwise(widths))
        self.blocks = nn.ModuleList(
            nn.Conv2d(width, width, 3, padding=rate, dilation=rate) for rate in (1, 2, 3, 1)
        )
        self.norms = nn.ModuleList(nn.GroupNorm(8, width) for _ in self.blocks)
        self.things = nn.Conv2d(width, sum(_SPLIT), 1)
        self.whole = nn.Linear(width, len(GROUNDS) + len(TIMES))
        nn.init.constant_(self.things.bias[:1], -4.0)  # almost no cell is a middle

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        x = images * 2 - 1
        for layer in self.stem:
            x = functional.gelu(layer(x))
        for layer, norm in zip(self.blocks, self.norms, strict=True):
            x = x + functional.gelu(layer(norm(x)))
        return self.things(x), self.whole(x.mean(dim=(2, 3)))


def middles(boxes: Sequence[Sequence[float]]) -> Tensor:
    """Column and row of the cell at each box's middle, ``LARGEST_COUNT 2``; -1 where there is no thing."""
    cells = torch.full((LARGEST_COUNT, 2), -1)
    for i, (left, top, right, bottom) in enumerate(boxes):
        middle = torch.tensor([(left + right) / 2, (top + bottom) / 2])
        cells[i] = (middle * CELLS).long().clamp(0, CELLS - 1)
    return cells


def detection_loss(maps: Tensor, whole: Tensor, cells: Tensor, labels: Tensor) -> Tensor:
    """Cross entropy of middle or not in each cell, of kind and colour at the middles, of ground and time.

    Args:
        maps, whole: from the judge.
        cells: from ``middles``, ``b n 2``.
        labels: kind, colour, ground and time, ``b 4``.
    """
    heat, kinds, colours = maps.split(_SPLIT, dim=1)
    index, thing = (cells[..., 0] >= 0).nonzero(as_tuple=True)
    column, row = cells[index, thing].unbind(1)
    marked = torch.zeros_like(heat[:, 0])
    marked[index, row, column] = 1
    # Cells beside a middle may say either.
    beside = functional.max_pool2d(marked[:, None], 3, stride=1, padding=1)[:, 0] - marked
    found = functional.binary_cross_entropy_with_logits(
        heat[:, 0], marked, weight=(1 - beside) * (1 + 9 * marked), reduction="sum"
    )
    ground, time = whole.split((len(GROUNDS), len(TIMES)), dim=1)
    return (
        found / marked.sum()
        + functional.cross_entropy(kinds[index, :, row, column], labels[index, 0])
        + functional.cross_entropy(colours[index, :, row, column], labels[index, 1])
        + functional.cross_entropy(ground, labels[:, 2])
        + functional.cross_entropy(time, labels[:, 3])
    )


def _labels(scene: Scene) -> list[int]:
    return [
        KINDS.index(scene.kind), COLOUR_NAMES.index(scene.colour),
        GROUNDS.index(scene.ground), TIMES.index(scene.time),
    ]  # fmt: skip


def _any_scene(seed: int) -> Scene:
    """A scene that may be of a held-out pair: a judge has to know all of them."""
    scene = training_scene(seed)
    colour = COLOUR_NAMES[seed % len(COLOUR_NAMES)]
    return Scene(scene.kind, colour, scene.count, scene.place, scene.ground, scene.time, seed)


def _examples(seeds: Iterable[int]) -> tuple[Tensor, Tensor, Tensor]:
    """Small pictures ``n 3 128 128`` uint8, middles, labels."""
    pictures, cells, labels = [], [], []
    for scene in map(_any_scene, seeds):
        picture, boxes = draw(scene)
        halves = picture.reshape(PIXELS, SIZE // PIXELS, PIXELS, SIZE // PIXELS, 3).mean(axis=(1, 3))
        pictures.append(halves.round().astype(np.uint8).transpose(2, 0, 1))
        cells.append(middles(boxes))
        labels.append(_labels(scene))
    return torch.from_numpy(np.stack(pictures)), torch.stack(cells), torch.tensor(labels)


def train_judge(recipe: Recipe, pictures: int = JUDGE_PICTURES) -> nn.Module:
    """Train the judge on pictures of its own, all pairs of kind and colour among them."""
    network = Judge()
    # Drawn when the first step asks for them: a finished run needs none.
    examples = cache(lambda: _examples(range(2 * FRESH, 2 * FRESH + pictures)))

    def loss(step: int) -> Tensor:
        images, cells, labels = examples()
        generator = torch.Generator().manual_seed(step)
        index = torch.randint(len(images), (BATCH,), generator=generator)
        batch = images[index].float() / 255
        # What it will see was drawn by networks, with soft edges and colours a little off.
        batch = batch + 0.05 * torch.rand(BATCH, 1, 1, 1, generator=generator) * torch.randn(
            batch.shape, generator=generator
        )
        return detection_loss(*network(batch), cells[index], labels[index])

    return train(recipe.run("judge", RATE), network, loss, recipe.say)


@torch.no_grad()
def read(judge: nn.Module, pictures: Tensor, threshold: float = 0.5) -> list[Reading]:
    """What is in pictures, ``b 3 h w`` in [0, 1]; a thing is where its probability is above the threshold."""
    maps, whole = judge(shrink(pictures, PIXELS))
    heat, kinds, colours = maps.split(_SPLIT, dim=1)
    # Logits, not probabilities: of a sure judge those are 1 in neighbouring cells, and both would be peaks.
    peaks = (heat == functional.max_pool2d(heat, 3, stride=1, padding=1)) & (
        heat > math.log(threshold / (1 - threshold))
    )
    ground, time = whole.split((len(GROUNDS), len(TIMES)), dim=1)
    readings = []
    for i, peak in enumerate(peaks[:, 0]):
        row, column = peak.nonzero(as_tuple=True)
        readings.append(
            Reading(
                tuple(KINDS[k] for k in kinds[i, :, row, column].argmax(0).tolist()),
                tuple(COLOUR_NAMES[k] for k in colours[i, :, row, column].argmax(0).tolist()),
                tuple(((column + 0.5) / CELLS).tolist()),
                GROUNDS[ground[i].argmax()],
                TIMES[time[i].argmax()],
            )
        )
    return readings


def verdict(reading: Reading, scene: Scene) -> dict[str, bool]:
    """What of a scene a picture shows; ``all`` of it, at last."""
    third = {"left": (0, 0.4), "middle": (0.36, 0.64), "right": (0.6, 1)}[scene.place]
    right = {
        "kind": set(reading.kinds) == {scene.kind},
        "colour": set(reading.colours) == {scene.colour},
        "count": len(reading.kinds) == scene.count,
        "place": bool(reading.places) and third[0] <= sum(reading.places) / len(reading.places) <= third[1],
        "ground": reading.ground == scene.ground,
        "time": reading.time == scene.time,
    }
    return {**right, "all": all(right.values())}


def score(judge: nn.Module, pictures: Tensor, scenes: Sequence[Scene]) -> dict[str, float]:
    """Share of pictures, ``b 3 h w`` in [0, 1], that show each attribute of their scenes."""
    verdicts = [verdict(r, s) for r, s in zip(read(judge, pictures), scenes, strict=True)]
    return {name: sum(v[name] for v in verdicts) / len(verdicts) for name in verdicts[0]}


def fresh_scenes(count: int) -> list[Scene]:
    """Scenes that no training saw, of pairs that training did see."""
    return [training_scene(FRESH + i) for i in range(count)]


def held_out_scenes(count: int) -> list[Scene]:
    """Scenes of pairs of kind and colour that no training saw."""
    pairs = sorted(HELD_OUT)
    scenes = []
    for i in range(count):
        kind, colour = pairs[i % len(pairs)]
        seed = next(s for s in range(FRESH + i * 10_000, 2**62) if training_scene(s).kind == kind)
        like = training_scene(seed)
        scenes.append(Scene(kind, colour, like.count, like.place, like.ground, like.time, seed))
    return scenes


_NUMBERS = {2: "two", 3: "three"}
_TIME = {"day": "by day", "sunset": "at sunset", "night": "at night"}


def prompt_of(scene: Scene) -> str:
    """A plain prompt that says everything which the judge checks."""
    if scene.count == 1:
        article = "an" if scene.colour[0] in "aeiou" else "a"
        what = f"{article} {scene.colour} {scene.kind}"
        place = " in the middle" if scene.place == "middle" else f" on the {scene.place}"
    else:
        plural = scene.kind if scene.kind == "fish" else f"{scene.kind}s"
        what, place = f"{_NUMBERS[scene.count]} {scene.colour} {plural}", ""
    return f"{what} on the {scene.ground} {_TIME[scene.time]}{place}"
