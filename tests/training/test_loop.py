"""The training loop: it goes on from its checkpoint, and the losses are what they say."""

import dataclasses
import math

import pytest
import torch
from comfyui_cascade.samplers.schedule import alpha_sigma, logsnr_of_time
from comfyui_cascade.samplers.target import velocity
from comfyui_cascade.stage_b import StageB
from comfyui_cascade.stage_c import StageC
from comfyui_cascade.training import sizes
from comfyui_cascade.training.loop import Run, averaged, train
from comfyui_cascade.training.small import _noisy, _reading_loss, _weighted, initialise_
from comfyui_cascade.training.world import COLOURS, KINDS
from torch import nn


@pytest.fixture(autouse=True, scope="module")
def one_thread():
    """These networks are too small to share among threads, and training uses one."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def network():
    torch.manual_seed(0)
    return nn.Linear(4, 4)


def quiet(line):
    pass


class Steps:
    """A loss that keeps account of the steps it was asked for."""

    def __init__(self, network):
        self.network, self.seen = network, []

    def __call__(self, step):
        self.seen.append(step)
        generator = torch.Generator().manual_seed(step)
        return self.network(torch.randn(8, 4, generator=generator)).square().mean()


def test_a_resumed_run_goes_on_with_the_next_step(tmp_path):
    run = Run("part", tmp_path, minutes=0.002, rate=1e-3)
    first = network()
    before = Steps(first)
    train(run, first, before, quiet)
    again = network()
    after = Steps(again)
    train(dataclasses.replace(run, minutes=0.004), again, after, quiet)
    seen = before.seen + after.seen
    assert after.seen
    assert seen == list(range(len(seen)))


def test_a_finished_run_gives_its_weights_back_untouched(tmp_path):
    run = Run("part", tmp_path, minutes=0.002, rate=1e-3)
    trained = network()
    average = train(run, trained, Steps(trained), quiet)
    again = network()
    resumed = train(run, again, Steps(again), quiet)
    stored = averaged(run, network())
    for name, value in average.state_dict().items():
        assert torch.equal(value, resumed.state_dict()[name])
        assert torch.equal(value, stored.state_dict()[name])


def test_training_lowers_the_loss(tmp_path):
    trained = network()
    loss = Steps(trained)
    start = loss(0).item()
    train(Run("part", tmp_path, minutes=0.02, rate=1e-2), trained, loss, quiet)
    assert loss(0).item() < 0.5 * start


def test_noisy_latents_and_their_velocity_follow_the_schedule():
    clean = torch.randn(64, 4, 3, 3)
    x, t, target = _noisy(clean, torch.Generator().manual_seed(0), lean=1.0)
    alpha, sigma_vp = alpha_sigma(logsnr_of_time(t))
    alpha, sigma_vp = alpha.view(-1, 1, 1, 1), sigma_vp.view(-1, 1, 1, 1)
    # x and the velocity determine the clean latents: clean = alpha x - sigma v.
    assert torch.allclose(alpha * x - sigma_vp * target, clean, atol=2e-3)
    noise = sigma_vp * x + alpha * target
    assert torch.allclose(velocity(clean, noise, alpha, sigma_vp), target, atol=2e-3)
    assert abs(noise.std().item() - 1) < 0.05


def test_times_cover_the_schedule_evenly():
    _, t, _ = _noisy(torch.zeros(100, 1, 1, 1), torch.Generator().manual_seed(0), lean=1.0)
    for i, time in enumerate(t.tolist()):
        assert i / 100 - 0.01 <= time <= (i + 1) / 100 + 0.01


def test_weighted_error_is_a_weighted_mean():
    prediction, target = torch.randn(2, 3, 4, 4), torch.randn(2, 3, 4, 4)
    mask = (torch.rand(2, 1, 4, 4) > 0.5).float()
    total = weight = 0.0
    for b in range(2):
        for y in range(4):
            for x in range(4):
                w = 5.0 if mask[b, 0, y, x] else 1.0
                total += (
                    w * sum((prediction[b, c, y, x] - target[b, c, y, x]).item() ** 2 for c in range(3)) / 3
                )
                weight += w
    assert _weighted(prediction, target, mask, 5.0).item() == pytest.approx(total / weight, rel=1e-5)


def test_reading_loss_is_cross_entropy_where_things_are():
    kinds, colours = len(KINDS), len(COLOURS)
    readings = torch.randn(2, kinds + colours, 3, 3)
    labels = torch.tensor([[1, 2], [0, 4]])
    inside = (torch.rand(2, 3, 3, generator=torch.Generator().manual_seed(0)) > 0.5).float()
    total = 0.0
    for b, y, x in inside.nonzero().tolist():
        cell = readings[b, :, y, x]
        total -= cell[:kinds].log_softmax(0)[labels[b, 0]].item()
        total -= cell[kinds:].log_softmax(0)[labels[b, 1]].item()
    assert _reading_loss(readings, labels, inside).item() == pytest.approx(
        total / inside.sum().item(), rel=1e-5
    )


def tiny(config):
    """A stage's configuration at 32 channels a level, one block each."""
    levels = {
        side: tuple(
            dataclasses.replace(level, width=32, depth=1, c_skip=32 if level.c_skip else 0)
            for level in getattr(config.trunk, side)
        )
        for side in ("down", "up")
    }
    return dataclasses.replace(config, trunk=dataclasses.replace(config.trunk, c_cond=32, **levels))


def overfit(network, predict, clean, steps=60):
    """Loss of one batch with its noise, at the start and after some steps."""
    x, t, target = _noisy(clean, torch.Generator().manual_seed(0), lean=1.0)
    optimizer = torch.optim.AdamW(network.parameters(), lr=5e-3)
    losses = []
    for _ in range(steps):
        loss = (predict(x, t) - target).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses[0], losses[-1]


def test_a_tiny_stage_c_learns_one_batch_by_heart():
    torch.manual_seed(0)
    stage_c = initialise_(StageC(tiny(sizes.STAGE_C)))
    text, pooled = torch.randn(4, 5, sizes.TEXT_WIDTH), torch.randn(4, sizes.TEXT_WIDTH)
    image = torch.zeros(4, 1, sizes.IMAGE_WIDTH)
    start, end = overfit(
        stage_c, lambda x, t: stage_c(x, t, stage_c.tokens(text, pooled, image)), torch.randn(4, 16, 6, 6)
    )
    assert 0.8 < start < 1.3, "a network that starts at zero predicts nothing of a unit target"
    assert end < 0.45 * start


def test_a_tiny_stage_b_learns_one_batch_by_heart():
    torch.manual_seed(0)
    stage_b = initialise_(StageB(tiny(sizes.STAGE_B)))
    pooled, semantic = torch.randn(2, sizes.TEXT_WIDTH), torch.randn(2, 16, 4, 4)

    def predict(x, t):
        return stage_b(x, t, stage_b.tokens(pooled), stage_b.semantic_map(semantic, 16, 16))

    start, end = overfit(stage_b, predict, torch.randn(2, 4, 16, 16))
    assert 0.8 < start < 1.3
    assert end < 0.45 * start


def test_the_rate_falls_to_zero_at_the_end_of_the_time(tmp_path):
    rates = []
    trained = network()

    class Watched(Steps):
        def __call__(self, step):
            rates.append(step)
            return super().__call__(step)

    train(Run("part", tmp_path, minutes=0.005, rate=1.0, warmup=1), trained, Watched(trained), quiet)
    state = torch.load(tmp_path / "part.pt", weights_only=True)
    assert state["step"] == len(rates)
    assert state["optimizer"]["param_groups"][0]["lr"] < 0.01
    assert math.isfinite(state["spent"])
