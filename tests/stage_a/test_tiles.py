"""Stage A in tiles is Stage A whole."""

import pytest
import torch
from comfyui_cascade.stage_a import StageA, StageAConfig, decode_in_tiles, encode_in_tiles
from comfyui_cascade.stage_a.tiles import decoder_halo, encoder_halo, ratio, tiles
from hypothesis import given
from hypothesis import strategies as st
from random_weights import difference, randomise
from tiny_cascade import unit

RELEASED = StageAConfig(
    widths=(192, 384), c_hidden=(768, 1536), bottleneck_blocks=12, channels=4, codebook_size=0
)

CONFIGS = {
    "as released, narrower": StageAConfig((4, 8), (8, 16), 12, 4, 0),
    "three levels, wider kernels": StageAConfig((4, 6, 8), (8, 8, 8), 2, 3, 0, kernel_size=5),
    "one level": StageAConfig((4,), (8,), 3, 2, 0),
}  # fmt: skip


@pytest.fixture(params=CONFIGS)
def network(request):
    return randomise(StageA(CONFIGS[request.param])).double().eval().requires_grad_(False)


def test_the_released_network_sees_13_cells_to_decode_and_2_to_encode():
    assert (decoder_halo(RELEASED), encoder_halo(RELEASED), ratio(RELEASED)) == (13, 2, 4)


def test_decoding_in_tiles_equals_decoding_whole(network):
    latents = unit(1, network.config.channels, 45, 38).double()
    whole = network.decode(latents)
    tiled = decode_in_tiles(network.config, network.decode, latents, 17, torch.full_like(whole, torch.nan))
    assert difference(tiled, whole) < 1e-12


def test_encoding_in_tiles_equals_encoding_whole(network):
    cell = ratio(network.config)
    images = unit(1, 3, 23 * cell, 18 * cell).double()
    whole = network.encode(images)
    tiled = encode_in_tiles(network.config, network.encode, images, 6, torch.full_like(whole, torch.nan))
    assert difference(tiled, whole) < 1e-12


def test_a_cell_depends_on_no_more_and_no_fewer_cells_than_the_halo(network):
    halo, cell = decoder_halo(network.config), ratio(network.config)
    side = 2 * halo + 5
    latents = unit(1, network.config.channels, 1, side).double().expand(-1, -1, 3, -1).clone()
    latents.requires_grad_()
    middle = side // 2
    network.decode(latents)[..., middle * cell : (middle + 1) * cell].sum().backward()
    touched = latents.grad.abs().amax(dim=(0, 1, 2)).nonzero().flatten()
    assert (touched.min().item(), touched.max().item()) == (middle - halo, middle + halo)


@given(length=st.integers(1, 300), tile=st.integers(1, 99), halo=st.integers(0, 20))
def test_tiles_fill_an_axis_once_and_are_no_longer_than_asked(length, tile, halo):
    made = tiles(length, tile, halo)
    filled = [cell for t in made for cell in range(length)[t.place]]
    assert filled == list(range(length))
    assert all(t.place.stop - t.place.start <= tile for t in made)
    for t in made:
        seen = range(length)[t.seen]
        assert seen[t.kept] == range(length)[t.place]
        assert t.seen.start == 0 or t.place.start - t.seen.start == halo
        assert t.seen.stop == length or t.seen.stop - t.place.stop == halo
