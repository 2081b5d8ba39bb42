"""From checkpoints of a training to the files that ship: bf16 safetensors that say what shapes cannot."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from ..stage_b import StageB
from ..stage_c import StageC
from . import sizes
from .draw import SIZE
from .loop import Run, averaged
from .small import Recipe, SemanticAutoencoder, TextReader, picture_latents, semantic_latents, shrink, stage_a
from .words import TOKEN_IDS

COMPRESSION = SIZE / sizes.SEMANTIC_CELLS
FIT_PICTURES = 400


def export(recipe: Recipe, folder: Path) -> dict[str, int]:
    """Write every part that has a checkpoint.

    Returns:
        Bytes of each file written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    written = {}
    for part, (source, network, metadata) in _parts(recipe).items():
        run = recipe.run(source, 0)
        if not run.checkpoint.exists():
            continue
        weights = _inner(averaged(run, network), part)
        path = folder / f"{part}.safetensors"
        _write(path, weights, {**metadata, "cascade.part": part, "cascade.training": _training(run)})
        written[part] = path.stat().st_size
    return written


def _parts(recipe: Recipe) -> dict[str, tuple[str, nn.Module, dict[str, str]]]:
    """For each file: the run it comes from, a network of its kind, what it says of itself."""
    semantic = SemanticAutoencoder()
    strides = [sizes.SEMANTIC_ENCODER.stem_stride, *(stage.stride for stage in sizes.SEMANTIC_ENCODER.stages)]
    compression = {"cascade.compression": f"{COMPRESSION:.4f}"}
    stage = {**compression, "cascade.prediction": "velocity", "cascade.head_dim": str(sizes.HEAD_WIDTH)}
    parts: dict[str, tuple[str, nn.Module, dict[str, str]]] = {
        "stage_a": ("stage_a", stage_a(), {}),
        "semantic_encoder": ("semantic", semantic, {**compression, "cascade.strides": json.dumps(strides)}),
        "previewer": ("semantic", semantic, compression),
        "text_encoder": ("text", TextReader(), {"cascade.token_ids": json.dumps(TOKEN_IDS)}),
    }
    if recipe.run("stage_b", 0).checkpoint.exists():
        rgb = _linear_preview(recipe, picture_latents(recipe))
        parts["stage_b"] = ("stage_b", StageB(sizes.STAGE_B), {**stage, "cascade.latent_rgb": rgb})
    if recipe.run("stage_c", 0).checkpoint.exists():
        rgb = _linear_preview(recipe, semantic_latents(recipe))
        parts["stage_c"] = ("stage_c", StageC(sizes.STAGE_C), {**stage, "cascade.latent_rgb": rgb})
    return parts


def _inner(network: nn.Module, part: str) -> nn.Module:
    """The part inside the network that was trained."""
    names = {"semantic_encoder": "encoder", "text_encoder": "encoder", "previewer": "previewer"}
    return getattr(network, names[part]) if part in names else network


def _linear_preview(recipe: Recipe, latents: Tensor) -> str:
    """Least-squares fit of colours in [-1, 1] to latents, as a host's previews take them."""
    latents = latents[:FIT_PICTURES]
    small = shrink(recipe.pool.images(torch.arange(len(latents))), latents.shape[-1])
    colours = small.movedim(1, -1).reshape(-1, 3) * 2 - 1
    features = latents.movedim(1, -1).reshape(len(colours), -1)
    features = torch.cat([features, torch.ones(len(colours), 1)], dim=1)
    solution = torch.linalg.lstsq(features, colours).solution
    rounded = [[round(value, 4) for value in row] for row in solution.tolist()]
    return json.dumps({"factors": rounded[:-1], "bias": rounded[-1]})


def _training(run: Run) -> str:
    state = torch.load(run.checkpoint, weights_only=True)
    return json.dumps(
        {"steps": state["step"], "minutes": round(state["spent"] / 60, 1), "target": "velocity"}
    )


def _write(path: Path, network: nn.Module, metadata: dict[str, str]) -> None:
    weights = {
        name: (value.bfloat16() if value.is_floating_point() else value).contiguous()
        for name, value in network.state_dict().items()
    }
    beside = path.with_suffix(".part")
    save_file(weights, beside, {"format": "pt", "cascade.version": "1", **metadata})
    beside.replace(path)
