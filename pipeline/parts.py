"""The parts of a cascade, each read from its file when it is first needed."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from .. import weights as embedded
from ..adapters.image_prompt import ImageAdapter, check_adapter, load_image_adapter
from ..adapters.lora import Lora, read_lora
from ..adapters.lora import fit as fit_lora
from ..adapters.lora_merge import merge
from ..checkpoints.fit import Piece, check_fit
from ..checkpoints.header import Header
from ..checkpoints.identify import NAMES, Part, expect
from ..checkpoints.layout import shapes
from ..checkpoints.open import NETWORKS, load_part, read_weights
from ..checkpoints.recorded import Recorded
from ..checkpoints.scaled import plain
from ..conditioning.text import LENGTH, Tokens
from ..layers.half import HALF
from ..layers.ops import Operations
from ..layers.trunk import Shapes
from ..samplers.target import TARGETS, Target
from .attention import attention_name, operations_on

STAGES = (Part.STAGE_B, Part.STAGE_C)
"""The parts that a precision is chosen for."""

CLIPS = (Part.TEXT_ENCODER, Part.IMAGE_ENCODER)
"""The parts that are transformers' networks."""

TOGETHER = (Part.STAGE_A, *STAGES, Part.TEXT_ENCODER, Part.SEMANTIC_ENCODER)
"""The parts that have to fit each other."""

PRECISIONS = ("fp32", "bf16", "fp16")
"""What Stage B and C compute in; fp16 means products in fp16 between fp32 values, which do not overflow."""


@dataclass(frozen=True)
class Parts:
    """Networks on one device.

    Attributes:
        files: of parts; those of the small cascade where one is missing.
        device: where everything is computed.
        precision: one of ``PRECISIONS``.
        loras: files and strengths; each changes the stage that it was made for, and the text encoder.
        tokenizer: a folder with CLIP's vocabulary, for a text encoder that knows all of it.
    """

    files: Mapping[Part, Path] = field(default_factory=dict)
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    precision: str = "fp32"
    loras: Sequence[tuple[Path, float]] = ()
    tokenizer: Path | None = None
    _read: dict[Part, nn.Module] = field(default_factory=dict, init=False, repr=False)

    def file(self, part: Part) -> Path:
        """A part's file or folder."""
        return Path(self.files.get(part) or embedded.path(part.value))

    def header(self, part: Part) -> Header:
        """What a part's file says without being read.

        Raises:
            ValueError: it is not there, damaged, or another part.
        """
        file = self.file(part)
        if not file.exists():
            raise ValueError(f"there is no `{file}`; give the path of {NAMES[part]}")
        return expect(file, part)

    def recorded(self, part: Part) -> Recorded:
        """What a part's metadata says."""
        header = self.header(part)
        return Recorded.from_metadata(header.metadata, f"`{header.file}`")

    def config(self, part: Part) -> Any:
        """Sizes of a part's network."""
        header = self.header(part)
        return NETWORKS[part][1].from_shapes(shapes(plain(read_weights(part, header))), header.metadata)

    def check(self) -> None:
        """Make sure that the parts belong together; see ``checkpoints.fit``.

        The semantic encoder of the small cascade is left out where Stage C is another.
        """
        parts = [part for part in TOGETHER if part in self.files or self._is_small(part)]
        check_fit(
            {
                part: Piece(self.file(part).name, self.config(part), self.recorded(part), self._small(part))
                for part in parts
            }
        )

    def _small(self, part: Part) -> bool:
        return self.file(part) == embedded.path(part.value)

    def _is_small(self, part: Part) -> bool:
        return part is not Part.SEMANTIC_ENCODER or self._small(Part.STAGE_C)

    def network(self, part: Part) -> nn.Module:
        """A part, with LoRAs, ready to compute.

        Raises:
            ValueError: see ``header``; or it holds not all of the part.
        """
        if part not in self._read:
            self._read[part] = self._ready(part)
        return self._read[part]

    def _ready(self, part: Part) -> nn.Module:
        if part in STAGES:
            network = load_part(self.file(part), part, self._operations).float()
            self._change(part, network)
            return network.to(self.device, self.stored)
        network = load_part(self.file(part), part)
        if part not in CLIPS:
            return network.float().to(self.device)
        _round(network.float())
        self._change(part, network)
        _round(network)
        for module in network.modules():  # some of which have a copy of the configuration
            if hasattr(module, "config"):
                module.config._attn_implementation = attention_name(self.device)
        return network.to(self.device)

    @property
    def _operations(self) -> Operations:
        return HALF if self.precision == "fp16" else operations_on(self.device)

    @property
    def computes(self) -> torch.dtype:
        """The precision of what a stage is given."""
        return torch.bfloat16 if self.precision == "bf16" else torch.float32

    def given(self, tensor: Tensor) -> Tensor:
        """What a stage is given, where and as precisely as it computes."""
        return tensor.to(self.device, self.computes)

    @property
    def stored(self) -> torch.dtype:
        """The precision of a stage's weights."""
        return torch.float16 if self.precision == "fp16" else self.computes

    # Adapters ------------------------------------------------------------------------------------------

    @cached_property
    def image_adapter(self) -> ImageAdapter:
        """The image adapter, on the CPU and in fp32, where it is needed once a run.

        Raises:
            ValueError: see ``header``; or it was made for another Stage C.
        """
        header = self.header(Part.IMAGE_ADAPTER)
        adapter = load_image_adapter(self.file(Part.IMAGE_ADAPTER))
        check_adapter(adapter.config, self.config(Part.STAGE_C).trunk, header.file)
        return adapter

    @cached_property
    def changes(self) -> list[tuple[Part, Lora, float]]:
        """What each LoRA changes: the stage that it was made for, and its strength.

        Raises:
            ValueError: a file is no LoRA for these parts, or does what needs ComfyUI.
        """
        return [self._fitted(path, strength) for path, strength in self.loras]

    def _fitted(self, path: Path, strength: float) -> tuple[Part, Lora, float]:
        file = read_lora(path)
        part = Part.STAGE_B if file.adapter.target == "Stage B" else Part.STAGE_C
        lora = fit_lora(file, self._shapes(part), self._shapes(Part.TEXT_ENCODER), _STAGE_NAMES[part])
        if lora.learned.width is not None:
            raise ValueError(
                f"`{file.file}` teaches words, which are learnt in ComfyUI's graph only: use Load LoRA "
                "(Cascade) there"
            )
        return part, lora, strength

    def _shapes(self, part: Part) -> Shapes:
        return shapes(plain(read_weights(part, self.header(part))))

    def _change(self, part: Part, network: nn.Module) -> None:
        for stage, lora, strength in self.changes:
            if part is stage:
                merge(network, lora, strength)
            elif part is Part.TEXT_ENCODER:
                merge(network, replace(lora, stage=lora.text), strength)

    # What else is known --------------------------------------------------------------------------------

    def target(self, part: Part) -> Target:
        """What a stage predicts."""
        return TARGETS[self.recorded(part).prediction]

    @property
    def compression(self) -> float:
        """Pixels to a Stage C cell along a side, as Stage C was trained."""
        return self.recorded(Part.STAGE_C).compression

    @cached_property
    def tokens(self) -> Tokens:
        """The rows of the text encoder's table."""
        ids = self.recorded(Part.TEXT_ENCODER).token_ids
        return Tokens(ids, self.config(Part.TEXT_ENCODER).positions if ids else LENGTH)

    @cached_property
    def ids_of(self) -> Callable[[str], Sequence[int]]:
        """CLIP's tokenizer: the ids of a word.

        Raises:
            ValueError: the text encoder knows more words than come with the pack, and no vocabulary was
                given.
        """
        if self.tokenizer is None and self.tokens.token_ids is not None:
            from ..training.picturebook.tokens import ids_of

            return ids_of
        folder = self.tokenizer or self.file(Part.TEXT_ENCODER).parent / "tokenizer"
        if not folder.is_dir():
            raise ValueError(
                f"`{self.file(Part.TEXT_ENCODER).name}` knows all of CLIP's words, and there is no folder "
                f"`{folder}` with CLIP's vocabulary: give the folder tokenizer of a pipeline of diffusers, "
                "or ComfyUI's comfy/sd1_tokenizer"
            )
        from transformers import CLIPTokenizer

        tokenizer = CLIPTokenizer.from_pretrained(folder, local_files_only=True)
        return lambda word: tokenizer.encode(word, add_special_tokens=False)


_STAGE_NAMES = {Part.STAGE_B: "Stage B", Part.STAGE_C: "Stage C"}

_WIDE = re.compile("pre_layrnorm|post_layernorm|visual_projection")
"""Of CLIP's weights, those that ComfyUI keeps in fp32."""


def _round(clip: nn.Module) -> None:
    """Bring weights to the values that ComfyUI keeps, in fp16; it computes with them in fp32."""
    for name, weight in clip.named_parameters():
        if not _WIDE.search(name):
            weight.data = weight.data.half().float()
