"""The loop and its steps against diffusers' scheduler and ComfyUI's samplers, with the same noise."""

from itertools import pairwise

import pytest
import torch
from comfyui_cascade.samplers.sample import sample
from comfyui_cascade.samplers.schedule import (
    alpha_sigma,
    logsnr_of_sigma,
    logsnr_of_time,
    sigma_of_logsnr,
    spaced_logsnr,
    time_of_logsnr,
)
from comfyui_cascade.samplers.solvers import SOLVERS
from comfyui_cascade.samplers.steps import ddim, ddpm, draw, lcm
from comfyui_cascade.samplers.target import TARGETS, from_noise

SHAPE = (2, 4, 6, 5)


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def toy_network(x, t):
    """A noise prediction that depends on both arguments and is wrong on purpose."""
    return torch.tanh(x.roll(1, -1) + 0.3 * x) * (0.5 + t.view(-1, 1, 1, 1))


def step_all(step, levels, seed=0):
    """Every noisy latent of a run."""
    x, generator = draw(torch.empty(SHAPE), seeded(seed)), seeded(seed + 1)
    run = [x]
    for now, then in pairwise(levels):
        noise = toy_network(x, time_of_logsnr(now).expand(len(x)))
        clean, _ = from_noise(noise, x, *alpha_sigma(now))
        x = step(clean, noise, now, then, draw(x, generator))
        run.append(x)
    return run


@pytest.mark.parametrize("steps", [4, 10, 20])
def test_ddpm_equals_diffusers_scheduler_up_to_its_noise_free_last_step(steps):
    from diffusers import DDPMWuerstchenScheduler

    scheduler, levels = DDPMWuerstchenScheduler(), spaced_logsnr(steps)
    scheduler.set_timesteps(steps)
    x, generator = draw(torch.empty(SHAPE), seeded()), seeded(1)
    for i, expected in enumerate(step_all(ddpm, levels)[1:-1]):
        noise = toy_network(x, time_of_logsnr(levels[i]).expand(len(x)))
        r = scheduler.timesteps[i].expand(len(x))
        x = scheduler.step(noise, r, x, generator=generator).prev_sample
        torch.testing.assert_close(x, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("steps", [3, 12])
def test_steps_equal_euler_steps_on_unscaled_latents(steps):
    levels = spaced_logsnr(steps, shift=2)
    sigmas, alphas = sigma_of_logsnr(levels), alpha_sigma(levels)[0]
    for step, eta in ((ddim, 0.0), (ddpm, 1.0)):
        run, generator = step_all(step, levels), seeded(1)
        for i in range(steps):
            x, sigma, next_sigma = run[i] / alphas[i], sigmas[i], sigmas[i + 1]
            noise = toy_network(run[i], time_of_logsnr(levels[i]).expand(2))
            up = eta * (next_sigma**2 * (sigma**2 - next_sigma**2) / sigma**2).sqrt()
            down = (next_sigma**2 - up**2).sqrt()
            euler = x + noise * (down - sigma) + up * draw(x, generator)
            torch.testing.assert_close(run[i + 1], euler * alphas[i + 1], rtol=1e-4, atol=1e-4)


def test_lcm_forgets_the_noise_it_was_given():
    clean, fresh = torch.randn(2, *SHAPE)
    now, then = torch.tensor(-3.0), torch.tensor(0.5)
    noises = torch.randn(2, *SHAPE)
    assert torch.equal(lcm(clean, noises[0], now, then, fresh), lcm(clean, noises[1], now, then, fresh))


@pytest.mark.parametrize("solver", SOLVERS.values(), ids=SOLVERS)
def test_right_predictions_arrive_at_the_clean_latent(solver):
    clean = torch.randn(SHAPE, generator=seeded(5))

    def network(x, t):
        alpha, sigma_vp = alpha_sigma(logsnr_of_time(t[:1]))
        return (x - alpha * clean) / sigma_vp

    result = sample(network, draw(clean, seeded()), generator=seeded(1), steps=8, solver=solver)
    torch.testing.assert_close(result, clean, rtol=1e-2, atol=1e-2)


def as_prediction(name):
    """The toy network, predicting something else of the same meaning."""

    def network(x, t):
        alpha, sigma_vp = (factor.view(-1, 1, 1, 1) for factor in alpha_sigma(logsnr_of_time(t)))
        noise = toy_network(x, t)
        clean = (x - sigma_vp * noise) / alpha
        return {"noise": noise, "clean": clean, "velocity": alpha * noise - sigma_vp * clean}[name]

    return network


@pytest.mark.parametrize("name", TARGETS)
def test_result_does_not_depend_on_what_the_network_predicts(name):
    def run(name):
        start = draw(torch.empty(SHAPE), seeded())
        return sample(
            as_prediction(name), start, generator=seeded(1), unconditional=as_prediction(name),
            steps=6, cfg=1.5, target=TARGETS[name], start=0.9,
        )  # fmt: skip

    torch.testing.assert_close(run(name), run("noise"), rtol=1e-3, atol=1e-3)


def test_same_seed_gives_the_same_latents():
    x = draw(torch.empty(SHAPE), seeded())
    assert torch.equal(*(sample(toy_network, x, generator=seeded(7), steps=3) for _ in range(2)))


def test_callback_hears_of_every_step():
    heard = []
    x = draw(torch.empty(SHAPE), seeded())
    result = sample(
        toy_network, x, generator=seeded(), steps=3, callback=lambda i, clean: heard.append((i, clean))
    )
    assert [i for i, _ in heard] == [0, 1, 2]
    assert heard[-1][1] is result


class HostModel:
    """What ComfyUI's samplers call: unscaled latents and sigmas in, clean estimate out."""

    def __init__(self, sampling):
        self.inner_model = self
        self.model_sampling = sampling
        self.model_patcher = self

    def get_model_object(self, name):
        return self.model_sampling

    def __call__(self, x, sigma, **_):
        scale = (1 + sigma**2).sqrt().view(-1, 1, 1, 1)
        noise = toy_network(x / scale, self.model_sampling.timestep(sigma))
        return x - sigma.view(-1, 1, 1, 1) * noise


@pytest.fixture(scope="module")
def host_sampling(comfy_nodes):
    import comfy.model_sampling

    class Sampling(comfy.model_sampling.StableCascadeSampling, comfy.model_sampling.EPS):
        pass

    return Sampling()


@pytest.mark.parametrize("shift", [1.0, 2.0])
def test_schedule_equals_the_hosts(host_sampling, shift, monkeypatch):
    # Below, the host's clamp comes after the shift and not before, and fp32 leaves few digits of 1 - alpha².
    t = torch.linspace(0.02, 1, 200)
    monkeypatch.setattr(host_sampling, "shift", shift)
    theirs = torch.stack([host_sampling.sigma(value) for value in t])
    torch.testing.assert_close(sigma_of_logsnr(logsnr_of_time(t, shift)), theirs, rtol=1e-4, atol=0)
    ours = time_of_logsnr(logsnr_of_sigma(theirs))
    torch.testing.assert_close(ours, host_sampling.timestep(theirs), rtol=0, atol=2e-6)


@pytest.mark.parametrize(
    ("solver", "host_sampler"),
    [
        ("DDPM", "sample_ddpm"),
        ("DDPM", "sample_euler_ancestral"),
        ("DDIM", "sample_euler"),
        ("LCM", "sample_lcm"),
        ("DPM++ 2M", "sample_res_multistep"),
        ("Heun", "sample_exp_heun_2_x0"),
    ],
)
@pytest.mark.parametrize("shift", [1.0, 2.0])
def test_run_equals_the_hosts_sampler(host_sampling, solver, host_sampler, shift):
    from comfy.k_diffusion import sampling as samplers

    levels = spaced_logsnr(12, shift)
    x, generator = draw(torch.empty(SHAPE), seeded()), seeded(1)
    ours = sample(toy_network, x, generator=seeded(1), steps=12, shift=shift, solver=SOLVERS[solver])
    # The host ends at sigma 0, where the latent is the clean estimate that ours returns.
    sigmas = torch.cat([sigma_of_logsnr(levels)[:-1], torch.zeros(1)])
    random = {"DDPM", "LCM"}
    noise = {"noise_sampler": lambda *_: draw(x, generator)} if solver in random else {}
    start = x / alpha_sigma(levels[0])[0]
    theirs = getattr(samplers, host_sampler)(HostModel(host_sampling), start, sigmas, disable=True, **noise)
    torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=1e-3)
