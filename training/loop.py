"""The loop that every part is trained with.

Each step depends on the settings, the weights before it, the optimiser's state and its own number, and on
nothing else: examples come from an ``Order``, random numbers from the examples' positions. So a run that is
stopped and goes on ends with the weights of one that ran through.
"""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import set_seed
from PIL import Image
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.utils.data import DataLoader
from tqdm import tqdm

from .average import Average
from .checkpoint import Checkpoints, read, snapshot
from .draws import Draws, seed_of
from .examples import Examples, collate
from .order import Order
from .parts import Task
from .settings import Schedule, Settings
from .workspace import Workspace

SHEET_COLUMNS = 8


@dataclass(frozen=True)
class Run:
    """Where a run happens.

    Attributes:
        settings: what to train and how.
        base: folder that the settings' paths are relative to.
        folder: where this run's checkpoints, log, samples and files go.
        minutes: after which it stops for now, to go on another time; None for none.
        device: "cpu", "cuda", or "auto" for the best there is.
        say: takes lines for the person who waits.
    """

    settings: Settings
    base: Path
    folder: Path
    minutes: float | None = None
    device: str = "auto"
    say: Callable[[str], None] = print


@dataclass(frozen=True)
class Done:
    """How far a run came.

    Attributes:
        step: the last step taken.
        finished: whether it was the settings' last.
        minutes: of this call's training.
        loss: running mean of this call; None if there was nothing left to do.
        files: those written, by their names without the suffix.
    """

    step: int
    finished: bool
    minutes: float
    loss: float | None
    files: dict[str, Path]


def rate_at(step: int, schedule: Schedule) -> float:
    """Learning rate of a step, from 0: a linear rise, a plateau, half a cosine down."""
    rise = min(1.0, (step + 1) / max(1, schedule.warmup))
    left = schedule.steps - step
    fall = 0.5 * (1 - math.cos(math.pi * min(1.0, left / schedule.cooldown))) if schedule.cooldown else 1.0
    return schedule.rate * rise * fall


def train(run: Run, task_of: Callable[[Workspace], Task]) -> Done:
    """Train one part, or go on with it, and write its files.

    Args:
        run: what, where and for how long.
        task_of: one of ``parts.parts()``, as a rule.

    Raises:
        ValueError: the settings do not fit the data or the companions.
        OSError: a checkpoint could not be written.
    """
    settings, schedule = run.settings, run.settings.schedule
    if run.device == "cuda" and not torch.cuda.is_available():
        raise ValueError("there is no CUDA device here; leave --device out or set it to cpu")
    accelerator = Accelerator(
        cpu=run.device == "cpu",
        mixed_precision=schedule.precision,
        gradient_accumulation_steps=schedule.accumulate,
        log_with="tensorboard",
        project_dir=run.folder,
        dataloader_config=_split_batches(),
    )
    work = Workspace(settings, run.base, run.say)
    work.device = accelerator.device
    set_seed(schedule.seed)
    task = task_of(work)
    state = _State(run, task, accelerator)
    accelerator.init_trackers("log")
    start = time.monotonic()
    try:
        state.resume()
        state.train_on()
    finally:
        accelerator.end_training()
    files = write_files(task, state.shown_network(), run.folder, state.step) if state.is_main else {}
    finished = state.step == schedule.steps
    return Done(state.step, finished, (time.monotonic() - start) / 60, state.mean_loss, files)


def _split_batches() -> Any:
    from accelerate import DataLoaderConfiguration

    # A batch of the order is the whole step's: every process takes its share of it.
    return DataLoaderConfiguration(split_batches=True, use_seedable_sampler=False)


class _State:
    """A run in progress."""

    def __init__(self, run: Run, task: Task, accelerator: Accelerator):
        self.run, self.task, self.accelerator = run, task, accelerator
        self.settings, self.schedule = run.settings, run.settings.schedule
        self.is_main = accelerator.is_main_process
        optimizer = torch.optim.AdamW(
            (p for p in task.network.parameters() if p.requires_grad),
            lr=self.schedule.rate,
            betas=self.schedule.betas,
            weight_decay=self.schedule.weight_decay,
        )
        self.plain_optimizer = optimizer
        decay = self.schedule.average
        task.network.to(accelerator.device)
        self.average = Average(task.network, decay) if decay else None
        self.network, self.optimizer = accelerator.prepare(task.network, optimizer)
        self.checkpoints = Checkpoints(run.folder / "checkpoints", self.settings.log.keep)
        self.step = 0
        self.mean_loss: float | None = None

    def shown_network(self) -> nn.Module:
        """The network that samples and files come from, in evaluation mode."""
        return self.average.network if self.average else self.accelerator.unwrap_model(self.network).eval()

    def resume(self) -> None:
        """Go on from the last checkpoint, if there is one."""
        place = self.checkpoints.last()
        if place is None:
            return
        network = self.accelerator.unwrap_model(self.network)
        progress = read(place, network, self.average and self.average.network, self.plain_optimizer)
        if progress["seed"] != self.schedule.seed or progress["batch"] != self.schedule.batch:
            raise ValueError(
                f"{place} was written with seed {progress['seed']} and batches of {progress['batch']}, and "
                f"the settings say {self.schedule.seed} and {self.schedule.batch}; the order of the examples "
                "would change, so set them back or begin in another folder"
            )
        self.step = progress["step"]
        self.task.weights.restore(progress["level_weights"])
        self.run.say(f"{self.settings.part}: going on from step {self.step}")

    def train_on(self) -> None:
        """Take the steps that are left, or those that the time allows."""
        start, total = time.monotonic(), self.schedule.steps
        micro_batches = self._micro_batches()
        with tqdm(
            total=total, initial=self.step, desc=self.settings.part, unit="step", disable=not self.is_main,
            mininterval=0.5 if sys.stderr.isatty() else 20,
        ) as bar:  # fmt: skip
            while self.step < total:
                loss = self._take_step(micro_batches)
                self.mean_loss = loss if self.mean_loss is None else 0.98 * self.mean_loss + 0.02 * loss
                bar.set_postfix(loss=f"{self.mean_loss:.4f}", refresh=False)
                bar.update()
                out_of_time = (
                    self.run.minutes is not None and time.monotonic() - start > self.run.minutes * 60
                )
                self._keep_records(loss, last=out_of_time or self.step == total)
                if out_of_time:
                    break
        if self.mean_loss is not None:
            self.run.say(f"{self.settings.part}: loss {self.mean_loss:.4f} after step {self.step} of {total}")

    def _micro_batches(self) -> Iterator[dict[str, Any]]:
        schedule = self.schedule
        order = Order(
            self.task.work.buckets,
            schedule.batch // schedule.accumulate,
            schedule.seed,
            first=self.step * schedule.accumulate,
        )
        examples = Examples(self.task.fields(), schedule.seed)
        workers = self.settings.data.workers
        loader = DataLoader(
            examples, batch_sampler=order, collate_fn=collate, num_workers=workers,
            persistent_workers=workers > 0,
        )  # fmt: skip
        return iter(self.accelerator.prepare(loader))

    def _take_step(self, micro_batches: Iterator[dict[str, Any]]) -> float:
        # Dropout draws from torch's own source, which no batch owns.
        torch.manual_seed(seed_of("step", self.schedule.seed, self.step))
        self.network.train()
        for group in self.optimizer.param_groups:
            group["lr"] = rate_at(self.step, self.schedule)
        losses = []
        for _ in range(self.schedule.accumulate):
            batch = next(micro_batches)
            with self.accelerator.accumulate(self.network), self.accelerator.autocast():
                draws = Draws(self.schedule.seed, batch["position"], self.accelerator.device)
                loss = self.task.losses(self.network, batch, draws).mean()
                self.accelerator.backward(loss)
                if self.accelerator.sync_gradients:
                    self.accelerator.clip_grad_norm_(self.network.parameters(), self.schedule.clip)
                self.optimizer.step()
                self.optimizer.zero_grad(set_to_none=True)
            losses.append(loss.detach())
        self.step += 1
        if self.average:
            self.average.update(self.accelerator.unwrap_model(self.network), self.step)
        mean = self.accelerator.reduce(torch.stack(losses).mean(), "mean").item()
        if not math.isfinite(mean):
            raise ValueError(
                f"the loss of step {self.step} is {mean}; lower schedule.rate or choose another precision, "
                "then start again: the run goes on from its last checkpoint"
            )
        return mean

    def _keep_records(self, loss: float, last: bool) -> None:
        log = self.settings.log
        if self.step % log.every == 0 or last:
            values = {"loss": loss, "learning rate": self.optimizer.param_groups[0]["lr"]}
            self.accelerator.log(values, step=self.step)
        if self.step % log.checkpoint == 0 or last:
            self._write_checkpoint()
        if self.is_main and log.samples and self.step % log.samples == 0:
            write_sample(self.task, self.shown_network(), self.run.folder / "samples" / f"{self.step:09}.png")

    def _write_checkpoint(self) -> None:
        network = self.accelerator.unwrap_model(self.network)
        tensors = snapshot(network, self.average and self.average.network, self.plain_optimizer)
        if self.is_main:
            progress = {
                "seed": self.schedule.seed,
                "batch": self.schedule.batch,
                "examples": self.step * self.schedule.batch,
                "level_weights": self.task.weights.state(),
            }
            self.checkpoints.write(self.step, tensors, progress)
        self.accelerator.wait_for_everyone()


def write_files(task: Task, network: nn.Module, folder: Path, steps: int) -> dict[str, Path]:
    """Write each network that a task makes as a safetensors file that says what shapes cannot."""
    written = {}
    for name, (module, metadata) in task.files(network).items():
        weights = {key: value.detach().cpu().contiguous() for key, value in module.state_dict().items()}
        path = folder / f"{name}.safetensors"
        beside = path.with_suffix(".part")
        entries = {"format": "pt", "cascade.version": "1", "cascade.part": name, "cascade.steps": str(steps)}
        save_file(weights, beside, {**entries, **metadata})
        beside.replace(path)
        written[name] = path
    return written


@torch.inference_mode()
def write_sample(task: Task, network: nn.Module, path: Path) -> None:
    """Save what a network draws now, if it draws anything."""
    pictures = task.pictures(network.eval())
    if pictures is not None:
        path.parent.mkdir(parents=True, exist_ok=True)
        sheet(pictures, SHEET_COLUMNS).save(path)


def sheet(pictures: Tensor, columns: int) -> Image.Image:
    """Pictures ``b h w 3`` in [0, 1] side by side."""
    count, height, width, _ = pictures.shape
    page = Image.new("RGB", (columns * width, -(-count // columns) * height))
    for i, picture in enumerate(pictures.float().clamp(0, 1).mul(255).round().byte().cpu().numpy()):
        page.paste(Image.fromarray(picture), (i % columns * width, i // columns * height))
    return page
