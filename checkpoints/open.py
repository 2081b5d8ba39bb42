"""From a file to a network.

A network is built without storage, and the weights are put in as they come from the file: nothing is
spent on initial values, and nothing is copied.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from ..conditioning.image import ImageEncoderConfig, image_encoder
from ..conditioning.text import TextEncoderConfig, text_encoder
from ..layers.ops import TORCH, Operations
from ..layers.trunk import Shapes
from ..stage_a.model import StageA, StageAConfig
from ..stage_b.model import StageB, StageBConfig
from ..stage_c.coder import Previewer, PreviewerConfig, SemanticEncoder, SemanticEncoderConfig
from ..stage_c.model import StageC, StageCConfig
from .header import BITS, Header
from .identify import Part, expect, find_parts
from .layout import shapes, to_native
from .notes import NAME as NOTES
from .recorded import Recorded
from .save import cast
from .scaled import SCALES, plain, with_scales

NETWORKS: dict[Part, tuple[Callable[..., nn.Module], Any]] = {
    Part.STAGE_A: (StageA, StageAConfig),
    Part.STAGE_B: (StageB, StageBConfig),
    Part.STAGE_C: (StageC, StageCConfig),
    Part.SEMANTIC_ENCODER: (SemanticEncoder, SemanticEncoderConfig),
    Part.PREVIEWER: (Previewer, PreviewerConfig),
    Part.TEXT_ENCODER: (text_encoder, TextEncoderConfig),
    Part.IMAGE_ENCODER: (image_encoder, ImageEncoderConfig),
}
"""Network and configuration of each part that can be opened."""

TAKE_OPERATIONS = frozenset({StageA, StageB, StageC})
"""Networks built from a layer factory; the others are small and run in torch's own layers."""

MAPPED_TOGETHER = 2**24
"""Bytes of a file that are mapped at once while its weights are cast."""

_ROOTS = {
    Part.TEXT_ENCODER: ("text_model.", "text_projection"),
    Part.IMAGE_ENCODER: ("vision_model.", "visual_projection."),
    Part.SEMANTIC_ENCODER: ("backbone.", "mapper."),
}
"""How the names of a part begin, where a file may hold more beside it."""


def names_of(part: Part, every: Shapes) -> dict[str, str]:
    """Names in a file of the weights of one part, each with its name inside the part; {} if it has none."""
    prefix = find_parts(every).get(part)
    if prefix is None:
        return {}
    roots = _ROOTS.get(part, ("",))
    inner = {name: name[len(prefix) :] for name in every if name.startswith(prefix)}
    names = {
        name: short
        for name, short in inner.items()
        if short.startswith(roots) and not short.endswith(("position_ids", NOTES))
    }
    beside = prefix.removesuffix("transformer.") + "text_projection"  # where ComfyUI's checkpoints have it
    if part is Part.TEXT_ENCODER and beside in every:
        names[beside] = "text_projection"
    return names


def pick(weights: Mapping[str, Tensor], part: Part) -> dict[str, Tensor]:
    """The weights of one part, from a file of its own or an all-in-one, under our names and as views."""
    names = names_of(part, shapes(weights))
    return to_native({short: weights[name] for name, short in names.items()})


def check_weights(expected: Shapes, weights: Mapping[str, Tensor], file: str = "the file") -> list[str]:
    """Names of weights that a network does not use, after making sure that it has all it needs.

    Raises:
        ValueError: a weight is missing or has another shape; the sentence names the first one.
    """
    missing = [key for key in expected if key not in weights]
    if missing:
        found = f"{len(expected) - len(missing)} of {len(expected)} weights"
        raise ValueError(
            f"`{file}` holds {found} and lacks {missing[0]}, first of {len(missing)}; it is cut or of "
            "another model, so download it again or choose another"
        )
    given = shapes(weights)
    wrong = [key for key, shape in expected.items() if given[key] != tuple(shape)]
    if wrong:
        first, count = wrong[0], len(wrong)
        raise ValueError(
            f"`{file}` has {first} of shape {given[first]}, and {tuple(expected[first])} was expected, "
            f"first of {count} that do not fit; it is of another model, so choose another file"
        )
    return [key for key in weights if key not in expected]


def build(
    network_class: Callable[..., nn.Module],
    config: Any,
    weights: Mapping[str, Tensor],
    ops: Operations = TORCH,
    file: str = "the file",
) -> nn.Module:
    """A network that holds the given weights themselves, in evaluation mode.

    Args:
        network_class: one of ``NETWORKS``.
        config: its configuration.
        weights: under our names; those that the network does not use are logged and left out.
        ops: layer factory, for the networks that take one.
        file: how to call the file in errors.

    Raises:
        ValueError: see ``check_weights``.
    """
    with torch.device("meta"):
        takes_ops = network_class in TAKE_OPERATIONS
        network = network_class(config, ops) if takes_ops else network_class(config)
    expected = shapes(network.state_dict())
    # Counts of training steps, which some programs do not write and evaluation does not read.
    counters = {key: torch.tensor(0) for key in expected if key.endswith("num_batches_tracked")}
    weights = counters | dict(weights)
    unused = check_weights(expected, weights, file)
    if unused:
        logging.getLogger(__name__).warning(
            "%s holds %d weights that are not used, first %s", file, len(unused), unused[0]
        )
    network.load_state_dict({key: weights[key] for key in expected}, assign=True)
    _fill_positions(network)
    return network.eval()


def _fill_positions(network: nn.Module) -> None:
    """Give CLIP its list of positions, which it keeps beside its weights."""
    for module in network.modules():
        positions = getattr(module, "position_ids", None)
        if isinstance(positions, Tensor) and positions.is_meta:
            module.register_buffer("position_ids", torch.arange(positions.shape[-1])[None], persistent=False)


def read_weights(part: Part, header: Header) -> dict[str, Tensor]:
    """The weights of one part of a checkpoint, under our names; nothing else is read.

    They are views of the mapped file, so that those which are never used are never read.
    """
    names = names_of(part, header.shapes)
    weights: dict[str, Tensor] = {}
    for place in sorted({header.places[name] for name in names}):
        weights |= _tensors(header, place, [name for name in names if header.places[name] == place])
    return to_native({short: weights[name] for name, short in names.items()})


def read_all(header: Header) -> dict[str, Tensor]:
    """Every tensor of a checkpoint under the name it has there, as views of the mapped file.

    Raises:
        ValueError: the file is damaged.
    """
    weights: dict[str, Tensor] = {}
    for place in sorted(set(header.places.values())):
        weights |= _tensors(header, place, [name for name in header.tensors if header.places[name] == place])
    return weights


def read_cast(part: Part, header: Header, kept: Callable[[Tensor], torch.dtype]) -> dict[str, Tensor]:
    """The weights of one part in other precisions than the file's, under our names.

    The file is mapped anew for every few weights, so that what was read does not stay in memory beside what
    was made of it.

    Args:
        part, header: see ``read_weights``.
        kept: the precision of a weight.

    Raises:
        ValueError: a weight does not fit its precision.
    """
    names = names_of(part, header.shapes)
    factors = [name for name in names if name.rpartition(".")[2] in SCALES]
    beside: dict[str, Tensor] = {}
    for place, group in _groups(header, factors):
        beside |= _tensors(header, place, group)
    weights: dict[str, Tensor] = {}
    for place, group in _groups(header, [name for name in names if name not in beside]):
        for name, scaled in with_scales(beside | _tensors(header, place, group)).items():
            weights[names[name]] = cast(name, scaled, kept(scaled.tensor))
    return to_native(weights)


def _groups(header: Header, names: list[str]) -> Iterator[tuple[Path, list[str]]]:
    """Names of one file each that are read together."""
    group: list[str] = []
    size = 0
    for name in sorted(names, key=lambda name: header.places[name]):
        if group and (size > MAPPED_TOGETHER or header.places[name] != header.places[group[0]]):
            yield header.places[group[0]], group
            group, size = [], 0
        dtype, shape = header.tensors[name]
        group.append(name)
        size += math.prod(shape) * BITS[dtype] // 8
    if group:
        yield header.places[group[0]], group


def _tensors(header: Header, place: Path, names: list[str]) -> dict[str, Tensor]:
    """Views of tensors of one file."""
    try:
        with safe_open(place, framework="pt") as file:
            return {name: file.get_tensor(name) for name in names}
    except SafetensorError as error:
        raise ValueError(f"`{header.file}` is damaged ({error}); download it again") from error


def load_part(path: str | Path, part: Part, ops: Operations = TORCH) -> nn.Module:
    """One part of the cascade from a safetensors file, in evaluation mode and the file's precision.

    Raises:
        ValueError: the file is damaged, or holds something else.
    """
    header = expect(path, part)
    Recorded.from_metadata(header.metadata, f"`{header.file}`")
    weights = plain(read_weights(part, header))
    network_class, config_class = NETWORKS[part]
    config = config_class.from_shapes(shapes(weights), header.metadata)
    return build(network_class, config, weights, ops, header.file)
