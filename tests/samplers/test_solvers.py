"""Solvers on data whose clean estimate is known, and against each other."""

import math
from itertools import pairwise

import pytest
import torch
from comfyui_cascade.benchmarks.analytic import Gaussian, Mixture, nothing, relative
from comfyui_cascade.samplers.presets import PRESETS
from comfyui_cascade.samplers.solvers import SOLVERS, integral_weights, multistep
from comfyui_cascade.samplers.spacing import SPACINGS, cosine, exponential

DATA = Gaussian.like_pictures()


def error(solver, sigmas):
    return DATA.error(SOLVERS[solver], sigmas)


@pytest.mark.parametrize("rate", [1.0, 2.0])
@pytest.mark.parametrize("places", [[0.0], [0.0, -0.7], [0.0, -0.7, -1.1], [0.0, 0.9]])
def test_weights_integrate_polynomials_exactly(places, rate):
    length = 0.9
    u = torch.linspace(0, length, 20001, dtype=torch.float64)
    for power in range(len(places)):
        integral = torch.trapezoid(rate * (rate * (u - length)).exp() * u**power, u).item()
        values = [place**power for place in places]
        weighted = sum(w * v for w, v in zip(integral_weights(places, length, rate), values, strict=True))
        assert weighted == pytest.approx(integral, abs=1e-6)


@pytest.mark.parametrize(("solver", "order"), [("DDIM", 1), ("DPM++ 2M", 2), ("UniPC", 2), ("Heun", 2)])
def test_error_falls_with_the_order_of_the_solver(solver, order):
    errors = [error(solver, exponential(steps, 2.0)) for steps in (15, 30)]
    assert errors[0] / errors[1] > 2 ** (order - 0.35)


@pytest.mark.parametrize("solver", ["DDPM", "DPM++ 2M SDE", "DPM++ 3M SDE", "DPM++ 3M"])
def test_many_steps_arrive_at_the_data(solver):
    assert error(solver, exponential(400, 2.0)) < 0.02


@pytest.mark.parametrize(("eta", "name"), [(0.0, "DDIM"), (1.0, "DDPM")])
def test_first_order_is_the_references_step(eta, name):
    x, sigmas = 50 * torch.randn(2, 64), cosine(6, 2.0)[1:]

    def run(solver):
        torch.manual_seed(0)
        return solver(DATA.denoise, x, sigmas, lambda: torch.randn(x.shape), nothing)

    ours = run(lambda *given: multistep(1, eta, *given))
    torch.testing.assert_close(ours, run(SOLVERS[name]), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("solver", SOLVERS)
def test_a_first_level_that_repeats_changes_nothing(solver):
    sigmas = cosine(5, 2.0)
    twice = torch.cat([sigmas[:1], sigmas[:1], sigmas])
    x = sigmas[0] * torch.randn(3, 64, generator=torch.Generator().manual_seed(0))
    drawn, again = (
        SOLVERS[solver](DATA.denoise, x, levels, lambda: torch.zeros_like(x), nothing)
        for levels in (sigmas, twice)
    )
    if solver != "LCM":  # which forgets its noise at every level, repeated or not
        torch.testing.assert_close(drawn, again, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("solver", SOLVERS)
def test_callback_is_told_every_step_and_the_last_estimate(solver):
    heard, x = [], torch.randn(2, 64)
    drawn = SOLVERS[solver](
        DATA.denoise, x, cosine(4, 2.0), lambda: torch.randn(2, 64), lambda *a: heard.append(a)
    )
    assert [i for i, *_ in heard] == [0, 1, 2, 3]
    assert all(later < earlier for (_, earlier, *_), (_, later, *_) in pairwise(heard))
    if solver != "DDPM of diffusers":  # which ends at the least noise
        assert torch.equal(heard[-1][-1], drawn)


@pytest.mark.parametrize(("stage", "shift", "steps"), [("stage_c", 2.0, 20), ("stage_b", 1.0, 10)])
def test_fast_preset_is_no_worse_than_the_references_steps(stage, shift, steps):
    fast, kinds = PRESETS["fast"], Mixture(count=300)
    chosen = getattr(fast, stage)
    assert chosen.steps <= steps / 2
    levels = SPACINGS[chosen.spacing](chosen.steps, shift, 1.0, 0.0)
    reference = cosine(steps, shift)
    assert error(fast.sampler, levels) < min(error("DDIM", reference), error("DDPM", reference))
    exact = kinds.draw(SOLVERS["DPM++ 3M"], exponential(500, shift))
    found, theirs = (
        relative(kinds.draw(SOLVERS[name], run), exact)
        for name, run in ((fast.sampler, levels), ("DDIM", reference))
    )
    assert found < theirs


def test_known_path_of_one_gaussian_is_followed():
    sigmas = exponential(40, 2.0)
    x = sigmas[0] * torch.randn(4, 64, generator=torch.Generator().manual_seed(0))
    drawn = SOLVERS["UniPC"](DATA.denoise, x, sigmas, None, nothing)
    exact = x * DATA.spreads / (DATA.spreads**2 + sigmas[0] ** 2).sqrt()
    assert relative(drawn, exact) < 0.01
    assert math.isfinite(drawn.sum())
