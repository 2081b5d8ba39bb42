import pytest
import torch
from comfyui_cascade.samplers.schedule import add_noise, alpha_sigma
from comfyui_cascade.samplers.target import TARGETS, velocity
from hypothesis import given
from hypothesis import strategies as st


def predictions(clean, noise, alpha, sigma_vp):
    return {"noise": noise, "velocity": velocity(clean, noise, alpha, sigma_vp), "clean": clean}


@pytest.mark.parametrize("name", TARGETS)
@given(level=st.floats(-4, 4), seed=st.integers(0, 1000))
def test_target_recovers_clean_and_noise(name, level, seed):
    clean, noise = torch.randn(2, 1, 4, 3, 3, generator=torch.Generator().manual_seed(seed)).double()
    level = torch.tensor(level, dtype=torch.float64)
    alpha, sigma_vp = alpha_sigma(level)
    x = add_noise(clean, noise, level)
    found = TARGETS[name](predictions(clean, noise, alpha, sigma_vp)[name], x, alpha, sigma_vp)
    torch.testing.assert_close(found, (clean, noise))


@pytest.mark.parametrize("name", TARGETS)
def test_target_of_a_wrong_prediction_still_composes_x(name):
    x, prediction = torch.randn(2, 1, 4, 3, 3).double()
    alpha, sigma_vp = alpha_sigma(torch.tensor(0.7).double())
    clean, noise = TARGETS[name](prediction, x, alpha, sigma_vp)
    torch.testing.assert_close(alpha * clean + sigma_vp * noise, x)
