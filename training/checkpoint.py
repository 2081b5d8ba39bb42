"""Checkpoints: everything that the next step depends on, in safetensors files and one JSON file.

A checkpoint is written into a folder beside its place and then renamed, so that whatever has the name of a
checkpoint is whole. A run that is killed at any moment, or whose disk is full, goes on from the last one.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.distributed.checkpoint.state_dict import (
    StateDictOptions,
    get_model_state_dict,
    get_optimizer_state_dict,
    set_model_state_dict,
    set_optimizer_state_dict,
)

from ..checkpoints.save import save_tensors

# What several processes hold in parts comes together on the CPU, and goes out in parts again.
_WHOLE = StateDictOptions(full_state_dict=True, cpu_offload=True)
_EVERYWHERE = StateDictOptions(full_state_dict=True)
PROGRESS = "progress.json"

Snapshot = dict[str, dict[str, Tensor]]
"""Tensors by name, for each file of a checkpoint."""


def whole_weights(network: nn.Module) -> dict[str, Tensor]:
    """All weights of a network, wrapped or not; every process has to ask for them."""
    return get_model_state_dict(network, options=_WHOLE)


def snapshot(network: nn.Module, average: nn.Module | None, optimizer: torch.optim.Optimizer) -> Snapshot:
    """All tensors that the next step depends on; every process has to ask for it."""
    # Of several processes only the first is given it.
    state = get_optimizer_state_dict(network, optimizer, options=_WHOLE).get("state", {})
    files: Snapshot = {
        "network": whole_weights(network),
        "optimizer": {
            f"{parameter}/{name}": value
            for parameter, values in state.items()
            for name, value in values.items()
        },
    }
    if average is not None:
        files["average"] = average.state_dict()
    return files


class Checkpoints:
    """The checkpoints of a run, in a folder; the last ``keep`` of them stay."""

    def __init__(self, folder: Path, keep: int):
        self.folder, self.keep = folder, max(1, keep)

    def last(self) -> Path | None:
        """The newest whole checkpoint."""
        return max(self._all(), default=None)

    def _all(self) -> list[Path]:
        if not self.folder.exists():
            return []
        return sorted(
            path for path in self.folder.iterdir() if (path / PROGRESS).exists() and path.name.isdigit()
        )

    def write(self, step: int, tensors: Snapshot, progress: Mapping[str, Any]) -> Path:
        """Write a checkpoint and drop the oldest.

        Raises:
            OSError: it could not be written, for a full disk above all; the last one is still there.
        """
        place = self.folder / f"{step:09}"
        beside = place.with_suffix(".part")
        for cut_off in self.folder.glob("*.part"):  # by a kill
            shutil.rmtree(cut_off)
        try:
            beside.mkdir(parents=True)
            for name, values in tensors.items():
                save_tensors(beside / f"{name}.safetensors", values)
            (beside / PROGRESS).write_text(json.dumps({"step": step, **progress}))
            _flush(beside / PROGRESS)  # the others are on the disk already
            shutil.rmtree(place, ignore_errors=True)
            beside.replace(place)
        except OSError as error:
            shutil.rmtree(beside, ignore_errors=True)
            last = self.last()
            kept = f"the checkpoint of step {int(last.name)} is whole" if last else "there is none before it"
            raise OSError(
                f"the checkpoint of step {step} could not be written to {self.folder} "
                f"({error.__cause__ or error}); {kept}, so free some space and start the run again"
            ) from error
        for old in self._all()[: -self.keep]:
            shutil.rmtree(old)
        return place


def read(
    place: Path, network: nn.Module, average: nn.Module | None, optimizer: torch.optim.Optimizer
) -> dict[str, Any]:
    """Put a checkpoint's weights and the optimiser's state in place; returns its progress."""
    progress = json.loads((place / PROGRESS).read_text())
    set_model_state_dict(network, load_file(place / "network.safetensors"), options=_WHOLE)
    if average is not None:
        average.load_state_dict(load_file(place / "average.safetensors"))
    state: dict[str, dict[str, Tensor]] = {}
    for key, value in load_file(place / "optimizer.safetensors").items():
        parameter, _, name = key.rpartition("/")
        state.setdefault(parameter, {})[name] = value
    groups = get_optimizer_state_dict(network, optimizer, options=_EVERYWHERE)["param_groups"]
    set_optimizer_state_dict(network, optimizer, {"state": state, "param_groups": groups}, options=_WHOLE)
    return progress


def _flush(path: Path) -> None:
    """Make sure that the bytes are on the disk before the checkpoint gets its name."""
    with path.open("rb") as file:
        os.fsync(file.fileno())
