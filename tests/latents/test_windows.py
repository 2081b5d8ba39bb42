"""Windows over latents, and large forms from a small map."""

import itertools

import torch
from comfyui_cascade.latents.windows import blended, windows, with_coarse
from hypothesis import given
from hypothesis import strategies as st
from random_weights import difference
from tiny_cascade import unit

steps = st.sampled_from([1, 4, 16])


@given(length=st.integers(1, 40), size=st.integers(2, 9), overlap=st.integers(0, 6), step=steps)
def test_windows_cover_an_axis_and_overlap_as_asked(length, size, overlap, step):
    length, size = length * step, size * step
    overlap = min(overlap * step, size - step)
    found = windows(length, size, overlap, step)
    assert found[0].start == 0
    assert found[-1].stop == length
    assert all(one.start % step == 0 and one.stop - one.start < size + step for one in found)
    assert all(b.start <= a.stop - overlap for a, b in itertools.pairwise(found))


def test_what_does_not_depend_on_the_window_is_blended_to_itself():
    x = unit(2, 3, 50, 38).double()
    assert difference(blended(x, 16, 6, 2, lambda window: 2 * x[..., window[0], window[1]]), 2 * x) < 1e-12


def test_windows_fade_into_each_other_without_a_step():
    x = torch.zeros(1, 1, 1, 64)
    calls = iter(range(9))
    line = blended(x, 24, 8, 1, lambda window: torch.full_like(x[..., window[0], window[1]], next(calls)))
    assert line.diff(dim=-1).abs().max() < 0.2
    assert line[..., 0] == 0


def test_large_forms_are_those_of_the_small_map_and_fine_ones_stay():
    x, coarse = unit(1, 4, 24, 24), unit(1, 4, 6, 6)
    assert torch.equal(with_coarse(x, coarse, 0.0), x)
    own = torch.nn.functional.interpolate(x, (6, 6), mode="area")
    assert difference(with_coarse(x, own, 1.0), x) < 1e-6
    guided = torch.nn.functional.interpolate(with_coarse(x, coarse, 1.0), (6, 6), mode="area")
    assert (guided - coarse).norm() < 0.3 * (own - coarse).norm()
