"""Where steps lie, against ComfyUI's schedulers and the schedule's own ends."""

import pytest
import torch
from comfyui_cascade.samplers.schedule import (
    logsnr_of_time,
    schedule_time,
    shift_of_size,
    sigma_of_logsnr,
)
from comfyui_cascade.samplers.spacing import SPACINGS, aligned, cosine, simple
from hypothesis import given, settings
from hypothesis import strategies as st


@pytest.fixture(scope="module")
def host_schedule(comfy_nodes):
    """ComfyUI's schedule at its shift of 1, with its table."""
    from comfyui_cascade.nodes.host.sampling import CascadeSampling

    return CascadeSampling()


@pytest.mark.parametrize("name", ["simple", "karras", "exponential", "beta"])
@pytest.mark.parametrize("steps", [3, 10, 20])
def test_levels_are_the_hosts(host_schedule, name, steps):
    import comfy.samplers

    theirs = comfy.samplers.calculate_sigmas(host_schedule, name, steps)
    # The host rounds times of beta to its table, which moves the highest of them most.
    rtol = 2e-2 if name == "beta" else 1e-4
    torch.testing.assert_close(SPACINGS[name](steps, 1.0, 1.0, 0.0), theirs, rtol=rtol, atol=1e-5)


@given(
    name=st.sampled_from(list(SPACINGS)),
    steps=st.integers(1, 60),
    shift=st.floats(0.5, 4),
    start=st.floats(0.3, 1),
    end=st.sampled_from([0.0, 0.1, 0.2]),
)
@settings(max_examples=60, deadline=None)
def test_levels_fall_from_the_start_to_the_end(name, steps, shift, start, end):
    levels = SPACINGS[name](steps, shift, start, end)
    assert levels.shape == (steps + 1,)
    assert (levels.diff() <= 0).all()
    if name == "aligned" and shift > 1:
        start_level = levels[
            0
        ]  # its shift is applied to levels, which may reach the ends before the times do
    else:
        start_level = sigma_of_logsnr(logsnr_of_time(torch.tensor(start), shift))
    torch.testing.assert_close(levels[0], start_level, rtol=2e-3, atol=0)
    assert levels[-1] == 0 if end == 0 else levels[-1] > 0


def test_cosine_steps_are_within_a_hair_of_the_hosts_simple_ones():
    torch.testing.assert_close(cosine(20, 2.0), simple(20, 2.0, 1.0, 0.0), rtol=1e-3, atol=0)


def test_aligned_runs_through_its_knots_at_ten_steps():
    from comfyui_cascade.samplers.spacing import ALIGNED

    levels = -2 * aligned(10, 1.0, 1.0, 0.0)[1:-1].log()
    torch.testing.assert_close(levels, torch.tensor(ALIGNED), rtol=0, atol=1e-2)


@given(st.floats(0.02, 0.98), st.floats(0.7, 3))
def test_time_of_the_schedule_is_read_back_from_its_level(t, shift):
    level = logsnr_of_time(torch.tensor(t), shift)
    if abs(level) < 9.2:
        assert schedule_time(level, shift).item() == pytest.approx(t, abs=1e-3)


def test_ends_of_a_shifted_schedule_are_the_ends_of_the_run():
    levels = logsnr_of_time(torch.tensor([1.0, 0.0]), 1.0)
    assert schedule_time(levels, 2.0).tolist() == [1.0, 0.0]


def test_shift_grows_with_the_side():
    assert shift_of_size(2.0, (48, 48), 24) == 4.0
    assert shift_of_size(2.0, (12, 48), 24) == 2.0
