"""Training of the judges, on pictures of their own: ``python -m comfyui_cascade.benchmarks.training``.

The judge of pictures takes ten minutes on one idle core, the judge of latents five. The latter
belongs to one semantic encoder, whose digest its file carries.
"""

from __future__ import annotations

import argparse
import dataclasses
import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import torch
from comfyui_cascade.benchmarks.judge import (
    AROUND,
    HERE,
    THING_CHANNELS,
    Judge,
    JudgeConfig,
    digest_of,
    seen_of,
)  # fmt: skip
from comfyui_cascade.checkpoints.identify import Part
from comfyui_cascade.training.cache import Store, cached, key_of
from comfyui_cascade.training.draws import Draws
from comfyui_cascade.training.examples import COLOUR_NAMES, NOTHING, Field
from comfyui_cascade.training.loop import Run, train
from comfyui_cascade.training.picturebook import KINDS, LARGEST_COUNT, SIZES, Drawing, Scene, any_scene, draw
from comfyui_cascade.training.settings import from_table, read_settings
from comfyui_cascade.training.task import Batch, Files, Task
from comfyui_cascade.training.workspace import Workspace, drawing_files, encoder_input, to_images
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn import functional

FIRST_SEED = 20_000_000
"""Seed of the judges' first picture, far from those of training and from those that they will judge."""

AT_ONCE = 16
"""Pictures drawn and encoded together."""

FRAME_WEIGHT = 0.2

Right = dict[str, Tensor]
"""What a judge should say, see ``right_answers``."""


# What a judge should say ---------------------------------------------------------------------------------


def right_answers(scene: Scene, drawing: Drawing) -> Right:
    """What a judge should say of a drawing, as numbers.

    Returns:
        ``named``: kind, colour and size of each thing, ``n 3``, filled up with ``NOTHING``; the size is
        ``NOTHING`` too unless the thing is alone, as only then it is a matter of choice.
        ``frames``: middle, width and height of each, as shares of the picture, ``n 4``.
        ``around``: ground, time, weather and style.
    """
    named = torch.full((LARGEST_COUNT, 3), NOTHING)
    frames = torch.zeros(LARGEST_COUNT, 4)
    for i, thing in enumerate(drawing.things):
        size = SIZES.index(scene.size) if len(drawing.things) == 1 else NOTHING
        named[i] = torch.tensor([KINDS.index(thing.kind), COLOUR_NAMES.index(thing.colour), size])
        left, top, right, bottom = thing.box
        frames[i] = torch.tensor([(left + right) / 2, (top + bottom) / 2, right - left, bottom - top])
    around = torch.tensor([choices.index(getattr(scene, name)) for name, choices in AROUND.items()])
    return {"named": named, "frames": frames, "around": around}


def detection_losses(maps: Tensor, whole: Tensor, right: Right) -> Tensor:
    """How wrong a judge is about each example, ``b``.

    Cross entropy of middle or not in each cell, and of kind, colour and size at the middles, with the
    frame's absolute error, all for each thing; cross entropy of what is around.

    Args:
        maps, whole: from the judge.
        right: batches of ``right_answers``.
    """
    heat, *names, frames = maps.split(THING_CHANNELS, dim=1)
    example, thing = (right["named"][..., 0] != NOTHING).nonzero(as_tuple=True)
    cells = maps.new_tensor([maps.shape[-1], maps.shape[-2]])
    frame = right["frames"][example, thing] * cells.repeat(2)
    place = torch.minimum(frame[:, :2].long(), cells.long() - 1)
    column, row = place.unbind(1)
    marked = torch.zeros_like(heat[:, 0])
    marked[example, row, column] = 1
    # Cells beside a middle may say either.
    beside = functional.max_pool2d(marked[:, None], 3, stride=1, padding=1)[:, 0] - marked
    found = functional.binary_cross_entropy_with_logits(
        heat[:, 0], marked, weight=(1 - beside) * (1 + 9 * marked), reduction="none"
    )
    offset = torch.cat([frame[:, :2] - place - 0.5, frame[:, 2:]], dim=1)
    each = FRAME_WEIGHT * (frames[example, :, row, column] - offset).abs().sum(1)
    for logits, label in zip(names, right["named"][example, thing].unbind(1), strict=True):
        each = each + functional.cross_entropy(
            logits[example, :, row, column], label, ignore_index=NOTHING, reduction="none"
        )
    total = found.sum(dim=(1, 2)).index_add(0, example, each) / marked.sum(dim=(1, 2))
    parts = whole.split([len(choices) for choices in AROUND.values()], dim=1)
    return total + sum(
        functional.cross_entropy(logits, label, reduction="none")
        for logits, label in zip(parts, right["around"].unbind(1), strict=True)
    )


# Tasks ---------------------------------------------------------------------------------------------------


class JudgeTask(Task):
    """The judge of pictures.

    What it will see was drawn by networks, with soft edges and colours a little off.
    """

    name = "judge"

    def __init__(self, work: Workspace):
        super().__init__(work)
        self.network = Judge(from_table(JudgeConfig, self.settings.network, "network"))

    def fields(self) -> dict[str, Field]:
        store = self._store()
        return {"example": lambda i, rng: store[i]}

    def _store(self) -> Store:
        count = len(self.work.source)
        key = key_of(FIRST_SEED, count, *drawing_files(), *self.depends())
        folder = self.work.base / "cache" / f"{self.name}-{key}"
        with torch.inference_mode():
            return cached(
                folder, count, self._examples, lambda done: self.work.say(f"{self.name}: {done} of {count}")
            )

    def _examples(self, places: Sequence[int]) -> Iterator[dict[str, Tensor]]:
        for start in range(0, len(places), AT_ONCE):
            scenes = [any_scene(FIRST_SEED + i) for i in places[start : start + AT_ONCE]]
            drawings = [draw(scene) for scene in scenes]
            seen = self.see(to_images(torch.stack([torch.tensor(d.picture) for d in drawings])))
            for scene, drawing, one in zip(scenes, drawings, seen, strict=True):
                yield {"seen": one.clone(), **right_answers(scene, drawing)}

    def depends(self) -> Iterable[Path]:
        """Files besides the world's that decide what is seen."""
        return ()

    def see(self, images: Tensor) -> Tensor:
        """What is kept of pictures ``b 3 h w`` in [0, 1]."""
        return ((seen_of(images) + 1) * 127.5).round().byte()

    def shown(self, seen: Tensor, right: Right, draws: Draws) -> tuple[Tensor, Right]:
        """What was kept as the judge is shown it, and what is right of it.

        Half of the pictures are mirrored; all are blurred, tinted and noisy, each to a random degree.
        """
        seen = seen.float() / 127.5 - 1
        mirrored = draws.uniform(1, 1, 1) < 0.5
        seen = torch.where(mirrored, seen.flip(-1), seen)
        x, *others = right["frames"].unbind(-1)
        x = torch.where(mirrored[:, 0, 0], 1 - x, x)
        blurred = functional.avg_pool2d(seen, 3, stride=1, padding=1, count_include_pad=False)
        seen = seen.lerp(blurred, draws.uniform(1, 1, 1))
        gain, offset = (draws.uniform(3, 1, 1) - 0.5 for _ in range(2))
        noise = 0.1 * draws.uniform(1, 1, 1) * draws.normal(*seen.shape[1:])
        seen = seen * (1 + 0.12 * gain) + 0.08 * offset + noise
        return seen, {**right, "frames": torch.stack([x, *others], dim=-1)}

    def losses(self, network: nn.Module, batch: Batch, draws: Draws) -> Tensor:
        examples = batch["example"]
        right = {
            name: torch.stack([one[name] for one in examples]).to(self.work.device) for name in examples[0]
        }
        seen, right = self.shown(right.pop("seen"), right, draws)
        return detection_losses(*network(seen), right)

    def files(self, network: nn.Module) -> Files:
        return {self.name: (network, self.recorded(network=dataclasses.asdict(network.config)))}


class LatentJudgeTask(JudgeTask):
    """The judge of Stage C's latents."""

    name = "latent_judge"

    def __init__(self, work: Workspace):
        super().__init__(work)
        self.encoder = work.companion(Part.SEMANTIC_ENCODER)

    def depends(self) -> Iterable[Path]:
        return (self.work.file_of(Part.SEMANTIC_ENCODER),)

    def see(self, images: Tensor) -> Tensor:
        images = images.to(self.work.device)
        return self.encoder(encoder_input(self.encoder, images, self.work.compression)).half().cpu()

    def shown(self, seen: Tensor, right: Right, draws: Draws) -> tuple[Tensor, Right]:
        """The latents with noise to a random degree, as Stage C's are not quite the encoder's."""
        seen = seen.float()
        return seen + 0.2 * draws.uniform(1, 1, 1) * draws.normal(*seen.shape[1:]), right

    def files(self, network: nn.Module) -> Files:
        ((name, (network, metadata)),) = super().files(network).items()
        return {name: (network, metadata | self.recorded(semantic_encoder=digest_of(self.encoder)))}


TASKS = {task.name: task for task in (JudgeTask, LatentJudgeTask)}


def ship(source: Path, folder: Path) -> Path:
    """Write a trained judge in bf16 where the measurements look for it."""
    with safe_open(source, framework="pt") as file:
        metadata = file.metadata()
        weights = {name: file.get_tensor(name).bfloat16() for name in file.keys()}  # noqa: SIM118 - no mapping
    save_file(weights, folder / source.name, metadata)
    return folder / source.name


def main() -> int:
    """Train a judge, or go on with it, and ship it when it is finished; returns the exit status."""
    parser = argparse.ArgumentParser(prog="comfyui_cascade.benchmarks.training", description=__doc__)
    parser.add_argument("judge", choices=TASKS)
    parser.add_argument(
        "--base", type=Path, default=Path("small_cascade"), help="folder of runs and caches (%(default)s)"
    )
    parser.add_argument("--minutes", type=float, help="stop after so many minutes of training")
    parser.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto")
    parser.add_argument("--threads", type=int, help="of the CPU (all)")
    options = parser.parse_args()
    if options.threads:
        torch.set_num_threads(options.threads)
    settings = read_settings(HERE / f"{options.judge}.toml")
    run = Run(settings, options.base, options.base / options.judge, options.minutes, options.device)
    try:
        done = train(run, TASKS[options.judge])
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    if done.finished:
        print(f"written: {ship(done.files[options.judge], HERE)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
