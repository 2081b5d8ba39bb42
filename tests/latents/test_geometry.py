import doctest

import pytest
from comfyui_cascade.latents import geometry
from comfyui_cascade.latents.geometry import compression_of, far_from_trained, stage_b_size, stage_c_size
from hypothesis import given
from hypothesis import strategies as st

# Stage C cells of a side in pixels, as Stability rounds.
CELLS = {
    512: 12, 768: 18, 832: 20, 896: 21, 960: 23, 1024: 24, 1088: 26, 1152: 27, 1216: 29,
    1344: 32, 1472: 35, 1536: 36, 2048: 48, 3072: 72, 4096: 96,
}  # fmt: skip

sides = st.integers(64, 8192)


@pytest.mark.parametrize(("side", "cells"), CELLS.items())
def test_stage_c_size_rounds_up(side, cells):
    assert stage_c_size(side, 1024) == (cells, 24)
    assert stage_c_size(1024, side) == (24, cells)


@pytest.mark.parametrize("side", CELLS)
def test_stage_b_has_a_cell_for_four_pixels(side):
    assert stage_b_size(side, 512) == (side // 4, 128)


@given(sides, sides)
def test_stage_b_size_is_even_and_covers_the_picture(width, height):
    for cells, side in zip(stage_b_size(width, height), (width, height), strict=True):
        assert cells % 2 == 0
        assert side <= cells * 4 < side + 8


@given(sides, sides, st.floats(4, 128))
def test_stage_c_size_is_the_fewest_cells_that_cover_the_picture(width, height, compression):
    for cells, side in zip(stage_c_size(width, height, compression), (width, height), strict=True):
        assert cells >= 1
        assert cells * compression >= side - 0.2
        assert (cells - 1) * compression < side


@given(st.integers(1, 100).map(lambda cells: cells * 64))
def test_compression_of_sizes_is_near_the_one_they_were_made_with(side):
    cells = stage_b_size(side, side)[0], stage_c_size(side, side)[0]
    assert compression_of(*cells) == pytest.approx(42.67, rel=42.67 / side)


@pytest.mark.parametrize("size", [(63, 512), (512, 0), (-1, -1)])
def test_too_small_picture_is_refused(size):
    for size_of in (stage_b_size, stage_c_size):
        with pytest.raises(ValueError, match=r"^the picture is .* needs at least 64"):
            size_of(*size)


@pytest.mark.parametrize("compression", [0, -1])
def test_compression_has_to_be_positive(compression):
    with pytest.raises(ValueError, match="has to be positive"):
        stage_c_size(512, 512, compression)


def test_far_is_a_quarter_more_or_less():
    assert far_from_trained(60, 42.67)
    assert far_from_trained(30, 42.67)
    assert not far_from_trained(50, 42.67)


def test_examples_are_right():
    assert doctest.testmod(geometry).failed == 0
