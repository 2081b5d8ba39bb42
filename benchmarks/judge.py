"""The judge: a detector that finds the things in a picture and tells what they are and what is around them.

It marks the middle of each thing on a map of cells and names kind, colour and size there; that learns in
minutes, where one label for a whole picture does not. One network of this kind looks at pictures, another
one at Stage C's latents. Neither has seen a generated picture in training, and no part of the generator
has seen a judge.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import torch
from comfyui_cascade.training.examples import COLOUR_NAMES
from comfyui_cascade.training.picturebook import GROUNDS, KINDS, SIZES, STYLES, TIMES, WEATHERS
from comfyui_cascade.training.settings import from_table
from comfyui_cascade.training.workspace import shrink
from safetensors import safe_open
from torch import Tensor, nn
from torch.nn import Conv2d, GroupNorm, Linear, functional

HERE = Path(__file__).parent

PIXELS = 128
"""Shorter side of the pictures that the judge looks at."""

STRIDE = 8
"""Pixels of a cell of its maps."""

FRAME = 4
"""Channels that say where a thing's middle is in its cell, and how wide and high it is, in cells."""

THING_CHANNELS = (1, len(KINDS), len(COLOUR_NAMES), len(SIZES), FRAME)
"""Channels of the maps: whether a thing's middle is here, its kind, colour, size and frame."""

AROUND = {"ground": GROUNDS, "time": TIMES, "weather": WEATHERS, "style": STYLES}
"""What is read from the whole, and the choices."""

APART = 5
"""Cells along a side of the square in which there is one thing's middle at most."""


@dataclass(frozen=True, slots=True)
class JudgeConfig:
    """Sizes of a judge.

    Attributes:
        channels: of what it looks at.
        stem: width and stride of each of the first convolutions.
        dilations: of the blocks after them.
    """

    channels: int
    stem: tuple[tuple[int, int], ...]
    dilations: tuple[int, ...] = (1, 2, 3, 1)


class Judge(nn.Module):
    """``b c h w`` -> maps ``b k rows columns`` and logits of the whole ``b 13``."""

    def __init__(self, config: JudgeConfig):
        super().__init__()
        self.config = config
        widths = (config.channels, *(width for width, _ in config.stem))
        self.stem = nn.ModuleList(
            Conv2d(a, b, 3, stride=stride, padding=1)
            for (a, b), (_, stride) in zip(pairwise(widths), config.stem, strict=True)
        )
        width = widths[-1]
        self.norms = nn.ModuleList(GroupNorm(8, width) for _ in config.dilations)
        self.blocks = nn.ModuleList(
            Conv2d(width, width, 3, padding=rate, dilation=rate) for rate in config.dilations
        )
        self.things = Conv2d(width, sum(THING_CHANNELS), 1)
        self.whole = Linear(width, sum(map(len, AROUND.values())))
        nn.init.constant_(self.things.bias[:1], -4.0)  # almost no cell is a middle

    def features(self, seen: Tensor) -> Tensor:
        """What both answers are read from, ``b c rows columns``."""
        x = seen
        for layer in self.stem:
            x = functional.gelu(layer(x))
        for layer, norm in zip(self.blocks, self.norms, strict=True):
            x = x + functional.gelu(layer(norm(x)))
        return x

    def forward(self, seen: Tensor) -> tuple[Tensor, Tensor]:
        x = self.features(seen)
        return self.things(x), self.whole(x.mean(dim=(2, 3)))


@dataclass(frozen=True, slots=True)
class Found:
    """A thing that a judge found: what it is, and its middle, width and height as shares of the picture's."""

    kind: str
    colour: str
    size: str
    x: float
    y: float
    width: float
    height: float


@dataclass(frozen=True, slots=True)
class Reading:
    """Everything that a judge read from one picture."""

    things: tuple[Found, ...]
    ground: str
    time: str
    weather: str
    style: str


def seen_of(pictures: Tensor) -> Tensor:
    """Pictures ``b 3 h w`` in [0, 1] as the judge looks at them: in [-1, 1], the shorter side ``PIXELS``."""
    sides = pictures.shape[-2:]
    reduced = [max(PIXELS, round(side * PIXELS / min(sides) / STRIDE) * STRIDE) for side in sides]
    return shrink(pictures.float(), *reduced) * 2 - 1


@torch.no_grad()
def read(judge: Judge, seen: Tensor) -> list[Reading]:
    """What a judge finds in pictures from ``seen_of``, or in latents."""
    maps, whole = judge(seen)
    heat = maps[:, :1]
    # Logits, not probabilities: of a sure judge those are 1 in neighbouring cells, and both would be peaks.
    peaks = (heat == functional.max_pool2d(heat, APART, stride=1, padding=APART // 2)) & (heat > 0)
    around = [part.argmax(1).tolist() for part in whole.split([len(c) for c in AROUND.values()], dim=1)]
    return [
        Reading(
            _things(maps[i], peaks[i, 0]),
            **{
                name: choices[answer[i]]
                for (name, choices), answer in zip(AROUND.items(), around, strict=True)
            },
        )
        for i in range(len(seen))
    ]


def _things(maps: Tensor, peaks: Tensor) -> tuple[Found, ...]:
    rows, columns = peaks.shape
    found = []
    for row, column in peaks.nonzero().tolist():
        _, kind, colour, size, frame = maps[:, row, column].split(THING_CHANNELS)
        right, down, width, height = frame.tolist()
        found.append(
            Found(
                kind=KINDS[kind.argmax()],
                colour=COLOUR_NAMES[colour.argmax()],
                size=SIZES[size.argmax()],
                x=(column + 0.5 + right) / columns,
                y=(row + 0.5 + down) / rows,
                width=width / columns,
                height=height / rows,
            )
        )
    return tuple(found)


@torch.no_grad()
def feature_distance(judge: Judge, first: Tensor, second: Tensor) -> Tensor:
    """How different pictures look to a judge, ``b``: 0 for equal ones, 1 for unrelated features.

    Half the squared distance between the features of each cell, scaled to length 1, averaged over cells.
    What LPIPS does with a classifier's features, without its learnt weights. Source: Zhang et al. 2018, "The
    Unreasonable Effectiveness of Deep Features as a Perceptual Metric", equation 1.

    Args:
        judge: of pictures.
        first, second: from ``seen_of``, ``b 3 h w``.
    """
    units = (functional.normalize(judge.features(seen), dim=1) for seen in (first, second))
    return (
        sum(sign * unit for sign, unit in zip((1, -1), units, strict=True)).square().sum(1).mean((1, 2)) / 2
    )


def digest_of(network: nn.Module) -> str:
    """A name for a network's weights, the same in fp32 and in the bf16 that ships."""
    digest = hashlib.blake2b(digest_size=8)
    for name, value in sorted(network.state_dict().items()):
        if value.is_floating_point():
            digest.update(name.encode())
            digest.update(value.detach().cpu().bfloat16().contiguous().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def load_judge(path: Path) -> tuple[Judge, dict[str, str]]:
    """A judge from its file, in fp32, and the file's metadata.

    Raises:
        ValueError: the file is not there, or is no judge of this world.
    """
    if not path.exists():
        raise ValueError(f"{path} is not there; train it with python -m comfyui_cascade.benchmarks.training")
    with safe_open(path, framework="pt") as file:
        metadata = file.metadata() or {}
        weights = {name: file.get_tensor(name).float() for name in file.keys()}  # noqa: SIM118 - no mapping
    if "cascade.network" not in metadata:
        raise ValueError(f"{path} does not say how large its network is, so it is no judge; train one anew")
    judge = Judge(from_table(JudgeConfig, json.loads(metadata["cascade.network"]), path.name))
    expected = {name: value.shape for name, value in judge.state_dict().items()}
    if {name: value.shape for name, value in weights.items()} != expected:
        raise ValueError(f"{path} knows other things than today's picture-book world has; train it anew")
    judge.load_state_dict(weights)
    return judge.eval(), metadata


def names(things: Sequence[Found]) -> str:
    """Things in words, for people who look at pictures and readings side by side."""
    return ", ".join(f"{thing.size} {thing.colour} {thing.kind}" for thing in things) or "nothing"
