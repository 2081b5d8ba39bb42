"""Stage A in tiles that make the picture it makes whole.

Every layer looks a few cells far. A tile is computed with as many cells around it as all layers together can
see, which are cut off again; where the picture ends it gets none, so that borders are padded as they are in
the whole picture. Nothing is blended.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import pairwise, product
from math import ceil
from typing import NamedTuple

from torch import Tensor

from .model import FOLD, StageAConfig


def ratio(config: StageAConfig) -> int:
    """Pixels to a latent cell along a side: the first fold of pixels halves as each change of level does."""
    return FOLD ** len(config.widths)


def decoder_halo(config: StageAConfig) -> int:
    """How many latent cells to each side of a cell its pixels depend on; 13 for the released network."""
    reach = config.kernel_size // 2
    finer = len(config.widths) - 1
    halo = 0
    for _ in range(finer):
        # A block, and before it a transposed convolution of 4, stride 2, padding 1, in which an output
        # depends on the inputs from half of it - 1 to half of it + 1/2.
        halo = (halo + reach + 2) // 2
    return halo + config.bottleneck_blocks * reach


def encoder_halo(config: StageAConfig) -> int:
    """How many latent cells' width of pixels to each side of a cell it depends on; 2 for the released one."""
    reach = config.kernel_size // 2
    halo = reach
    for _ in range(len(config.widths) - 1):
        halo = 2 * halo + 1 + reach  # a convolution of 4, stride 2, padding 1, and a block
    return ceil(FOLD * halo / ratio(config))


class Tile(NamedTuple):
    """One tile along one axis, in latent cells: of the map, and within the piece that is computed.

    Attributes:
        place: cells of the map that the tile fills.
        seen: cells of the map it is computed from.
        kept: those of the computed ones that fill its place.
    """

    place: slice
    seen: slice
    kept: slice


def tiles(length: int, tile: int, halo: int) -> list[Tile]:
    """An axis in the fewest tiles no longer than ``tile``, of about one length."""
    count = ceil(length / tile)
    ends = [length * i // count for i in range(count + 1)]
    made = []
    for start, end in pairwise(ends):
        first, last = max(start - halo, 0), min(end + halo, length)
        made.append(Tile(slice(start, end), slice(first, last), slice(start - first, end - first)))
    return made


def decode_in_tiles(
    config: StageAConfig, decode: Callable[[Tensor], Tensor], latents: Tensor, tile: int, out: Tensor
) -> Tensor:
    """Decode a tile at a time.

    Args:
        config: of the network.
        decode: its ``decode``, or that with changes of device and precision around it.
        latents: ``b 4 h w``.
        tile: longest side of a tile in latent cells, without what it sees around it; at least 1.
        out: where the pixels go, ``b 3 4h 4w``.

    Returns:
        ``out``.
    """
    cell = ratio(config)
    for y, x in _grid(latents, tile, decoder_halo(config)):
        pixels = decode(latents[..., y.seen, x.seen])
        out[..., _pixels(y.place, cell), _pixels(x.place, cell)] = pixels[
            ..., _pixels(y.kept, cell), _pixels(x.kept, cell)
        ]
    return out


def encode_in_tiles(
    config: StageAConfig, encode: Callable[[Tensor], Tensor], images: Tensor, tile: int, out: Tensor
) -> Tensor:
    """Encode a tile at a time; see ``decode_in_tiles``.

    Args:
        images: ``b 3 4h 4w``.
        tile: in latent cells.
        out: ``b 4 h w``.
    """
    cell = ratio(config)
    for y, x in _grid(out, tile, encoder_halo(config)):
        latents = encode(images[..., _pixels(y.seen, cell), _pixels(x.seen, cell)])
        out[..., y.place, x.place] = latents[..., y.kept, x.kept]
    return out


def _grid(latents: Tensor, tile: int, halo: int) -> Iterator[tuple[Tile, Tile]]:
    height, width = latents.shape[-2:]
    return product(tiles(height, tile, halo), tiles(width, tile, halo))


def _pixels(cells: slice, cell: int) -> slice:
    return slice(cells.start * cell, cells.stop * cell)
