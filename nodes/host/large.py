"""MODELs for large pictures and for haste: windows, large forms from a small run, reuse, fewer keys."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from torch import Tensor

from ...latents.windows import Window, blended, with_coarse
from ...layers.channels_last import averaged
from ...layers.hooks import Place
from ...layers.trunk import TrunkConfig, first_units
from .patches import UNITS, Options

SAME_LEVEL = 1e-4
"""Relative difference of two noise levels that are one."""


def in_windows(model: Any, size: int, overlap: int) -> Any:
    """A Stage B that sees windows of the latents, each with its part of Stage C's map.

    Args:
        size, overlap: in latent cells.

    Raises:
        ValueError: the MODEL is no Stage B of ours.
    """
    config = _config(model, "effnet_mapper", "Stage B")
    patch = config.patch_size
    step = patch * 2 ** (len(config.trunk.down) - 1)  # cells that become one at the coarsest level
    size = max(size // step, 2) * step
    made = model.clone()
    inner = made.model_options.get("model_function_wrapper")

    def call(apply: Callable, args: dict[str, Any]) -> Tensor:
        return inner(apply, args) if inner else apply(args["input"], args["timestep"], **args["c"])

    def wrapper(apply: Callable, args: dict[str, Any]) -> Tensor:
        def run(window: Window) -> Tensor:
            rows, columns = window
            cells = [slice(side.start // patch, side.stop // patch) for side in window]
            part = {**args["c"], "semantic_map": args["c"]["semantic_map"][:, cells[0], cells[1]]}
            return call(apply, {**args, "input": args["input"][..., rows, columns], "c": part})

        return blended(args["input"], size, overlap, step, run)

    made.set_model_unet_function_wrapper(wrapper)
    return made


def with_large_forms(model: Any, latents: Tensor, strength: float, end: float) -> Any:
    """A MODEL whose estimates get their large forms from latents of a smaller picture.

    Args:
        latents: ``b c h w``.
        strength: see ``with_coarse``.
        end: share of the noise schedule after which it is left alone.
    """
    made = model.clone()
    last = made.get_model_object("model_sampling").percent_to_sigma(end)

    def guide(args: dict[str, Any]) -> Tensor:
        denoised = args["denoised"]
        if args["sigma"].max() < last:
            return denoised
        coarse = args["model"].process_latent_in(latents).to(denoised)
        return with_coarse(denoised, coarse[: len(denoised)] if len(coarse) > 1 else coarse, strength)

    made.set_model_sampler_post_cfg_function(guide)
    return made


def reusing(model: Any, every: int, start: float, end: float) -> Any:
    """A Stage C whose deepest level is computed in every n-th step and otherwise changes its input as it did.

    Args:
        every: 1 computes it always.
        start, end: shares of the noise schedule between which steps reuse.

    Raises:
        ValueError: the MODEL is no Stage C of ours.
    """
    trunk = _config(model, "clip_txt_mapper", "Stage C").trunk
    made = model.clone()
    sampling = made.get_model_object("model_sampling")
    window = sampling.percent_to_sigma(start), sampling.percent_to_sigma(end)
    made.set_model_patch(_Reuse(trunk, every, window), UNITS)
    return made


class _Reuse:
    """What the deepest level added in the last step that computed it, for each batch of prompts of a run."""

    def __init__(self, trunk: TrunkConfig, every: int, window: tuple[float, float]):
        self.first = Place("down", first_units(trunk.down)[-1])
        self.last = Place("up", trunk.up[0].depth - 1)
        self.every, self.window = every, window
        self.run: Any = None
        self.entered: Tensor | None = None
        self.added: dict[Any, Tensor] = {}

    def __call__(
        self, place: Place, x: Tensor, inner: Callable[[Tensor], Tensor], options: Options
    ) -> Tensor:
        inside = place.unit >= self.first.unit if place.side == "down" else place.unit <= self.last.unit
        if not inside:
            return inner(x)
        key = self.key(options, x)
        if place == self.first:
            self.entered = x
        if not self.computes(options, key):
            return x + self.added[key] if place == self.last else x
        result = inner(x)
        if place == self.last:
            self.added[key] = result - self.entered
            self.entered = None
        return result

    def key(self, options: Options, x: Tensor) -> Any:
        """Of a batch; a new run forgets the last one's."""
        run = options.get("sample_sigmas")
        if run is not self.run:
            self.run, self.added = run, {}
        return (*options.get("uuids", ()), *x.shape, x.device)

    def computes(self, options: Options, key: Any) -> bool:
        """Whether this step computes the level: the n-th ones, and calls between two steps."""
        if self.run is None or key not in self.added:
            return True
        sigma = options["sigmas"].max()
        if not self.window[1] <= sigma <= self.window[0]:
            return True
        distance, step = (self.run.to(sigma) - sigma).abs().min(dim=0)
        return step.item() % self.every == 0 or distance.item() > SAME_LEVEL * sigma.item()


def with_fewer_keys(model: Any, most: int) -> Any:
    """A MODEL whose cells attend to averages of squares of cells, where there are many.

    The prompt's keys stay as they are, and so does their weight beside that of the cells: with as many keys
    as at the size of training, both are as they were in training.

    Args:
        most: cells that become keys and values; larger maps are averaged.

    Source: Smith et al. 2024, "ToDo: Token Downsampling", who take one cell of each square.
    """
    made = model.clone()

    def patch(q: Tensor, k: Tensor, v: Tensor, options: Options) -> tuple[Tensor, Tensor, Tensor]:
        height, width = options["activations_shape"][-2:]
        side = math.ceil(math.sqrt(height * width / most))
        if side == 1 or k.shape[1] != height * width:
            return q, k, v

        def fewer(cells: Tensor) -> Tensor:
            return averaged(cells.unflatten(1, (height, width)), side).flatten(1, 2)

        keys = fewer(k)
        return q, keys, keys if v is k else fewer(v)

    made.set_model_attn1_patch(patch)
    return made


def _config(model: Any, mark: str, name: str) -> Any:
    network = model.model.diffusion_model
    if not hasattr(network, mark) or not hasattr(network, "config"):
        raise ValueError(f"this node takes {name} from Load {name} (Cascade), and was given another model")
    return network.config
