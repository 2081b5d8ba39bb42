"""What a training run is told: one TOML file, read into frozen dataclasses.

A name that nobody knows is refused with the nearest one that exists, because a setting that is misspelt
and silently ignored costs a whole run.
"""

from __future__ import annotations

import dataclasses
import difflib
import sys
import types
import typing
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, TypeVar

from .picturebook.styles import STYLES

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

Prediction = Literal["noise", "velocity", "clean"]
Weighting = Literal["constant", "p2", "adaptive"]
Precision = Literal["no", "bf16"]
"""fp16 is left out: Stage C overflows in it."""


@dataclass(frozen=True, slots=True)
class Data:
    """Which pictures, and how they are cut. Exactly one of the three sources is given.

    Attributes:
        picturebook: so many scenes of the picture-book world.
        folder: pictures, each with its captions in a text file of the same name, a line each.
        shards: tar files in webdataset's manner; ``*`` stands for anything.
        size: side of the square whose area every picture has.
        multiple: sides are multiples of it; 64 suits both stages.
        ratios: widths over heights of the buckets.
        crop: side of a square cut out of each picture at each visit, for parts that need not see it whole;
            0 for the whole picture.
        style: laid over the scenes of the picture-book world; a name in ``picturebook.styles``, "" for none.
        latent_cache: encode every picture once and keep the latents, instead of encoding at each visit.
        captions: of each picture encoded once and kept; 0 encodes one at each visit, which lets captions
            vary and the text encoder train along.
        workers: processes that load examples; 0 for the one that trains.
    """

    picturebook: int = 0
    folder: str = ""
    shards: tuple[str, ...] = ()
    size: int = 1024
    multiple: int = 64
    ratios: tuple[float, ...] = (1.0,)
    crop: int = 0
    style: str = ""
    latent_cache: bool = True
    captions: int = 0
    workers: int = 0


@dataclass(frozen=True, slots=True)
class Schedule:
    """How long, how fast and in which precision.

    Attributes:
        steps: of the optimiser.
        batch: pictures in a step, over all processes and accumulated parts.
        rate: learning rate after warm-up.
        warmup: steps over which it rises.
        cooldown: last steps, over which it falls to nothing along a cosine.
        accumulate: parts into which a step's batch is split to save memory.
        clip: largest norm of the gradient.
        betas, weight_decay: of AdamW.
        average: decay of the average of the weights at each step; 0 keeps none, which halves the memory of
            the weights and is needed where they are sharded.
        dropout: in the residual blocks of Stages B and C; the reference trained Stage C with 0.1.
        precision: of autocast.
        seed: of everything random.
    """

    steps: int
    batch: int
    rate: float = 1e-4
    warmup: int = 1
    cooldown: int = 0
    accumulate: int = 1
    clip: float = 1.0
    betas: tuple[float, float] = (0.9, 0.999)
    weight_decay: float = 0.01
    average: float = 0.999
    dropout: float = 0.0
    precision: Precision = "no"
    seed: int = 0


@dataclass(frozen=True, slots=True)
class Objective:
    """What a diffusion stage learns to predict, at which noise levels, and what counts how much.

    The defaults are the reference's for Stage C. Source: Stability ``train/train_c.py``, ``train_b.py``.

    Attributes:
        prediction: of the network.
        weight: over noise levels; see ``objective.LEVEL_WEIGHTS``.
        shift: of the schedule from which training times are drawn; the reference uses 1.
        lean: times are ``u ** lean`` of a uniform u; below 1 draws them towards noise.
        stratified: spread the times of a batch evenly.
        offset_noise: share of noise that is constant over a picture.
        pyramid_noise: mix in coarser noise, as the reference does for Stage B.
        region_weight: of cells in which the source says that something is, against 1 elsewhere.
        window_share: share of steps in which Stage B sees four quarters of each picture, two of them around
            things, instead of the whole of it: as much work, spent on more noise levels and on what is hard.
        drop_text: share of captions replaced by the empty one.
        drop_image: share of image embeddings replaced by zeros.
        drop_semantic: share of Stage C latents replaced by zeros, in training Stage B.
        semantic_noise: largest level of noise on them.
        semantic_scale: range of the factors by which Stage B's pictures shrink before they are encoded.
        reading: weight of the loss by which Stage C's inner features must tell kind and colour; needs a
            source that knows them.
        train_encoder: also train the text encoder (Stage C) or the semantic encoder (Stage B).
    """

    prediction: Prediction = "noise"
    weight: Weighting = "p2"
    shift: float = 1.0
    lean: float = 1.0
    stratified: bool = False
    offset_noise: float = 0.0
    pyramid_noise: bool = False
    region_weight: float = 1.0
    window_share: float = 0.0
    drop_text: float = 0.05
    drop_image: float = 0.9
    drop_semantic: float = 0.1
    semantic_noise: float = 0.0
    semantic_scale: tuple[float, float] = (0.5, 1.0)
    reading: float = 0.0
    train_encoder: bool = False


@dataclass(frozen=True, slots=True)
class Lora:
    """Which weights of Stage C a LoRA changes, and how finely. Used by the part ``lora`` alone.

    Attributes:
        rank: of the product that is added to each weight.
        alpha: the product is scaled by ``alpha / rank``.
        targets: parts of the names of the linear layers that change.
    """

    rank: int = 8
    alpha: float = 8.0
    targets: tuple[str, ...] = (".attn.",)


@dataclass(frozen=True, slots=True)
class Distillation:
    """How a Stage C is taught to draw in few steps; see ``distillation.StageCDistillation``.

    Attributes:
        times: noise levels among which the teacher walks; a few dozen.
        cfg: scale of the guidance that becomes part of the network.
        huber: error below which the loss is quadratic, and above which it is linear.
    """

    times: int = 50
    cfg: float = 4.0
    huber: float = 0.03


@dataclass(frozen=True, slots=True)
class Companions:
    """Files of the parts that a run uses without training them; relative to the folder of the run.

    ``stage_c`` is what adapters are trained for; ``previewer`` only shows samples of Stage C.
    ``tokenizer`` is a folder with CLIP's vocabulary; without one, captions are made of the picture-book
    world's words.
    """

    stage_a: str = ""
    stage_c: str = ""
    semantic_encoder: str = ""
    text_encoder: str = ""
    image_encoder: str = ""
    previewer: str = ""
    tokenizer: str = ""


@dataclass(frozen=True, slots=True)
class Log:
    """Steps between losses in the log, checkpoints and sample pictures, 0 for none of them; checkpoints kept.

    A checkpoint is also written at the end of a run, and when it stops at a limit of time.
    """

    every: int = 20
    checkpoint: int = 500
    samples: int = 0
    keep: int = 2


@dataclass(frozen=True, slots=True)
class Settings:
    """One run.

    Attributes:
        part: what is trained; a name in ``parts.PARTS``.
        network: sizes for a new network, as the part's configuration names them.
        start: a file to go on from instead; its sizes are the file's.
        recorded: entries of the metadata of the file that is written, without ``cascade.``.
    """

    part: str
    schedule: Schedule
    data: Data
    network: dict[str, Any] = field(default_factory=dict)
    start: str = ""
    objective: Objective = field(default_factory=Objective)
    lora: Lora = field(default_factory=Lora)
    companions: Companions = field(default_factory=Companions)
    distillation: Distillation = field(default_factory=Distillation)
    log: Log = field(default_factory=Log)
    recorded: dict[str, Any] = field(default_factory=dict)


Config = TypeVar("Config")


def read_settings(path: Path) -> Settings:
    """The settings in a TOML file.

    Raises:
        ValueError: the file is no TOML, a name is unknown, a value is missing or of another type.
    """
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8"))
    except tomllib.TOMLDecodeError as error:
        raise ValueError(f"{path.name} is no TOML file ({error}); correct it") from error
    settings = from_table(Settings, table, path.name)
    _check(settings, path.name)
    return settings


def _check(settings: Settings, where: str) -> None:
    """Refuse values that cannot be, and those that contradict each other."""
    data, schedule, log = settings.data, settings.schedule, settings.log
    counts = {
        "data.size": data.size, "data.multiple": data.multiple, "data.ratios": len(data.ratios),
        "schedule.steps": schedule.steps, "schedule.batch": schedule.batch,
        "schedule.accumulate": schedule.accumulate, "log.keep": log.keep, "lora.rank": settings.lora.rank,
    }  # fmt: skip
    for name, value in counts.items():
        if value < 1:
            raise ValueError(f"{where}: {name} is {value}, and at least 1 was expected")
    if not 0 <= schedule.average < 1:
        raise ValueError(f"{where}: schedule.average is {schedule.average}, and a share below 1 was expected")
    sources = [name for name in ("picturebook", "folder", "shards") if getattr(data, name)]
    if len(sources) != 1:
        given = " and ".join(sources) or "none"
        raise ValueError(f"{where}: data names {given}; give exactly one of picturebook, folder and shards")
    if data.style and not (data.picturebook and data.style in STYLES):
        raise ValueError(
            f"{where}: data.style is {data.style}, and one of {', '.join(STYLES)} was expected, with "
            "data.picturebook"
        )
    if schedule.batch % schedule.accumulate:
        raise ValueError(
            f"{where}: a batch of {schedule.batch} does not split into {schedule.accumulate} equal parts; "
            "change schedule.batch or schedule.accumulate"
        )
    if settings.start and settings.network:
        raise ValueError(
            f"{where}: both start and network say how large the network is; a run that goes on from a file "
            "takes its sizes, so leave network out"
        )


def from_table(kind: type[Config], table: Mapping[str, Any], where: str) -> Config:
    """A frozen dataclass, and those inside it, from a table of plain values.

    Args:
        kind: the dataclass.
        table: its fields by name; lists become tuples.
        where: what to call the table in errors.

    Raises:
        ValueError: a name is unknown, a value is missing or of another type.
    """
    fields = {f.name: f for f in dataclasses.fields(kind)}
    hints = typing.get_type_hints(kind)
    for name in table:
        if name not in fields:
            near = difflib.get_close_matches(name, fields, n=1, cutoff=0.0)[0]
            raise ValueError(f"{where}: nothing is called {name}; the nearest name is {near}")
    missing = [
        name
        for name, f in fields.items()
        if name not in table and f.default is f.default_factory is dataclasses.MISSING
    ]
    if missing:
        raise ValueError(f"{where} lacks {missing[0]}; add it")
    return kind(**{name: _value(hints[name], value, f"{where}: {name}") for name, value in table.items()})


def _value(hint: Any, value: Any, where: str) -> Any:
    origin, inner = typing.get_origin(hint), typing.get_args(hint)
    if dataclasses.is_dataclass(hint):
        if not isinstance(value, Mapping):
            raise ValueError(f"{where} is {value!r}, and a table was expected")
        return from_table(hint, value, where)
    if origin is tuple:
        return _tuple(inner, value, where)
    if origin is Literal:
        if value not in inner:
            raise ValueError(f"{where} is {value!r}; choose one of {', '.join(map(str, inner))}")
        return value
    if origin is types.UnionType:
        return _value(inner[0], value, where)
    kind = origin or hint
    if kind is float and type(value) is int:
        return float(value)
    if kind is not Any and type(value) is not kind:
        raise ValueError(f"{where} is {value!r}, and {kind.__name__} was expected")
    return value


def _tuple(inner: tuple[Any, ...], value: Any, where: str) -> tuple[Any, ...]:
    if not isinstance(value, list | tuple):
        raise ValueError(f"{where} is {value!r}, and a list was expected")
    hints = [inner[0]] * len(value) if inner[-1] is Ellipsis else inner
    if len(hints) != len(value):
        raise ValueError(f"{where} holds {len(value)} values, and {len(hints)} were expected")
    return tuple(_value(h, v, where) for h, v in zip(hints, value, strict=True))
