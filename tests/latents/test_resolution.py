"""Sizes picked by proportions, and what is said of those that weights were not trained on."""

import doctest

import pytest
from comfyui_cascade.latents import resolution
from comfyui_cascade.latents.geometry import SMALLEST_IMAGE
from comfyui_cascade.latents.resolution import (
    ASPECTS,
    RELEASED,
    SMALL,
    Trained,
    doubts,
    size_of_area,
    size_of_side,
    trained_at,
)
from hypothesis import given
from hypothesis import strategies as st

aspects = st.sampled_from(list(ASPECTS.values()))
multiples = st.sampled_from([8, 16, 32, 64, 128])


@pytest.mark.parametrize("aspect", ASPECTS.values(), ids=list(ASPECTS))
def test_no_aspect_leaves_what_the_released_weights_were_trained_on(aspect):
    assert doubts(size_of_area(aspect, RELEASED.area), RELEASED) == []


@pytest.mark.parametrize("size", [(256, 256), (320, 192), (192, 320)])
def test_sizes_of_the_small_cascades_card_are_not_doubted(size):
    assert doubts(size, SMALL) == []
    assert size_of_area(size, SMALL.area) == size


@given(aspects, st.floats(65536, 16e6), multiples)
def test_size_of_an_area_is_near_it_in_area_and_proportions(aspect, area, multiple):
    width, height = size_of_area(aspect, area, multiple)
    slack = 1 + multiple / min(width, height)
    assert width % multiple == height % multiple == 0
    assert area / slack**2 <= width * height <= area * slack**2
    assert aspect[0] / aspect[1] / slack**2 <= width / height <= aspect[0] / aspect[1] * slack**2


@given(aspects, st.integers(1024, 8192), multiples)
def test_size_of_a_side_has_that_side_and_the_proportions(aspect, longer, multiple):
    size = size_of_side(aspect, longer, multiple)
    assert abs(max(size) - longer) <= multiple / 2
    assert abs(min(size) - longer * min(aspect) / max(aspect)) <= multiple / 2


@given(aspects, st.floats(1, 5000), multiples)
def test_no_size_is_too_small_for_stage_b(aspect, area, multiple):
    assert min(size_of_area(aspect, area, multiple)) >= SMALLEST_IMAGE
    assert min(size_of_side(aspect, area**0.5, multiple)) >= SMALLEST_IMAGE


@given(aspects, st.floats(65536, 4e6))
def test_portrait_is_landscape_on_its_side(aspect, area):
    assert size_of_area(aspect[::-1], area) == size_of_area(aspect, area)[::-1]


def test_every_landscape_has_its_portrait():
    assert {(height, width) for width, height in ASPECTS.values()} == set(ASPECTS.values())


@pytest.mark.parametrize(
    ("size", "trained", "said"),
    [
        (
            (2048, 1024),
            RELEASED,
            ["about 1024x1024 pixels, and this has 2 times the area: things may repeat"],
        ),
        ((512, 512), RELEASED, ["0.25 times the area: things may be cut off"]),
        ((448, 128), SMALL, ["up to 1.67 times as long as wide, and this is 3.5 times"]),
        ((1024, 1024), SMALL, ["about 256x256 pixels, and this has 16 times the area"]),
        ((1024, 1020), RELEASED, ["Stage B draws multiples of 8"]),
    ],
)
def test_sizes_outside_of_training_are_doubted(size, trained, said):
    found = doubts(size, trained)
    assert len(found) == len(said)
    assert all(part in sentence for part, sentence in zip(said, found, strict=True))


def test_known_cascades_are_told_by_their_compression():
    assert trained_at(42.67) == RELEASED
    assert trained_at(21.3333) == Trained(21.3333, SMALL.cells, SMALL.ratio)
    assert trained_at(40.0).side == 960  # nearest to the released one, and as many cells


def test_examples_are_right():
    assert doctest.testmod(resolution).failed == 0
