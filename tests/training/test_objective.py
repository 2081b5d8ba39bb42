"""What a diffusion stage is asked, against the reference's formulas written out number by number."""

import math

import pytest
import reference_loss
import torch
from comfyui_cascade.training.draws import Draws
from comfyui_cascade.training.objective import (
    AdaptiveWeight,
    ConstantWeight,
    P2Weight,
    draw_noise,
    draw_times,
    pyramid_noise,
    question,
    squared_error,
)
from comfyui_cascade.training.settings import Objective

TIMES = torch.tensor([0.001, 0.03, 0.4, 0.77, 0.999, 1.0])


def unit(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("prediction", ["noise", "velocity", "clean"])
@pytest.mark.parametrize("shift", [1.0, 2.0])
def test_question_is_the_references(prediction, shift):
    clean, noise = unit(6, 2, 3, 4), unit(6, 2, 3, 4, seed=1)
    objective = Objective(prediction=prediction, shift=shift)
    x, told, answer, logsnr = question(clean, noise, TIMES, objective)
    for i, r in enumerate(TIMES.tolist()):
        level = reference_loss.logsnr(r, shift)
        a, b = reference_loss.factors(level)
        # fp32 has few digits left beside a variance of 0.9999.
        assert logsnr[i].item() == pytest.approx(level, abs=2e-3 if abs(level) > 7 else 1e-4)
        assert told[i].item() == pytest.approx(reference_loss.told_time(level), abs=2e-5)
        torch.testing.assert_close(x[i], a * clean[i] + b * noise[i], atol=1e-5, rtol=1e-5)
        wanted = reference_loss.target(prediction, clean[i], noise[i], level)
        torch.testing.assert_close(answer[i], wanted, atol=1e-5, rtol=1e-5)


def test_schedule_is_the_one_written_down_from_a_run_of_the_reference():
    found = question(unit(3, 1, 1, 1), unit(3, 1, 1, 1), torch.tensor([0.5, 0.9, 0.05]), Objective(shift=2))[
        3
    ]
    torch.testing.assert_close(found, torch.tensor([-1.410921, -5.087794, 3.434909]), atol=2e-5, rtol=0)


def test_latents_in_half_precision_are_mixed_with_noise_in_full():
    clean, noise = unit(1, 4, 4, 4).bfloat16(), unit(1, 4, 4, 4, seed=1)
    x, *_ = question(clean, noise, torch.ones(1), Objective())
    a, b = reference_loss.factors(reference_loss.logsnr(1.0))
    assert x.dtype == torch.float32
    torch.testing.assert_close(x, a * clean.float() + b * noise, atol=1e-5, rtol=0)


def test_times_are_the_references():
    draws = Draws(3, range(50))
    uniform = Draws(3, range(50)).uniform(1).flatten()
    expected = torch.tensor([min(1.0, max(0.001, (1 - u) + 0.001)) for u in uniform.tolist()])
    torch.testing.assert_close(draw_times(draws, Objective(), batch=50), expected)


def test_a_lean_below_one_draws_times_towards_noise():
    plain, leaning = (
        draw_times(Draws(0, range(2000)), Objective(lean=lean), batch=2000).mean() for lean in (1.0, 0.5)
    )
    assert plain == pytest.approx(0.5, abs=0.03)
    assert leaning == pytest.approx(2 / 3, abs=0.03)


@pytest.mark.parametrize("each", [1, 4])
def test_stratified_times_fall_into_every_slice_of_a_batch(each):
    times = draw_times(Draws(0, range(24, 32)), Objective(stratified=True), batch=8, each=each)
    slices = ((1.001 - times) * 8 * each).floor().int().clamp(0, 8 * each - 1)
    assert sorted(slices.tolist()) == list(range(8 * each))


def test_stratified_times_do_not_depend_on_how_a_batch_is_split():
    objective = Objective(stratified=True)
    whole = draw_times(Draws(0, range(8, 16)), objective, batch=8, each=2)
    parts = [draw_times(Draws(0, range(a, a + 4)), objective, batch=8, each=2) for a in (8, 12)]
    torch.testing.assert_close(torch.cat(parts), whole, atol=0, rtol=0)


def test_pyramid_noise_has_unit_variance_and_the_references_shares():
    noise = pyramid_noise(Draws(0, range(600)), 2, 32, 32)
    assert noise.var().item() == pytest.approx(1, abs=0.05)
    # Sides 16, 8, 4, 2 and 1 count, with 0.75 to the power of the halvings.
    shares = [0.75**level for level in (1, 2, 3, 4, 5)]
    total = 1 + sum(share**2 for share in shares)
    # The mean of a picture keeps each level's variance over its number of cells.
    of_mean = (1 / 32**2 + sum(s**2 / (32 // 2**i) ** 2 for i, s in enumerate(shares, 1))) / total
    assert noise.mean(dim=(2, 3)).var().item() == pytest.approx(of_mean, rel=0.15)


def test_pyramid_noise_of_256_cells_has_the_published_multipliers():
    multipliers = [1, *(0.75**level for level in range(1, 10) if 1 <= 256 // 2**level <= 16)]
    assert [round(m, 3) for m in multipliers] == [1, 0.316, 0.237, 0.178, 0.133, 0.1]
    row = pyramid_noise(Draws(0, range(40)), 1, 256, 256)[:, 0]
    # Cells one apart share every coarse level, cells half a picture apart only the coarsest.
    near, total = (row[..., ::16] * row[..., 1::16]).mean().item(), sum(m**2 for m in multipliers)
    assert near == pytest.approx((total - 1) / total, abs=0.06)


def test_pyramid_noise_has_the_pictures_shape():
    assert pyramid_noise(Draws(0, [0]), 4, 16, 48).shape == (1, 4, 16, 48)


def test_offset_noise_shifts_each_channel_by_its_share():
    objective = Objective(offset_noise=0.5)
    noise = draw_noise(Draws(0, range(400)), objective, (400, 4, 16, 16))
    assert noise.mean(dim=(2, 3)).std().item() == pytest.approx(math.sqrt(0.25 + 1 / 256), rel=0.06)
    inside = noise - noise.mean(dim=(2, 3), keepdim=True)
    assert inside.std().item() == pytest.approx(1, abs=0.01)


def test_squared_error_weighs_regions():
    prediction, answer = unit(2, 3, 2, 2), unit(2, 3, 2, 2, seed=1)
    regions = torch.tensor([[[[1.0, 0], [0, 1]]], [[[0, 0], [0, 1]]]])
    found = squared_error(prediction, answer, regions, 5.0)
    for i in range(2):
        errors = (prediction[i] - answer[i]).square().mean(dim=0).flatten().tolist()
        wanted = reference_loss.region_mean(errors, regions[i].flatten().tolist(), 5.0)
        assert found[i].item() == pytest.approx(wanted, rel=1e-5)


def test_squared_error_without_regions_is_the_mean():
    prediction, answer = unit(2, 3, 2, 2), unit(2, 3, 2, 2, seed=1)
    expected = ((prediction - answer) ** 2).mean(dim=(1, 2, 3))
    torch.testing.assert_close(squared_error(prediction, answer), expected)
    torch.testing.assert_close(squared_error(prediction, answer, torch.ones(2, 1, 2, 2), 7.0), expected)


def test_p2_weight_is_the_references():
    levels = torch.linspace(-9, 9, 19)
    expected = torch.tensor([reference_loss.p2(level) for level in levels.tolist()])
    torch.testing.assert_close(P2Weight()(levels), expected)
    torch.testing.assert_close(ConstantWeight()(levels), torch.ones(19))


def test_adaptive_weight_follows_the_references_buckets():
    ours, reference = AdaptiveWeight(), reference_loss.Adaptive()
    generator = torch.Generator().manual_seed(0)
    for _ in range(30):
        levels = torch.rand(40, generator=generator) * 24 - 12  # some lie outside the buckets
        losses = torch.rand(40, generator=generator) * 3
        expected = torch.tensor([reference.weight(level) for level in levels.tolist()])
        torch.testing.assert_close(ours(levels), expected, rtol=1e-4, atol=0)
        ours.update(levels, losses)
        reference.update(levels.tolist(), losses.tolist())
    torch.testing.assert_close(ours.losses, torch.tensor(reference.losses), rtol=1e-5, atol=1e-6)


def test_of_two_losses_in_one_bucket_the_last_counts_alone():
    weight = AdaptiveWeight()
    weight.update(torch.tensor([0.5, 0.5, 5.0]), torch.tensor([9.0, 3.0, 1.0]))
    assert weight.losses[torch.searchsorted(weight.edges, 0.5)].item() == pytest.approx(0.99 + 0.03)


def test_adaptive_weight_is_clamped():
    weight = AdaptiveWeight()
    weight.losses.fill_(0.0)
    assert weight(torch.zeros(1)).item() == 1e7
    weight.losses.fill_(1e9)
    assert weight(torch.zeros(1)).item() == pytest.approx(1e-7)


def test_adaptive_weight_comes_back_from_its_state():
    weight, other = AdaptiveWeight(), AdaptiveWeight()
    weight.update(torch.tensor([0.5, 3.0]), torch.tensor([9.0, 3.0]))
    other.restore(weight.state())
    assert torch.equal(weight.losses, other.losses)
