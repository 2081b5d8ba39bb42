"""The whole cascade in plain torch, from prompts to pictures, stage by stage."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import torch
from comfyui_cascade.checkpoints.header import read_header
from comfyui_cascade.checkpoints.identify import Part
from comfyui_cascade.checkpoints.open import load_part
from comfyui_cascade.checkpoints.recorded import Recorded
from comfyui_cascade.conditioning.text import LENGTH, Tokens, encode
from comfyui_cascade.latents.geometry import stage_b_size, stage_c_size
from comfyui_cascade.samplers.sample import sample
from comfyui_cascade.samplers.schedule import STAGE_B_SHIFT, STAGE_C_SHIFT
from comfyui_cascade.samplers.solvers import SOLVERS, Solver
from comfyui_cascade.samplers.spacing import SPACINGS
from comfyui_cascade.samplers.target import TARGETS, Target
from comfyui_cascade.stage_a.model import STAGE_B_SCALE
from comfyui_cascade.training import picturebook
from comfyui_cascade.training.workspace import encoder_input
from torch import Tensor, nn

SAMPLERS: dict[str, Solver] = {name.lower().replace(" ", "_"): solver for name, solver in SOLVERS.items()}
"""Solvers by names that need no quotes on a command line: ``ddpm``, ``unipc``, ``dpm++_2m``, …."""

Callback = Callable[[int, Tensor], None]
"""Takes the number of a step and its estimate, as ``samplers.sample`` gives them."""

STAGE_B_SEED = 1 << 32
"""Added to a seed for Stage B's noise."""

AT_ONCE = 8
"""Pictures drawn together."""


@dataclass(frozen=True, slots=True)
class Sampling:
    """How pictures are drawn.

    Attributes:
        steps_c, steps_b: of Stage C and B.
        sampler_b: of Stage B, a name in ``SAMPLERS``.
        size: width and height in pixels, multiples of 8.
        seed: of the noise.
        sampler_c: of Stage C.
        spacing_c, spacing_b: of Stage C's and B's steps, names in ``spacing.SPACINGS``.
    """

    steps_c: int = 20
    steps_b: int = 10
    sampler_b: str = "ddim"
    size: tuple[int, int] = (256, 256)
    seed: int = 0
    sampler_c: str = "ddim"
    spacing_c: str = "cosine"
    spacing_b: str = "cosine"


class Cascade:
    """Every part that drawing takes, in fp32 on the CPU; each is read when it is first needed.

    Args:
        folder: with a file for each part, named after it.
    """

    def __init__(self, folder: Path):
        self.folder = folder

    def _file(self, part: Part) -> Path:
        path = self.folder / f"{part.value}.safetensors"
        if not path.exists():
            raise ValueError(f"{path} is not there; name a folder with every part of a cascade")
        return path

    def _network(self, part: Part) -> nn.Module:
        return load_part(self._file(part), part).float()

    def recorded(self, part: Part) -> Recorded:
        """What a part's file says of itself."""
        return Recorded.from_metadata(read_header(self._file(part)).metadata, part.value)

    def target(self, part: Part) -> Target:
        return TARGETS[self.recorded(part).prediction]

    @cached_property
    def a(self) -> nn.Module:
        """Stage A."""
        return self._network(Part.STAGE_A)

    @cached_property
    def b(self) -> nn.Module:
        """Stage B."""
        return self._network(Part.STAGE_B)

    @cached_property
    def c(self) -> nn.Module:
        """Stage C."""
        return self._network(Part.STAGE_C)

    @cached_property
    def text_encoder(self) -> nn.Module:
        """The text encoder."""
        return self._network(Part.TEXT_ENCODER)

    @cached_property
    def semantic_encoder(self) -> nn.Module:
        """The semantic encoder."""
        return self._network(Part.SEMANTIC_ENCODER)

    @cached_property
    def previewer(self) -> nn.Module:
        """The previewer."""
        return self._network(Part.PREVIEWER)

    @cached_property
    def compression(self) -> float:
        """Pixels to a Stage C cell, along a side."""
        return self.recorded(Part.SEMANTIC_ENCODER).compression

    @cached_property
    def tokens(self) -> Tokens:
        """The rows of the text encoder's table."""
        ids = self.recorded(Part.TEXT_ENCODER).token_ids
        positions = self.text_encoder.text_model.embeddings.position_embedding.num_embeddings
        return Tokens(ids, positions if ids else LENGTH)

    def unknown_words(self, prompts: Sequence[str]) -> list[str]:
        """Words of prompts that the text encoder's table lacks; they are left out in drawing."""
        every = (
            word for prompt in prompts for word in self.tokens.encode(prompt, picturebook.ids_of).unknown
        )
        return sorted(set(every))

    def text(self, prompts: Sequence[str]) -> tuple[Tensor, Tensor]:
        """Hidden states ``b n c`` and pooled text ``b c``."""
        rows = torch.tensor([self.tokens.encode(prompt, picturebook.ids_of).rows for prompt in prompts])
        return encode(self.text_encoder, rows, self.tokens.end_row)

    @torch.inference_mode()
    def semantic(self, pictures: Tensor) -> Tensor:
        """Stage C latents of pictures ``b 3 h w``, by the semantic encoder."""
        return self.semantic_encoder(encoder_input(self.semantic_encoder, pictures, self.compression))

    @torch.inference_mode()
    def draw_latents(
        self,
        prompts: Sequence[str],
        cfg: float,
        sampling: Sampling,
        callback: Callback | None = None,
        control: Sequence[Tensor | None] = (),
    ) -> Tensor:
        """Stage C latents of prompts, drawn without image prompts; ``control`` is what a ControlNet gives."""
        width, height = stage_c_size(*sampling.size, self.compression)
        generator = torch.Generator().manual_seed(sampling.seed)
        noise = torch.randn(len(prompts), self.c.config.channels, height, width, generator=generator)
        with_prompt, without = (
            self.c.tokens(*self.text(texts), torch.zeros(len(texts), 1, self.c.config.c_image))
            for texts in (prompts, [""] * len(prompts))
        )
        return sample(
            lambda x, t: self.c(x, t, with_prompt, control), noise, generator=generator,
            unconditional=lambda x, t: self.c(x, t, without, control), steps=sampling.steps_c, cfg=cfg,
            shift=STAGE_C_SHIFT, target=self.target(Part.STAGE_C), callback=callback,
            solver=SAMPLERS[sampling.sampler_c], spacing=SPACINGS[sampling.spacing_c],
        )  # fmt: skip

    @torch.inference_mode()
    def decode(
        self, semantic: Tensor, prompts: Sequence[str], sampling: Sampling, callback: Callback | None = None
    ) -> Tensor:
        """Pictures ``b 3 h w`` in [0, 1] of Stage C latents, drawn by Stage B and decoded by Stage A."""
        width, height = stage_b_size(*sampling.size)
        generator = torch.Generator().manual_seed(sampling.seed + STAGE_B_SEED)
        noise = torch.randn(len(semantic), self.b.config.channels, height, width, generator=generator)
        tokens = self.b.tokens(self.text(prompts)[1])
        semantic_map = self.b.semantic_map(semantic, height, width)
        latents = sample(
            lambda x, t: self.b(x, t, tokens, semantic_map), noise, generator=generator,
            steps=sampling.steps_b, shift=STAGE_B_SHIFT, target=self.target(Part.STAGE_B),
            solver=SAMPLERS[sampling.sampler_b], spacing=SPACINGS[sampling.spacing_b], callback=callback,
        )  # fmt: skip
        return self.a.decode(latents * STAGE_B_SCALE).clamp(0, 1)

    @torch.inference_mode()
    def round_trip(self, pictures: Tensor) -> Tensor:
        """Pictures ``b 3 h w`` in [0, 1] through Stage A alone."""
        return self.a.decode(self.a.encode(pictures)).clamp(0, 1)


def in_parts(make: Callable[[slice], Tensor], count: int, say: Callable[[str], None]) -> Tensor:
    """What ``make`` gives for ``AT_ONCE`` pictures at a time, together."""
    parts = []
    for start in range(0, count, AT_ONCE):
        parts.append(make(slice(start, min(count, start + AT_ONCE))))
        say(f"{min(count, start + AT_ONCE)} of {count}")
    return torch.cat(parts)
