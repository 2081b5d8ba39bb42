"""Decoupled image attention as a patch on the host's MODEL."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import folder_paths
import torch
from torch import Tensor

from ... import weights as embedded
from ...adapters.image_prompt import (
    ImageAdapter,
    KeysValues,
    check_adapter,
    image_attention,
    load_image_adapter,
)
from ...checkpoints.identify import Part
from ...layers.hooks import Place, Projected
from .. import check
from .files import SMALL
from .networks import HostStageC
from .patches import OURS, UNCONDITIONAL, Options, patched_rows

FOLDER = "model_patches"
"""Model folder of the host."""

Adapters = Mapping[Place, KeysValues]


@dataclass(frozen=True)
class LoadedImageAdapter:
    """An adapter and the name of its file, on our own socket."""

    adapter: ImageAdapter
    file: str


def image_adapter_choices() -> list[str]:
    """The adapter that ships with the small cascade, if it does, and files."""
    small = [SMALL] if embedded.path(Part.IMAGE_ADAPTER.value).is_file() else []
    return small + folder_paths.get_filename_list(FOLDER)


def path_of_image_adapter(choice: str) -> str:
    """The file behind a choice."""
    if choice == SMALL:
        return str(embedded.path(Part.IMAGE_ADAPTER.value))
    return folder_paths.get_full_path_or_raise(FOLDER, choice)


def open_image_adapter(path: str) -> LoadedImageAdapter:
    """See ``adapters.image_prompt.load_image_adapter``."""
    return LoadedImageAdapter(load_image_adapter(path), path.replace("\\", "/").rpartition("/")[2])


@dataclass(frozen=True, eq=False)
class ImagePatch:
    """What the MODEL carries: image prompts as each block's keys and values, and when and where they count.

    Attributes:
        seen: of the pictures; a row that counts for all.
        unseen: of no picture, for the negative prompt.
        scale: of what is added.
        region: ``1 h w`` or ``b h w``; None for everywhere.
        sigmas: first and last noise level at which it counts; None for always.
    """

    seen: Adapters
    unseen: Adapters
    scale: float
    region: Tensor | None
    sigmas: tuple[float, float] | None

    def __call__(self, call: Projected, inner: Callable[[Projected], Tensor], options: Options) -> Tensor:
        """See ``patches.OURS``."""
        if call.place not in self.seen or not self._counts(options):
            return inner(call)
        kinds = options.get("cond_or_uncond", [0])
        before = options["original_shape"][0]
        each = before // len(kinds)
        # Packs that join prompts repeat rows; each is about a row of the latents that are sampled.
        rows = patched_rows(before, len(call.q), kinds)
        prompts = {call.place: self._rows(call.place, rows // each, kinds)}
        region = None if self.region is None else self.region[rows % each % len(self.region)]
        return image_attention(prompts, self.scale, region)(call, inner)

    def _counts(self, options: Options) -> bool:
        if self.sigmas is None:
            return True
        first, last = self.sigmas
        return last <= float(options["sigmas"][0]) <= first

    def _rows(self, place: Place, chunks: Tensor, kinds: list[int]) -> KeysValues:
        """Keys and values for each row of a batch of positive and negative prompts."""
        sides = [(self.unseen if kinds[i] == UNCONDITIONAL else self.seen)[place] for i in chunks.tolist()]
        return KeysValues(*(torch.cat(parts) for parts in zip(*sides, strict=True)))

    def to(self, device_or_dtype: Any) -> ImagePatch:
        """On a device; the host also calls it with its weights' precision, which may be too coarse."""
        if not isinstance(device_or_dtype, torch.device):
            return self
        move = partial(_moved, device=device_or_dtype)
        region = None if self.region is None else self.region.to(device_or_dtype)
        return replace(self, seen=move(self.seen), unseen=move(self.unseen), region=region)


def _moved(prompts: Adapters, device: torch.device) -> Adapters:
    return {place: KeysValues(*(part.to(device) for part in found)) for place, found in prompts.items()}


def with_image_adapter(
    model: Any,
    loaded: LoadedImageAdapter,
    embeds: Tensor,
    scale: float,
    percents: tuple[float, float],
    region: Tensor | None,
) -> Any:
    """A clone of a MODEL in which Stage C also attends to pictures; the MODEL itself at scale 0.

    Args:
        model: a Stage C of ours.
        loaded: the adapter.
        embeds: of the pictures, ``n c_image``.
        scale: of what they add; 1 is as trained.
        percents: start and end of the share of sampling in which they count, each in [0, 1].
        region: where they count; see ``ImagePatch``.

    Raises:
        ValueError: the MODEL is no Stage C of ours, or the adapter or the encoder belong to another one.
    """
    network = model.model.diffusion_model
    if not isinstance(network, HostStageC):
        raise ValueError(
            "the model is no Stage C of this pack's loaders, and an image adapter works on nothing else: "
            "load the file with Load Stage C (Cascade)"
        )
    adapter = loaded.adapter
    check_adapter(adapter.config, network.config.trunk, loaded.file)
    check.adapter_embed(embeds, adapter.config.c_image, loaded.file)
    if scale == 0:
        return model
    with torch.no_grad():
        image = embeds.detach().cpu().float()[None]
        seen, unseen = adapter(image), adapter(torch.zeros_like(image))
    sigmas = None
    if percents != (0.0, 1.0):
        sampling = model.get_model_object("model_sampling")
        sigmas = (sampling.percent_to_sigma(percents[0]), sampling.percent_to_sigma(percents[1]))
    patched = model.clone()
    patched.set_model_patch(ImagePatch(seen, unseen, scale, region, sigmas), OURS)
    return patched
