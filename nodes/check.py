"""What may come through a socket, and the sentence that says what is wrong with what may not.

Each function raises a ``ValueError`` of one sentence, or returns what it was given.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from torch import Tensor

from ..adapters.steering import serves
from ..latents.geometry import STAGE_B_COMPRESSION, compression_of, far_from_trained

STAGE_C_CHANNELS, STAGE_AB_CHANNELS = 16, 4
"""Of the latents in every released file."""

OWNERS = {STAGE_C_CHANNELS: "Stage C", STAGE_AB_CHANNELS: "Stage A and B"}
"""Whose latents have this many channels."""


SAME_PROPORTIONS = 1.25
"""A mask and a picture that differ by more are of two pictures; a mask of few pixels rounds coarsely."""


def _owner(channels: int) -> str:
    return f", as those of {OWNERS[channels]} have" if channels in OWNERS else ""


def _size(latents: Tensor) -> str:
    return f"{latents.shape[-1]}x{latents.shape[-2]}"


def latent_channels(latents: Tensor, channels: int, stage: str) -> Tensor:
    """Latents for a stage: of its number of channels."""
    if latents.ndim != 4 or latents.shape[1] != channels:
        given = latents.shape[1]
        output = stage.lower().replace(" ", "_")
        raise ValueError(
            f"{stage} was given latents of {given} channels{_owner(given)}, but it works on {channels}: "
            f"wire the {output} output of Empty Latents (Cascade) or Encode Image (Cascade) here"
        )
    return latents


def stage_c_latents(latents: Tensor) -> Tensor:
    """What Stage C drew, on its way to Stage B or to the previewer."""
    if latents.ndim != 4 or latents.shape[1] != STAGE_C_CHANNELS:
        given = latents.shape[1]
        raise ValueError(
            f"stage_c was given latents of {given} channels{_owner(given)}, but Stage C's have "
            f"{STAGE_C_CHANNELS}: wire what Stage C sampled here"
        )
    return latents


def stage_b_cells(latents: Tensor, patch: int, levels: int) -> Tensor:
    """Latents for Stage B: sides that its input and all its levels can halve."""
    smallest = patch * 2 ** (levels - 1)
    height, width = latents.shape[-2:]
    if min(height, width) < smallest or height % patch or width % patch:
        raise ValueError(
            f"Stage B was given latents of {_size(latents)} cells, but it needs multiples of {patch} and "
            f"at least {smallest} along each side: wire the stage_b output of Empty Latents (Cascade), "
            "not stage_c"
        )
    return latents


def even_area(area: list[int]) -> None:
    """An area of Stage B's latents: on whole patches."""
    if any(side % 2 for side in area):
        raise ValueError(
            f"a conditioning's area covers {area[1]}x{area[0]} Stage B cells from {area[3]},{area[2]}, "
            "but Stage B sees cells in pairs: choose an area whose sides and place are multiples of 8 "
            "pixels"
        )


def pooled(value: Tensor | None, features: int, stage: str) -> Tensor:
    """The prompt as a whole."""
    if value is None:
        raise ValueError(
            f"{stage} was given a conditioning without pooled text: encode the prompt with CLIP Text "
            "Encode and the CLIP of Load Text Encoder (Cascade)"
        )
    return _features(value, features, stage)


def text(value: Tensor | None, features: int) -> Tensor:
    """The prompt's tokens, for Stage C."""
    if value is None:
        raise ValueError(
            "Stage C was given a conditioning without text: encode the prompt with CLIP Text Encode and "
            "the CLIP of Load Text Encoder (Cascade)"
        )
    return _features(value, features, "Stage C")


def _features(value: Tensor, features: int, stage: str) -> Tensor:
    if value.shape[-1] != features:
        raise ValueError(
            f"{stage} was given a prompt of {value.shape[-1]} features, but it was trained on {features}: "
            "encode the prompt with the text encoder that belongs to this file, chosen in Load Text "
            "Encoder (Cascade)"
        )
    return value


def image_embed(value: Tensor, features: int) -> Tensor:
    """The embedding of an image prompt."""
    if value.shape[-1] != features:
        raise ValueError(
            f"Stage C was given an image prompt of {value.shape[-1]} features, but it was trained on "
            f"{features}: encode the image with the encoder that belongs to this file, chosen in Load "
            "Image Encoder (Cascade)"
        )
    return value


def adapter_embed(value: Tensor, features: int, file: str) -> Tensor:
    """The embedding of a picture, for an image adapter."""
    if value.shape[-1] != features:
        raise ValueError(
            f"`{file}` takes image embeddings of {features} features, and this clip_vision makes "
            f"{value.shape[-1]}: choose the encoder that it was trained with in Load Image Encoder (Cascade)"
        )
    return value


def numbers(text: str, count: int, name: str) -> list[float]:
    """Numbers that a person wrote with commas between; a single one stands for all."""
    try:
        values = [float(part) for part in text.split(",")]
    except ValueError:
        raise ValueError(f"{name} is {text[:60]!r}; write a number for each, such as 1, 0.5") from None
    if not all(map(math.isfinite, values)) or len(values) not in (1, count):
        raise ValueError(
            f"{name} is {text[:60]!r}, and there are {count}: write one number for all, or {count} with "
            "commas between"
        )
    return values * count if len(values) == 1 else values


def prior(value: Tensor | None, latents: Tensor, channels: int) -> Tensor:
    """Stage C's latents, for the Stage B that is about to sample ``latents``."""
    if value is None:
        raise ValueError(
            "Stage B was sampled without its conditioning: wire the positive conditioning and Stage C's "
            "latents through Decoder Conditioning (Cascade) first"
        )
    if value.ndim != 4 or value.shape[1] != channels:
        raise ValueError(
            f"Stage B's conditioning holds latents of {value.shape[1]} channels{_owner(value.shape[1])}, "
            f"but it needs Stage C's with {channels}: wire what Stage C sampled into Decoder Conditioning "
            "(Cascade)"
        )
    same_batch(latents, value)
    same_picture(latents, value)
    return value


def same_batch(stage_b: Tensor, stage_c: Tensor) -> None:
    """Latents of both stages: as many of Stage B's as of Stage C's, or a multiple."""
    if len(stage_b) % len(stage_c):
        raise ValueError(
            f"there are {len(stage_b)} latents of Stage B for {len(stage_c)} of Stage C, but each of "
            "Stage C's needs the same number: give both the same batch_size in Empty Latents (Cascade)"
        )


def same_picture(stage_b: Tensor, stage_c: Tensor) -> None:
    """Latents of both stages: of one shape of picture, and Stage B's the finer."""
    sides = list(zip(stage_b.shape[-2:], stage_c.shape[-2:], strict=True))
    if all(b <= c for b, c in sides):
        raise ValueError(
            f"Stage B's latents have {_size(stage_b)} cells and are no finer than Stage C's "
            f"{_size(stage_c)}: wire the stage_b output of Empty Latents (Cascade) into Stage B's sampler"
        )
    # Each side allows the compressions at which it comes to this number of cells, rounded either way.
    pixels = [(b * STAGE_B_COMPRESSION, c) for b, c in sides]
    lowest = max(side / (c + 1) for side, c in pixels)
    highest = min(side / (c - 1) if c > 1 else math.inf for side, c in pixels)
    if lowest >= highest:
        raise ValueError(
            f"Stage B's latents of {_size(stage_b)} cells and Stage C's of {_size(stage_c)} are not of "
            "one picture, because their proportions differ: take both from the same Empty Latents "
            "(Cascade)"
        )


def tell_proportions(mask: Tensor, size: tuple[int, int], what: str, say: Callable[[str], None]) -> None:
    """Say so where a mask has other proportions than what it is for; it is stretched, as the host does it."""
    height, width = mask.shape[-2:]
    stretch = (width / height) / (size[0] / size[1])
    if max(stretch, 1 / stretch) > SAME_PROPORTIONS and mask.min() < mask.max():
        say(
            f"the mask is {width}x{height} and {what} {size[0]}x{size[1]}, so it is stretched; a mask made "
            "on this picture fits as it is"
        )


def compression_of_latents(stage_b: Tensor, stage_c: Tensor) -> float:
    """Pixels per Stage C cell along a side, the mean of both sides."""
    (b_height, b_width), (c_height, c_width) = stage_b.shape[-2:], stage_c.shape[-2:]
    return math.sqrt(compression_of(b_height, c_height) * compression_of(b_width, c_width))


def tell_compression(compression: float, trained: float, say: Callable[[str], None]) -> None:
    """Say so where a compression is far from the trained one; nothing is wrong with trying it."""
    if far_from_trained(compression, trained):
        say(
            f"Stage C's latents have {compression:.4g} pixels to a cell, and this model was trained at "
            f"{trained:.4g}: pictures repeat or smear; compression 0 in Empty Latents (Cascade) takes the "
            "trained value"
        )


def vae_channels(vae: Any, channels: int, socket: str, loader: str) -> None:
    """A VAE on the right one of two sockets."""
    if vae.latent_channels != channels:
        raise ValueError(
            f"{socket} was given a VAE of {vae.latent_channels} latent "
            f"channels{_owner(vae.latent_channels)}, but it needs one of {channels}: wire {loader} here"
        )


def vae_latents(latents: Tensor, channels: int, what: str) -> Tensor:
    """Latents for a VAE to decode."""
    if latents.ndim != 4 or latents.shape[1] != channels:
        given = latents.shape[1]
        hint = (
            "sample Stage B from them first and decode its latents"
            if given == STAGE_C_CHANNELS
            else "decode them with the VAE of Load Stage A (Cascade)"
        )
        raise ValueError(
            f"{what} was given latents of {given} channels{_owner(given)}, but it decodes {channels}: {hint}"
        )
    return latents


def stage_model(channels: int, wanted: int, socket: str) -> None:
    """A MODEL on the socket of its stage, told by the channels of its latents."""
    if channels != wanted:
        raise ValueError(
            f"the model on {socket} works on latents of {channels} channels{_owner(channels)}, but this "
            f"socket needs one of {wanted}: wire Load {socket.replace('_', ' ').title()} (Cascade) here"
        )


HINTS = {
    "inpainting": "Hint Inpaint (Cascade)",
    "super-resolution": "Hint Super-Resolution (Cascade)",
    "identity": "Hint Identity (Cascade)",
}
"""Display name of the node that makes what each kind of ControlNet follows; a picture serves the others."""


def hint_channels(name: str, kind: str, wanted: int, given: int) -> None:
    """A hint for a ControlNet: of its number of channels; of a picture with more, the first ones serve."""
    if not serves(given, wanted):
        raise ValueError(
            f"`{name}` ({kind}) follows a hint of {wanted} channels, and one of {given} was given: wire "
            f"{HINTS.get(kind, 'a picture')} here"
        )


def masks(mask: Tensor, pictures: int) -> Tensor:
    """Masks for pictures: one for all, or one for each; ``b h w``."""
    mask = mask[None] if mask.ndim == 2 else mask
    if len(mask) not in (1, pictures):
        raise ValueError(
            f"there are {len(mask)} masks for {pictures} pictures: give one for all of them, or one for each"
        )
    return mask
