"""The loop that every part is trained with.

Each step depends on the settings, the weights before it, the optimiser's state and its own number, and on
nothing else: examples come from an ``Order``, random numbers from the examples' positions. So a run that is
stopped and goes on ends with the weights of one that ran through, and one whose steps are split, over time or
over processes, with those of one whose steps are not.
"""

from __future__ import annotations

import copy
import math
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator, DataLoaderConfiguration, DistributedType, InitProcessGroupKwargs
from accelerate.state import AcceleratorState
from accelerate.utils import set_seed
from PIL import Image
from torch import Tensor, nn
from tqdm import tqdm

from ..checkpoints.save import save_tensors
from .average import Average
from .checkpoint import Checkpoints, read, snapshot, whole_weights
from .draws import Draws, seed_of
from .examples import Examples, batches
from .order import Order
from .settings import Schedule, Settings
from .task import Task
from .workspace import Workspace

SHEET_COLUMNS = 8

LONGEST_WAIT = timedelta(days=2)
"""Processes wait for the first while it encodes a whole data set."""


@dataclass(frozen=True)
class Run:
    """Where a run happens.

    Attributes:
        settings: what to train and how.
        base: folder that the settings' paths are relative to.
        folder: where this run's checkpoints, log, samples and files go.
        minutes: of training, not of making caches, after which it stops for now, to go on another time;
            None for none.
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
        task_of: one of ``parts.PARTS``, as a rule.

    Raises:
        ValueError: the settings do not fit the data or the companions.
        OSError: a checkpoint could not be written.
    """
    settings, schedule = run.settings, run.settings.schedule
    if run.device == "cuda" and not torch.cuda.is_available():
        raise ValueError("there is no CUDA device here; leave --device out or set it to cpu")
    accelerator = _accelerator(run)
    work = Workspace(settings, run.base, run.say if accelerator.is_main_process else lambda line: None)
    work.device = accelerator.device
    set_seed(schedule.seed)
    task = task_of(work)
    state = _State(run, task, accelerator)
    try:
        state.resume()
        # What was logged after the checkpoint that the run goes on from is logged again.
        accelerator.init_trackers("log", init_kwargs={"tensorboard": {"purge_step": state.step + 1}})
        state.train_on()
    finally:
        for tracker in accelerator.trackers:  # the processes stay together: there are files to write
            tracker.finish()
    files = state.write_files()
    finished = state.step == schedule.steps
    return Done(state.step, finished, state.minutes, state.mean_loss, files)


def _accelerator(run: Run) -> Accelerator:
    schedule = run.settings.schedule
    # It is shared by all runs of a process, which may differ in precision.
    AcceleratorState._reset_state()
    accelerator = Accelerator(
        cpu=run.device == "cpu",
        mixed_precision=schedule.precision,
        gradient_accumulation_steps=schedule.accumulate,
        log_with="tensorboard",
        project_dir=run.folder,
        # A batch of the order is everybody's: each process takes its share of it.
        dataloader_config=DataLoaderConfiguration(split_batches=True, use_seedable_sampler=False),
        kwargs_handlers=[InitProcessGroupKwargs(timeout=LONGEST_WAIT)],
    )
    pieces = schedule.accumulate * accelerator.num_processes
    if schedule.batch % pieces:
        raise ValueError(
            f"a batch of {schedule.batch} does not split into {schedule.accumulate} parts for "
            f"{accelerator.num_processes} processes; make schedule.batch a multiple of {pieces}"
        )
    if accelerator.distributed_type is DistributedType.FSDP:
        check_sharding(schedule, accelerator.is_fsdp2)
    return accelerator


def check_sharding(schedule: Schedule, by_parameter: bool) -> None:
    """Refuse what does not go together with weights that are sharded over processes.

    Args:
        schedule: of the run.
        by_parameter: whether PyTorch's second FSDP shards them.

    Raises:
        ValueError: it does not.
    """
    if schedule.average:
        raise ValueError(
            "the weights are sharded over the processes (FSDP), and their average would not follow them; "
            "set schedule.average to 0"
        )
    if not by_parameter:
        # The first wraps blocks, and the trunk no longer knows what kind they are.
        raise ValueError("the weights are sharded by FSDP 1, which hides the blocks; set fsdp_version to 2")


class _State:
    """A run in progress."""

    def __init__(self, run: Run, task: Task, accelerator: Accelerator):
        self.run, self.task, self.accelerator = run, task, accelerator
        self.settings, self.schedule = run.settings, run.settings.schedule
        self.is_main = accelerator.is_main_process
        self.is_sharded = accelerator.distributed_type is DistributedType.FSDP
        optimizer = torch.optim.AdamW(
            (p for p in task.network.parameters() if p.requires_grad),
            lr=self.schedule.rate,
            betas=self.schedule.betas,
            weight_decay=self.schedule.weight_decay,
        )
        decay = self.schedule.average
        task.network.to(accelerator.device)
        self.average = Average(task.network, decay) if decay else None
        # Of sharded weights no process has a whole network to write, so a hollow one is kept to be filled.
        self.hollow = copy.deepcopy(task.network).to("meta") if self.is_sharded else None
        self.network, self.optimizer = accelerator.prepare(task.network, optimizer)
        self.checkpoints = Checkpoints(run.folder / "checkpoints", self.settings.log.keep)
        self.step = 0
        self.minutes = 0.0
        self.mean_loss: float | None = None

    @property
    def _averaged(self) -> nn.Module | None:
        return self.average.network if self.average else None

    def shown_network(self) -> nn.Module:
        """The network that samples come from, in evaluation mode."""
        return self._averaged or self.accelerator.unwrap_model(self.network).eval()

    def write_files(self) -> dict[str, Path]:
        """Write the run's files in the main process; all have to ask for it."""
        network = self.hollow
        if network is None:
            network = self.shown_network()
        else:
            whole = whole_weights(self.network)
            if self.is_main:
                network.load_state_dict(whole, assign=True)
        return write_files(self.task, network, self.run.folder, self.step) if self.is_main else {}

    def resume(self) -> None:
        """Go on from the last checkpoint, if there is one."""
        place = self.checkpoints.last()
        if place is None:
            return
        progress = read(place, self.network, self._averaged, self.optimizer.optimizer)
        pictures = len(self.task.work.source)
        if progress.get("pictures", pictures) != pictures:
            raise ValueError(
                f"{place} was written when there were {progress['pictures']} pictures, and there are "
                f"{pictures}; the order of the examples would change, so bring the others back, or name "
                "the run's file in start and begin in another folder"
            )
        if progress["seed"] != self.schedule.seed or progress["batch"] != self.schedule.batch:
            raise ValueError(
                f"{place} was written with seed {progress['seed']} and batches of {progress['batch']}, and "
                f"the settings say {self.schedule.seed} and {self.schedule.batch}; the order of the examples "
                "would change, so set them back or begin in another folder"
            )
        self.step = progress["step"]
        self.task.weights.restore(progress["level_weights"])
        self.task.work.say(f"{self.settings.part}: going on from step {self.step}")

    def train_on(self) -> None:
        """Take the steps that are left, or those that the time allows."""
        total, micro_batches = self.schedule.steps, self._micro_batches()
        start = time.monotonic()
        with tqdm(
            total=total, initial=self.step, desc=self.settings.part, unit="step", disable=not self.is_main,
            mininterval=0.5 if sys.stderr.isatty() else 20,
        ) as bar:  # fmt: skip
            while self.step < total:
                loss = self._take_step(micro_batches)
                self.mean_loss = loss if self.mean_loss is None else 0.98 * self.mean_loss + 0.02 * loss
                bar.set_postfix(loss=f"{self.mean_loss:.4f}", refresh=False)
                bar.update()
                self.minutes = (time.monotonic() - start) / 60
                out_of_time = self._out_of_time()
                self._keep_records(loss, last=out_of_time or self.step == total)
                if out_of_time:
                    break
        if self.mean_loss is not None:
            self.task.work.say(
                f"{self.settings.part}: loss {self.mean_loss:.4f} after step {self.step} of {total}"
            )

    def _out_of_time(self) -> bool:
        """Whether the time is over; processes agree on it, by the first whose clock says so."""
        if self.run.minutes is None:
            return False
        over = self.minutes > self.run.minutes
        return bool(self.accelerator.reduce(torch.tensor(float(over), device=self.accelerator.device)))

    def _micro_batches(self) -> Iterator[dict[str, Any]]:
        schedule, buckets = self.schedule, self.task.work.buckets
        order = Order(buckets, schedule.batch, schedule.seed, schedule.accumulate, first=self.step)
        with self.accelerator.main_process_first():
            examples = Examples(self.task.fields(), schedule.seed, buckets)
            examples[next(iter(order))[0]]  # so that all caches are there before processes and workers part
        return iter(self.accelerator.prepare(batches(examples, order, self.settings.data.workers)))

    def _take_step(self, micro_batches: Iterator[dict[str, Any]]) -> float:
        self.network.train()
        for group in self.optimizer.param_groups:
            group["lr"] = rate_at(self.step, self.schedule)
        losses = []
        for part in range(self.schedule.accumulate):
            batch = next(micro_batches)
            # Dropout draws from torch's own source, as do loaders when they begin, hence after the batch.
            place = (self.step, part, self.accelerator.process_index)
            torch.manual_seed(seed_of("step", self.schedule.seed, *place))
            # Autocast is the network's own: what is only used, and the objective's arithmetic, stay in fp32.
            with self.accelerator.accumulate(self.network):
                draws = Draws(self.schedule.seed, batch["position"], self.accelerator.device)
                loss = self.task.losses(self.network, batch, draws).mean()
                self.accelerator.backward(loss)
                if self.accelerator.sync_gradients:
                    self.accelerator.clip_grad_norm_(self.network.parameters(), self.schedule.clip)
                self.optimizer.step()
                self.optimizer.zero_grad(set_to_none=True)
            losses.append(loss.detach())
        self.step += 1
        self._let_weights_learn()
        if self.average:
            self.average.update(self.accelerator.unwrap_model(self.network), self.step)
        mean = self.accelerator.reduce(torch.stack(losses).mean(), "mean").item()
        if not math.isfinite(mean):
            raise ValueError(
                f"the loss of step {self.step} is {mean}; lower schedule.rate or choose another precision, "
                "then start again: the run goes on from its last checkpoint"
            )
        return mean

    def _let_weights_learn(self) -> None:
        """Tell the weights over noise levels what the step has shown, in all its parts and processes."""
        if self.task.seen:
            parts = [self.accelerator.gather(part) for part in self.task.seen]
            self.task.weights.update(*(torch.cat(column) for column in zip(*parts, strict=True)))
            self.task.seen.clear()

    def _keep_records(self, loss: float, last: bool) -> None:
        log = self.settings.log
        if self._is_due(log.every) or last:
            values = {"loss": loss, "learning rate": self.optimizer.param_groups[0]["lr"]}
            self.accelerator.log(values, step=self.step)
        if self._is_due(log.checkpoint) or last:
            self._write_checkpoint()
        if self._is_due(log.samples) and self.is_main and not self.is_sharded:
            write_sample(self.task, self.shown_network(), self.run.folder / "samples" / f"{self.step:09}.png")

    def _is_due(self, every: int) -> bool:
        return every > 0 and self.step % every == 0

    def _write_checkpoint(self) -> None:
        tensors = snapshot(self.network, self._averaged, self.optimizer.optimizer)
        if self.is_main:
            progress = {
                "seed": self.schedule.seed,
                "batch": self.schedule.batch,
                "pictures": len(self.task.work.source),
                "examples": self.step * self.schedule.batch,
                "level_weights": self.task.weights.state(),
            }
            self.checkpoints.write(self.step, tensors, progress)
        self.accelerator.wait_for_everyone()


def write_files(task: Task, network: nn.Module, folder: Path, steps: int) -> dict[str, Path]:
    """Write each network that a task makes as a safetensors file that says what shapes cannot."""
    written = {}
    for name, (module, metadata) in task.files(network).items():
        path = folder / f"{name}.safetensors"
        entries = {"cascade.version": "1", "cascade.part": name, "cascade.steps": str(steps)}
        save_tensors(path, module.state_dict(), {**metadata, **entries})
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
