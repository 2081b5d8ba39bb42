import pytest
import torch
from comfyui_cascade.samplers.guidance import guide, rescale
from hypothesis import given
from hypothesis import strategies as st


def pair():
    return torch.randn(2, 2, 4, 5, 5, generator=torch.Generator().manual_seed(0))


def test_cfg_of_one_is_the_conditional_prediction():
    conditional, unconditional = pair()
    torch.testing.assert_close(guide(conditional, unconditional, 1.0), conditional)


def test_cfg_of_zero_is_the_unconditional_prediction():
    conditional, unconditional = pair()
    assert torch.equal(guide(conditional, unconditional, 0.0), unconditional)


@given(st.floats(-10, 10))
def test_guidance_leaves_equal_predictions_alone(cfg):
    conditional, _ = pair()
    torch.testing.assert_close(guide(conditional, conditional, cfg), conditional)


def test_full_rescale_has_the_conditional_spread():
    conditional, unconditional = pair()
    guided = guide(conditional, unconditional, 7.0)
    assert rescale(guided, conditional, 1.0).std().item() == pytest.approx(conditional.std().item(), rel=1e-5)


def test_zero_rescale_changes_nothing():
    conditional, guided = pair()
    assert torch.equal(rescale(guided, conditional, 0.0), guided)
