"""The benchmark of few steps: its exact cases, and its command."""

import json

import pytest
import torch
from comfyui_cascade.benchmarks import steps
from comfyui_cascade.benchmarks.analytic import Gaussian, Mixture, nothing
from comfyui_cascade.samplers.solvers import SOLVERS
from comfyui_cascade.samplers.spacing import cosine

LEVELS = cosine(6, 2.0)


@pytest.mark.parametrize("solver", ["DDIM", "DDPM", "LCM", "DPM++ 3M SDE", "Heun"])
def test_error_on_gaussian_data_is_that_of_many_numbers(solver):
    data = Gaussian.like_pictures(8)
    generator = torch.Generator().manual_seed(0)
    start = torch.randn(100_000, 8, generator=generator) * (1 + LEVELS[0] ** 2).sqrt()
    drawn = SOLVERS[solver](
        data.denoise, start, LEVELS, lambda: torch.randn(start.shape, generator=generator), nothing
    )
    errors = (drawn.std(0) - data.spreads).square().mean() / data.spreads.square().mean()
    assert data.error(SOLVERS[solver], LEVELS) == pytest.approx(errors.sqrt().item(), abs=0.01)


def test_estimate_of_a_mixture_is_the_mean_of_what_may_lie_behind():
    kinds = Mixture(kinds=3, dimensions=2, spread=0.3, count=10)
    sigma, noisy = torch.tensor(0.8), torch.tensor([[0.3, -0.5]])
    generator = torch.Generator().manual_seed(0)
    which = torch.randint(3, (400_000,), generator=generator)
    clean = kinds.points[which] + 0.3 * torch.randn(400_000, 2, generator=generator)
    nearness = (-(clean - noisy).square().sum(1) / (2 * sigma**2)).softmax(0)
    torch.testing.assert_close(kinds.denoise(noisy, sigma)[0], nearness @ clean, rtol=0, atol=0.02)


@pytest.mark.parametrize(("solver", "evaluations", "taken"), [("DDIM", 5, 5), ("Heun", 5, 3), ("Heun", 6, 3)])
def test_columns_are_evaluations(solver, evaluations, taken):
    calls = []
    levels = steps.levels("cosine", solver, evaluations, 2.0)
    SOLVERS[solver](
        lambda x, sigma: calls.append(1) or x / 2, torch.ones(1), levels, lambda: torch.zeros(1), nothing
    )
    assert len(levels) - 1 == taken
    assert len(calls) <= evaluations


def test_command_prints_json_a_table_and_a_plot(capsys, tmp_path):
    few = [
        "--cases",
        "gaussian",
        "--solvers",
        "DDIM",
        "UniPC",
        "--spacings",
        "beta",
        "--evaluations",
        "4",
        "8",
    ]
    assert steps.main([*few, "--json", "--plot", str(tmp_path / "errors.png")]) == 0
    found = json.loads(capsys.readouterr().out)["gaussian"]
    assert [row["solver"] for row in found] == ["DDIM", "UniPC"]
    assert found[1]["evaluations"]["8"]["error"] < found[0]["evaluations"]["8"]["error"]
    assert (tmp_path / "errors.png").stat().st_size > 1000
    assert steps.main(few) == 0
    assert "UniPC         beta" in capsys.readouterr().out
