"""ControlNets of Stage C on the host's CONTROL_NET socket, for our Stage C and the host's own."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import comfy.model_management
import comfy.model_patcher
import comfy.utils
import torch
from comfy.controlnet import ControlBase, broadcast_image_to
from comfy.model_base import StableCascade_C
from torch import Tensor

from ...adapters.controlnet import ControlNet, load_controlnet
from ...adapters.steering import Residuals, block_widths, check_steering, fitted, run_in
from .. import check

LIVE_ACTIVATIONS = 4
"""Tensors of the widest layer's size that are alive at once."""


def open_controlnet(path: str | Path, blocks: Sequence[int] = ()) -> CascadeControl:
    """A CONTROL_NET from a file.

    Args:
        path: of the file.
        blocks: that its projections feed, where neither the file nor the reference says it.

    Raises:
        ValueError: the file holds something else, or not all of it.
    """
    management = comfy.model_management
    patcher = comfy.model_patcher.CoreModelPatcher(
        load_controlnet(path, blocks),
        load_device=management.get_torch_device(),
        offload_device=management.unet_offload_device(),
    )
    return CascadeControl(patcher, Path(path).name)


class CascadeControl(ControlBase):
    """A ControlNet of Stage C as the host applies it.

    The network runs once for a run, a size of latents and a hint, in the precision in which the sampled
    model computes; what it gives does not depend on the noise level.

    Args:
        patcher: the host's handle of the network.
        name: what errors call it.
    """

    def __init__(self, patcher: Any, name: str):
        super().__init__()
        self.patcher, self.name = patcher, name
        self.mask: Tensor | None = None
        self.dtype = torch.float32
        self.count = 0
        self._found: dict[tuple[int, int], Residuals] = {}

    @property
    def network(self) -> ControlNet:
        """The network itself."""
        return self.patcher.model

    # What the host calls ---------------------------------------------------------------------------------

    def copy(self) -> CascadeControl:
        """Another application of the same network."""
        made = CascadeControl(self.patcher, self.name)
        self.copy_to(made)
        made.mask = self.mask
        return made

    def deepclone_multigpu(self, load_device: torch.device, autoregister: bool = False) -> CascadeControl:
        """A copy with a network of its own, for another device."""
        made = self.copy()
        made.patcher = comfy.model_patcher.CoreModelPatcher(
            copy.deepcopy(self.network), load_device=load_device, offload_device=self.patcher.offload_device
        )
        if autoregister:
            self.multigpu_clones[load_device] = made
        return made

    def get_models(self) -> list:
        """Handles of all networks that are applied together."""
        return [*super().get_models(), self.patcher]

    def cleanup(self) -> None:
        """Forget what was computed for a run."""
        super().cleanup()
        self._found.clear()

    def inference_memory_requirements(self, dtype: torch.dtype) -> float:
        """Bytes of activations."""
        hint, backbone = self.cond_hint_original, self.network.config.backbone
        own = 0.0
        if hint is not None:
            size = max(4, comfy.model_management.dtype_size(dtype))
            own = hint.shape[0] * hint.shape[-2] * hint.shape[-1] * backbone.widest * size * LIVE_ACTIVATIONS
        return max(own, super().inference_memory_requirements(dtype))

    def pre_run(self, model: Any, percent_to_timestep_function: Any) -> None:
        """Look at the model that is about to be sampled.

        Raises:
            ValueError: the ControlNet does not fit it, or the hint does not fit the ControlNet.
        """
        super().pre_run(model, percent_to_timestep_function)
        config = self.network.config
        if not isinstance(model, StableCascade_C):
            raise ValueError(
                f"`{self.name}` is a ControlNet of Stage C, and the model that is sampled is another "
                f"({type(model).__name__}): use its conditioning for Stage C only, and that of Stage B "
                "without it"
            )
        widths = block_widths(model.diffusion_model)
        check_steering(config, widths, f"`{self.name}`")
        check.hint_channels(self.name, config.kind, config.backbone.c_in, self.cond_hint_original.shape[1])
        self.count = len(widths)
        computes = model.get_dtype_inference()
        # The activations of an fp16 network would overflow as Stage C's do.
        self.dtype = torch.float32 if computes == torch.float16 else computes
        self._found.clear()

    def get_control(
        self, x_noisy: Tensor, t: Tensor, cond: Any, batched_number: int, transformer_options: Any
    ) -> dict[str, Residuals] | None:
        """What to add inside Stage C at a step, with that of the ControlNets before this one.

        Args:
            x_noisy: latents of a batch, ``b c h w``.
            t: its noise levels, as sigmas.
            cond: not used.
            batched_number: prompts in the batch.
            transformer_options: see the host.
        """
        before = None
        if self.previous_controlnet is not None:
            before = self.previous_controlnet.get_control(
                x_noisy, t, cond, batched_number, transformer_options
            )
        if self.timestep_range is not None:
            start, end = self.timestep_range
            if t[0] > start or t[0] < end:
                return before
        size = (x_noisy.shape[-2], x_noisy.shape[-1])
        if size not in self._found:
            self._found[size] = self._residuals(size, x_noisy.device)
        fresh = [
            # The host multiplies by the strength in place, and its networks take from the end.
            None if r is None else broadcast_image_to(r, x_noisy.shape[0], batched_number).clone()
            for r in reversed(self._found[size])
        ]
        return self.control_merge({"input": fresh}, before, x_noisy.dtype)

    # What it does ----------------------------------------------------------------------------------------

    def _residuals(self, size: tuple[int, int], device: torch.device) -> Residuals:
        """What to add before each residual block of the sampled Stage C, for latents ``h w``."""
        backbone = self.network.config.backbone
        hint = fitted(self.cond_hint_original.float(), backbone, *size).to(device, self.dtype)
        with torch.no_grad():
            residuals = run_in(self.network, hint)
        if self.mask is not None:
            residuals = [None if r is None else r * masked_cells(self.mask, r) for r in residuals]
        # As many as there are blocks, so that those of several ControlNets lie at the same places.
        return residuals + [None] * (self.count - len(residuals))


def masked_cells(mask: Tensor, like: Tensor) -> Tensor:
    """A mask ``b h w`` for features ``b c h w``: ``b 1 h w``."""
    height, width = like.shape[-2:]
    cells = comfy.utils.common_upscale(mask[:, None].float(), width, height, "area", "center").to(like)
    return cells if len(like) == 1 else broadcast_image_to(cells, len(like), 1)


def with_mask(control: Any, mask: Tensor) -> CascadeControl:
    """The same ControlNet, acting inside a mask ``b h w`` only.

    Raises:
        ValueError: it is not one of ours.
    """
    if not isinstance(control, CascadeControl):
        raise ValueError(
            "only ControlNets of Load ControlNet (Cascade) take a mask, and this one is of another loader: "
            "load it there, or leave the mask out"
        )
    made = control.copy()
    made.mask = mask
    return made


def with_control(conditioning: list, control: Any, before: dict[Any, Any]) -> list:
    """A CONDITIONING that a ControlNet steers as well; a new one.

    Args:
        conditioning: what the host's text encoding gives.
        control: with its hint.
        before: filled with one copy for each ControlNet that steered before, so that all prompts that share
            one share the next, and run in one batch.
    """
    steered = []
    for text, entries in conditioning:
        previous = entries.get("control")
        if previous not in before:
            before[previous] = control.copy().set_previous_controlnet(previous)
        steered.append([text, {**entries, "control": before[previous], "control_apply_to_uncond": False}])
    return steered
