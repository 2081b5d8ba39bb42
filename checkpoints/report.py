"""Everything that a checkpoint's header tells about it, for a person and for a program."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ..layers.trunk import Shapes
from .adapters import Adapter, controlnet_kind, controlnet_projections, find_adapter
from .folder import read_checkpoint
from .header import BITS, Header, printable
from .identify import NAMES, Part, find_parts, identify, in_units, parameters
from .layout import native_shapes, wrapper
from .open import NETWORKS, names_of
from .recorded import Recorded, metadata_of
from .scaled import is_scaled

PRECISIONS = {
    "F64": "fp64",
    "F32": "fp32",
    "F16": "fp16",
    "BF16": "bf16",
    "F8_E4M3": "fp8 e4m3",
    "F8_E5M2": "fp8 e5m2",
}
"""What people call the precisions of the format."""

_WORDS = {
    Part.SEMANTIC_ENCODER: "Stability",
    Part.PREVIEWER: "Stability",
    Part.CONTROLNET: "Stability",
    Part.TEXT_ENCODER: "transformers",
    Part.IMAGE_ENCODER: "transformers",
}
"""Layout of the parts whose names every program spells alike."""


@dataclass(frozen=True, slots=True)
class Found:
    """One part in a checkpoint.

    Attributes:
        part: which.
        prefix: in front of its names.
        layout: whose names it has: Stability, diffusers, ComfyUI or transformers.
        parameters: how many.
        config: the sizes inferred; None where there are none to infer or they make no sense.
        problem: why they make no sense; "" if they do.
    """

    part: Part
    prefix: str
    layout: str
    parameters: int
    config: Any
    problem: str


@dataclass(frozen=True, slots=True)
class Report:
    """What a checkpoint is.

    Attributes:
        file: name of the file or folder.
        part: what it is as a whole.
        kind: of a ControlNet; "" for anything else.
        adapter: of a LoRA; None for anything else.
        parts: what it holds of the cascade.
        prefix: in front of every name.
        precisions: bytes in each, the most first, by the format's names.
        scaled: whether weights have a factor beside them.
        parameters, tensors, files: how many.
        metadata: the checkpoint's own notes.
    """

    file: str
    part: Part
    kind: str
    adapter: Adapter | None
    parts: tuple[Found, ...]
    prefix: str
    precisions: Mapping[str, int]
    scaled: bool
    parameters: int
    tensors: int
    files: int
    metadata: Mapping[str, str]

    @property
    def bytes(self) -> int:
        """Of all tensors."""
        return sum(self.precisions.values())

    @property
    def layout(self) -> str:
        """Whose names it has; "" where that says nothing."""
        if self.adapter:
            return self.adapter.dialect
        return " + ".join(dict.fromkeys(found.layout for found in self.parts))

    @property
    def precision(self) -> str:
        """In words, such as "bf16" or "fp8 e4m3 with scales"."""
        floats = [PRECISIONS[dtype] for dtype in self.precisions if dtype in PRECISIONS]
        words = " + ".join(floats or [dtype.lower() for dtype in self.precisions])
        return f"{words} with scales" if self.scaled else words

    @property
    def what(self) -> str:
        """In words, such as "a Stage B"."""
        if self.adapter and self.part is Part.LORA:
            return f"a {self.adapter.method} for {self.adapter.target or 'Stage C or B'}"
        if self.adapter:
            return f"a {self.adapter.method} of {self.adapter.target or 'another model family'}"
        return f"{NAMES[self.part]} ({self.kind})" if self.kind else NAMES[self.part]

    @property
    def details(self) -> str:
        """The sizes in words."""
        said = []
        if self.adapter:
            rank = f"rank {self.adapter.rank}, " if self.adapter.rank else ""
            said.append(f"{rank}{self.adapter.count} weights")
        several = len(self.parts) > 1
        for found in self.parts:
            sizes = found.problem or _SIZES.get(found.part, lambda _: "")(found.config)
            name = NAMES[found.part].partition(" ")[2] + ": " if several else ""
            count = f"{in_units(found.parameters)} parameters" if several else ""
            said.append(name + ", ".join(filter(None, (count, sizes))))
        if self.files > 1:
            said.append(f"in {self.files} files")
        if self.prefix and not (self.parts and self.layout == "ComfyUI"):
            said.append(f"every name under {self.prefix}")
        return "; ".join(filter(None, said))

    @property
    def line(self) -> str:
        """All of it as one line."""
        layout = f"{self.layout} names" if self.layout else ""
        size = f"{in_units(self.parameters)} parameters, {self.precision}, {in_bytes(self.bytes)}"
        return f"`{self.file}` is {'; '.join(filter(None, [self.what, self.details, layout, size]))}"

    @property
    def text(self) -> str:
        """All of it on lines of its own, with the metadata."""
        lines = {
            "parameters": in_units(self.parameters),
            "precision": self.precision,
            "size": f"{in_bytes(self.bytes)} in {self.tensors} tensors",
            "names": self.layout,
        }
        said = [f"{name}: {value}" for name, value in lines.items() if value]
        notes = [f"{printable(key, 60)} = {printable(value, 120)}" for key, value in self.metadata.items()]
        return "\n".join(
            [f"{self.file}: {self.what}", *filter(None, self.details.split("; ")), *said, *notes]
        )

    def as_json(self) -> dict[str, Any]:
        """All of it as values that JSON knows."""
        return {
            "file": self.file,
            "part": self.part.value,
            "what": self.what,
            "kind": self.kind,
            "layout": self.layout,
            "details": self.details,
            "prefix": self.prefix,
            "precision": self.precision,
            "precisions": dict(self.precisions),
            "scaled": self.scaled,
            "parameters": self.parameters,
            "tensors": self.tensors,
            "bytes": self.bytes,
            "files": self.files,
            "adapter": asdict(self.adapter) if self.adapter else None,
            "parts": [
                {
                    "part": found.part.value,
                    "prefix": found.prefix,
                    "layout": found.layout,
                    "parameters": found.parameters,
                    "sizes": asdict(found.config) if found.config else None,
                    "problem": found.problem,
                }
                for found in self.parts
            ],
            "metadata": dict(self.metadata),
        }


def report(path: str | Path) -> Report:
    """What a file or folder is, from its header.

    Raises:
        ValueError: it cannot be read; one sentence.
    """
    return report_of(read_checkpoint(path))


def report_of(header: Header) -> Report:
    """What a checkpoint is that has this header."""
    shapes = header.shapes
    part = identify(shapes)
    adapter = find_adapter(shapes) if part in (Part.LORA, Part.OTHER_LORA) else None
    held = {} if adapter or part not in _CASCADE else find_parts(shapes)
    found = tuple(_found(one, prefix, shapes, header.metadata) for one, prefix in held.items())
    return Report(
        file=header.file,
        part=part,
        kind=_kind(header, held[part]) if part is Part.CONTROLNET else "",
        adapter=adapter,
        parts=found,
        prefix=wrapper(shapes),
        precisions=_precisions(header),
        scaled=is_scaled(shapes),
        parameters=sum(one.parameters for one in found) or parameters(shapes),
        tensors=len(shapes),
        files=len(set(header.places.values())),
        metadata=header.metadata,
    )


def _kind(header: Header, prefix: str) -> str:
    """What a ControlNet follows, as its file says or as its shapes tell."""
    return printable(header.metadata.get("cascade.kind", ""), 60) or controlnet_kind(header.shapes, prefix)


def in_bytes(count: int) -> str:
    """A size in words, such as "7.18 GB"."""
    for unit, size in (("GB", 10**9), ("MB", 10**6), ("kB", 10**3)):
        if count >= size:
            return f"{count / size:.3g} {unit}"
    return f"{count} bytes"


_CASCADE = {*NETWORKS, Part.CONTROLNET, Part.ALL_IN_ONE_B, Part.ALL_IN_ONE_C}


def _found(part: Part, prefix: str, shapes: Shapes, metadata: Mapping[str, str]) -> Found:
    inner = {short: shapes[name] for name, short in names_of(part, shapes).items()}
    layout = _layout(part, prefix, inner)
    config, problem = None, ""
    if part is Part.CONTROLNET:
        config = controlnet_projections(inner)
    if part in NETWORKS:
        try:
            own = metadata_of(part.value, metadata)
            Recorded.from_metadata(own)
            config = NETWORKS[part][1].from_shapes(native_shapes(inner), own)
        except LookupError as error:
            problem = f"incomplete, as it lacks {error.args[0]}" if error.args else "incomplete"
        except (ValueError, ArithmeticError) as error:
            problem = str(error)
    return Found(part, prefix, layout, parameters(inner), config, printable(problem, 300))


def _layout(part: Part, prefix: str, names: Iterable[str]) -> str:
    """Whose names a part has."""
    if prefix.endswith(("diffusion_model.", "vae.", "vae.encoder.", "vae.previewer.")) or "clip_" in prefix:
        return "ComfyUI"
    if part in _WORDS:
        return _WORDS[part]
    joined = "\n".join(names)
    if ".attention.attn.to_q." in joined:
        return "ComfyUI"
    if ".attention.to_q." in joined or "vquantizer.embedding." in joined:
        return "diffusers"
    if part is Part.STAGE_B and "clip_txt_pooled_mapper." in joined:
        return "diffusers"
    return "Stability"


def _precisions(header: Header) -> dict[str, int]:
    counted: Counter[str] = Counter()
    for dtype, shape in header.tensors.values():
        counted[dtype] += math.prod(shape) * BITS[dtype] // 8
    return dict(counted.most_common())


def _plus(numbers: Iterable[int]) -> str:
    return "+".join(map(str, numbers))


def _trunk(config: Any) -> str:
    down, up = config.trunk.down, config.trunk.up
    depths = f"{_plus(level.depth for level in down)} blocks down, {_plus(level.depth for level in up)} up"
    return f"{_plus(level.width for level in down)} wide, {depths}, c_cond {config.trunk.c_cond}"


_SIZES: dict[Part, Callable[[Any], str]] = {
    Part.STAGE_A: lambda c: (
        f"{_plus(c.widths)} wide, {f'codebook of {c.codebook_size}' if c.codebook_size else 'no codebook'}, "
        f"{c.channels} channels"
    ),
    Part.STAGE_B: _trunk,
    Part.STAGE_C: _trunk,
    Part.SEMANTIC_ENCODER: lambda c: f"{len(c.stages)} stages, {c.c_last} wide, {c.channels} channels",
    Part.PREVIEWER: lambda c: f"{len(c.convolutions)} convolutions, {c.convolutions[0][1]} channels",
    Part.TEXT_ENCODER: lambda c: f"{c.width} wide, {c.depth} layers, {c.vocabulary} tokens",
    Part.IMAGE_ENCODER: lambda c: f"{c.width} wide, {c.depth} layers, {c.image_size} pixels",
    Part.CONTROLNET: lambda c: f"feeds {c.count} blocks of a Stage C {c.width} wide",
}
