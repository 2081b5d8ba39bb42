import math

import pytest
import torch
from comfyui_cascade.samplers.schedule import (
    add_noise,
    alpha_sigma,
    logsnr_of_sigma,
    logsnr_of_time,
    sigma_of_logsnr,
    spaced_logsnr,
    time_of_logsnr,
)
from hypothesis import given
from hypothesis import strategies as st

# Stage C at shift 2 in 20 steps, from running Stability's gdf in fp32: logSNR, t, a, b, sigma.
STAGE_C = (
    (-9.210240, 0.9935832, 0.0100000, 0.9999500, 99.99500),
    (-6.486321, 0.9749619, 0.0390106, 0.9992388, 25.61455),
    (-5.087794, 0.9496946, 0.0783183, 0.9969285, 12.72918),
    (-4.256245, 0.9239612, 0.1182256, 0.9929867, 8.39908),
    (-3.651504, 0.8975109, 0.1590459, 0.9872712, 6.20746),
    (-3.166546, 0.8700708, 0.2011076, 0.9795692, 4.87087),
    (-2.753193, 0.8413360, 0.2447582, 0.9695842, 3.96140),
    (-2.385144, 0.8109604, 0.2903662, 0.9569156, 3.29555),
    (-2.045983, 0.7785445, 0.3383178, 0.9410319, 2.78150),
    (-1.724228, 0.7436217, 0.3890082, 0.9212343, 2.36816),
    (-1.410921, 0.7056450, 0.4428192, 0.8966109, 2.02478),
    (-1.098212, 0.6639730, 0.5000752, 0.8659820, 1.73170),
    (-0.778321, 0.6178611, 0.5609650, 0.8278395, 1.47574),
    (-0.442539, 0.5664634, 0.6254086, 0.7802973, 1.24766),
    (-0.079892, 0.5088615, 0.6928474, 0.7210842, 1.04075),
    (0.325063, 0.4441375, 0.7619433, 0.6476437, 0.84999),
    (0.796634, 0.3715231, 0.8302132, 0.5574460, 0.67145),
    (1.378421, 0.2906396, 0.8937210, 0.4486233, 0.50197),
    (2.164270, 0.2018116, 0.9470981, 0.3209443, 0.33887),
    (3.434909, 0.1062651, 0.9842651, 0.1766978, 0.17952),
    (7.823780, 0.0071219, 0.9998000, 0.0199972, 0.02000),
)

# Stage B at shift 1 in 10 steps.
STAGE_B = (
    -9.210240, -3.701500, -2.265210, -1.366898, -0.659688, -0.024627,
    0.607973, 1.306402, 2.182928, 3.550565, 9.210074,
)  # fmt: skip

times = st.floats(0, 1, width=32)
shifts = st.floats(0.25, 8)


def test_stage_c_levels_are_those_of_the_reference():
    levels = spaced_logsnr(20, shift=2)
    columns = (levels, time_of_logsnr(levels), *alpha_sigma(levels), sigma_of_logsnr(levels))
    torch.testing.assert_close(torch.stack(columns, 1), torch.tensor(STAGE_C), rtol=1e-5, atol=2e-5)


def test_stage_b_levels_are_those_of_the_reference():
    levels = spaced_logsnr(10)
    torch.testing.assert_close(levels, torch.tensor(STAGE_B), rtol=1e-5, atol=2e-5)
    expected = [0.9935832, *(1 - i / 10 for i in range(1, 10)), 0.0022568]
    torch.testing.assert_close(time_of_logsnr(levels), torch.tensor(expected), rtol=0, atol=1e-5)


@given(times)
def test_time_returns_from_its_level(t):
    # Beyond these the variance is clamped, so that many times share a level.
    inside = min(max(t, 0.0025), 0.9935)
    assert time_of_logsnr(logsnr_of_time(torch.tensor(inside))).item() == pytest.approx(inside, abs=3e-4)


@given(st.floats(0.01, 100))
def test_level_returns_from_its_sigma(sigma):
    assert sigma_of_logsnr(logsnr_of_sigma(torch.tensor(sigma))).item() == pytest.approx(sigma, rel=1e-5)


@given(times, times, shifts)
def test_later_times_are_noisier(one, other, shift):
    early, late = sorted((one, other))
    low, high = (logsnr_of_time(torch.tensor(t), shift) for t in (late, early))
    assert low <= high


@given(times, shifts)
def test_level_stays_in_the_range_of_the_unshifted_schedule(t, shift):
    level = logsnr_of_time(torch.tensor(t), shift).item()
    assert -9.2103 < level < 9.2103


@given(st.floats(0.05, 0.95), st.floats(0.5, 4))
def test_shift_divides_the_ratio_of_amplitudes(t, shift):
    t = torch.tensor(t)
    expected = logsnr_of_time(t) - 2 * math.log(shift)
    assert logsnr_of_time(t, shift).item() == pytest.approx(expected.item(), abs=1e-5)


@given(st.floats(-9.2, 9.2))
def test_factors_keep_unit_variance(level):
    alpha, sigma_vp = alpha_sigma(torch.tensor(level))
    assert (alpha**2 + sigma_vp**2).item() == pytest.approx(1, abs=1e-6)


@given(st.integers(1, 100), shifts, st.floats(0.1, 1))
def test_levels_of_a_run_rise(steps, shift, start):
    levels = spaced_logsnr(steps, shift, start)
    assert len(levels) == steps + 1
    assert (levels.diff() >= 0).all()


def test_noise_is_added_by_each_samples_own_level():
    clean, noise = torch.randn(2, 2, 4, 3, 3).unbind(0)
    levels = torch.tensor([-2.0, 3.0])
    both = add_noise(clean, noise, levels)
    for i in range(2):
        torch.testing.assert_close(both[i], add_noise(clean[i : i + 1], noise[i : i + 1], levels[i])[0])


def test_half_precision_times_are_computed_in_fp32():
    assert logsnr_of_time(torch.tensor(0.5, dtype=torch.bfloat16)).dtype == torch.float32
