import pytest
import torch
from comfyui_cascade.samplers.guidance import (
    EMPTY,
    METHODS,
    NEGATIVE,
    POSITIVE,
    RESCALES,
    TEXT,
    Guidance,
    guide,
    projected,
    rescale,
)
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


def noises(count=4):
    made = torch.randn(count, 3, 4, 5, 5, generator=torch.Generator().manual_seed(2))
    return dict(zip((POSITIVE, NEGATIVE, EMPTY, TEXT), made, strict=False))


X = 3 * torch.randn(3, 4, 5, 5, generator=torch.Generator().manual_seed(3))


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("over", RESCALES)
def test_a_picture_is_guided_alike_in_every_batch(method, over):
    guidance = Guidance(cfg=5.0, rho=0.5 if over == "picture" else 0.0, rescale=RESCALES[over],
                        method=METHODS[method], negative_strength=0.7, cfg_image=2.0)  # fmt: skip
    together = guidance(X, 0.5, noises())
    for i in range(3):
        alone = guidance(X[i : i + 1], 0.5, {name: one[i : i + 1] for name, one in noises().items()})
        torch.testing.assert_close(together[i], alone[0], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("method", METHODS)
def test_every_method_leaves_equal_predictions_alone(method):
    same = noises()[POSITIVE]
    torch.testing.assert_close(METHODS[method](X, same, same, 7.0), same, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("method", METHODS)
def test_every_method_at_a_scale_of_one_is_the_conditional_prediction(method):
    conditional, unconditional = noises()[POSITIVE], noises()[NEGATIVE]
    found = METHODS[method](X, conditional, unconditional, 1.0)
    torch.testing.assert_close(found, conditional, rtol=1e-4, atol=1e-5)


def test_projection_adds_nothing_along_the_clean_estimate():
    conditional, unconditional = noises()[POSITIVE], noises()[NEGATIVE]
    update = projected(X, conditional, unconditional, 7.0) - conditional
    along = (update * (X - conditional)).sum((1, 2, 3))
    torch.testing.assert_close(along, torch.zeros(3), rtol=0, atol=1e-2)
    whole = projected(X, conditional, unconditional, 7.0, parallel=1.0)
    torch.testing.assert_close(whole, guide(conditional, unconditional, 7.0), rtol=1e-4, atol=1e-4)


def test_projection_shortens_what_is_too_long():
    conditional, unconditional = noises()[POSITIVE], noises()[NEGATIVE]
    update = projected(X, conditional, unconditional, 2.0, parallel=1.0, largest=0.3) - conditional
    size = update.square().mean((1, 2, 3)).sqrt()
    torch.testing.assert_close(size, torch.full((3,), 0.3))


def test_scale_moves_in_a_line_with_time_and_rests_outside_its_interval():
    guidance = Guidance(cfg=5.0, cfg_end=1.0, start=0.9, end=0.2)
    assert guidance.scale(0.5) == 3.0
    assert [guidance.scale(t) for t in (1.0, 0.1)] == [1.0, 1.0]
    assert guidance.needed(0.95) == (POSITIVE,)
    assert guidance.needed(0.5) == (POSITIVE, NEGATIVE)


@given(st.floats(0, 5))
def test_perpendicular_negative_adds_nothing_along_the_prompt(strength):
    made = noises(3)
    base = Guidance(cfg=4.0, negative_strength=0.0)(X, 0.5, made)
    found = Guidance(cfg=4.0, negative_strength=strength)(X, 0.5, made)
    along = ((found - base) * (made[POSITIVE] - made[EMPTY])).sum((1, 2, 3))
    torch.testing.assert_close(along, torch.zeros(3), rtol=0, atol=1e-2)
