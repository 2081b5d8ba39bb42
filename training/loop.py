"""The loop every part is trained with: time-boxed, resumable, with an average of the weights."""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

CHECKPOINT_SECONDS = 60.0
REPORT_SECONDS = 20.0


@dataclass(frozen=True)
class Run:
    """How long and how fast to train one part.

    Attributes:
        name: of the part; its checkpoint is ``folder/name.pt``.
        folder: where checkpoints go.
        minutes: of training, over all resumed runs; the learning rate falls to zero at their end.
        rate: peak learning rate.
        decay: of the average of the weights, per step.
        warmup: steps over which the rate rises.
    """

    name: str
    folder: Path
    minutes: float
    rate: float
    decay: float = 0.998
    warmup: int = 100

    @property
    def checkpoint(self) -> Path:
        return self.folder / f"{self.name}.pt"


def train(
    run: Run, network: nn.Module, loss_of_step: Callable[[int], Tensor], say: Callable[[str], None]
) -> nn.Module:
    """Train a network, going on from its checkpoint if there is one.

    Args:
        run: see ``Run``.
        network: what to train.
        loss_of_step: the loss of a step, by its number, which also seeds what is random in it.
        say: called with progress lines.

    Returns:
        A copy of the network with averaged weights, in evaluation mode.
    """
    optimizer = torch.optim.AdamW(network.parameters(), lr=run.rate, betas=(0.9, 0.99), weight_decay=0.01)
    average = copy.deepcopy(network).eval().requires_grad_(False)
    step, spent = _resume(run, network, average, optimizer)
    mark = saved = reported = time.monotonic()
    mean = None
    while spent < run.minutes * 60:
        rate = (
            run.rate
            * min(1, (step + 1) / run.warmup)
            * 0.5
            * (1 + math.cos(math.pi * spent / (run.minutes * 60)))
        )
        for group in optimizer.param_groups:
            group["lr"] = rate
        loss = loss_of_step(step)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimizer.step()
        step += 1
        _update_average(average, network, min(run.decay, (1 + step) / (10 + step)))
        now = time.monotonic()
        spent, mark = spent + now - mark, now
        mean = loss.item() if mean is None else 0.98 * mean + 0.02 * loss.item()
        if now - reported > REPORT_SECONDS:
            say(f"{run.name}: step {step}, loss {mean:.4f}, {spent / 60:.1f} of {run.minutes:g} min")
            reported = now
        if now - saved > CHECKPOINT_SECONDS:
            _save(run, network, average, optimizer, step, spent)
            saved = now
    _save(run, network, average, optimizer, step, spent)
    say(f"{run.name}: done after {step} steps and {spent / 60:.1f} min")
    return average


def averaged(run: Run, network: nn.Module) -> nn.Module:
    """The averaged weights in a run's checkpoint, in a copy of ``network``."""
    average = copy.deepcopy(network).eval().requires_grad_(False)
    average.load_state_dict(torch.load(run.checkpoint, weights_only=True)["average"])
    return average


@torch.no_grad()
def _update_average(average: nn.Module, network: nn.Module, decay: float) -> None:
    for mine, theirs in zip(average.parameters(), network.parameters(), strict=True):
        mine.lerp_(theirs, 1 - decay)
    for mine, theirs in zip(average.buffers(), network.buffers(), strict=True):
        mine.copy_(theirs)


def _resume(
    run: Run, network: nn.Module, average: nn.Module, optimizer: torch.optim.Optimizer
) -> tuple[int, float]:
    if not run.checkpoint.exists():
        return 0, 0.0
    state = torch.load(run.checkpoint, weights_only=True)
    network.load_state_dict(state["network"])
    average.load_state_dict(state["average"])
    optimizer.load_state_dict(state["optimizer"])
    return state["step"], state["spent"]


def _save(
    run: Run,
    network: nn.Module,
    average: nn.Module,
    optimizer: torch.optim.Optimizer,
    step: int,
    spent: float,
) -> None:
    """Write beside, then rename: a run that is killed leaves the last whole checkpoint."""
    run.folder.mkdir(parents=True, exist_ok=True)
    beside = run.checkpoint.with_suffix(".part")
    state = {
        "network": network.state_dict(),
        "average": average.state_dict(),
        "optimizer": optimizer.state_dict(),
    }
    torch.save({**state, "step": step, "spent": spent}, beside)
    beside.replace(run.checkpoint)
