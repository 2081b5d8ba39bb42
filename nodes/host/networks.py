"""Stage B and Stage C with the host's layers inside and the host's call outside.

Attribute names stay those of the pure networks, so that a MODEL's weights keep the names that the host's own
loader, merging nodes and LoRAs know.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import torch
from comfy.ldm.modules.attention import optimized_attention
from comfy.model_management import dtype_size, get_free_memory
from comfy.ops import cast_bias_weight, manual_cast, uncast_bias_weight
from comfy.patcher_extension import WrapperExecutor, WrappersMP, get_all_wrappers
from torch import Tensor, nn

from ...layers.blocks import WIDENING
from ...layers.half import half_attention, half_linear
from ...layers.ops import Operations
from ...stage_b import StageB
from ...stage_c import StageC
from .patches import Options, Prompt, hooks_of

LIVE_ACTIVATIONS = 8
"""Tensors of the size of a block's widest values that are alive at once, its fp32 copies included."""

LIVE_MAPS = 12
"""The same of a map between blocks, skips included, where the widest values are computed in parts."""

ALWAYS_FITS = 2**28
"""Bytes of activations below which nobody asks how much memory is free."""


def activation_bytes(config: Any, shape: Sequence[int], dtype: torch.dtype) -> float:
    """What a call takes for latents ``b c h w``, from the widest level: the area alone tells too little."""
    trunk = config.trunk
    shrink = 4 if trunk.transition == "strided" else 1
    widest = max(WIDENING * level.width / shrink**i for i, level in enumerate(trunk.down))
    cells = shape[0] * math.prod(shape[2:]) / getattr(config, "patch_size", 1) ** 2
    return cells * widest * dtype_size(dtype) * LIVE_ACTIVATIONS


class HostAttention:
    """The host's attention function, with the options of the current call, where other packs put patches."""

    def __init__(self) -> None:
        self.options: Options = {}

    def __call__(self, q: Tensor, k: Tensor, v: Tensor, heads: int) -> Tensor:
        """Multi-head attention; see ``layers.ops.scaled_dot_product``."""
        return optimized_attention(q, k, v, heads, transformer_options=dict(self.options))


class HalfLayers(manual_cast):
    """The host's layers around wide activations, with the matrix products in fp16; see ``layers.half``."""

    class Linear(manual_cast.Linear):
        """Casts, streams and patches its weights as the host's does."""

        def forward_comfy_cast_weights(self, input: Tensor) -> Tensor:
            """See ``half_linear``."""
            weight, bias, stream = cast_bias_weight(
                self, input, dtype=torch.float16, bias_dtype=input.dtype, offloadable=True
            )
            result = half_linear(input, weight, bias)
            uncast_bias_weight(self, weight, bias, stream)
            return result


def host_operations(
    layers: Any, dtype: torch.dtype | None, device: torch.device | None = None, attention: Any = None
) -> Operations:
    """The host's layer classes as ``Operations``.

    Args:
        layers: one of the namespaces of ``comfy.ops``.
        dtype, device: of the weights.
        attention: what computes attention; the host's function without options by default.
    """
    bind = partial(partial, dtype=dtype, device=device)
    return Operations(
        Linear=bind(layers.Linear),
        Conv2d=bind(layers.Conv2d),
        ConvTranspose2d=bind(layers.ConvTranspose2d),
        Embedding=bind(layers.Embedding),
        zeros=bind(torch.zeros),
        attention=attention or HostAttention(),
    )


class _HostNetwork(nn.Module):
    """What is the same about a stage that the host calls; the pure network is the other base.

    It is built without storage: its weights are put in as they come from the file.
    """

    def __init__(self, config: Any, dtype: torch.dtype, device: torch.device | None, operations: Any):
        attention = HostAttention()
        narrowed = half_attention(attention) if operations is HalfLayers else attention
        super().__init__(config, host_operations(operations, dtype, torch.device("meta"), narrowed))
        self.dtype = dtype
        self.host_attention = attention

    def forward(
        self,
        x: Tensor,
        timestep: Tensor,
        context: Tensor | None = None,
        control: Mapping[str, list] | None = None,
        transformer_options: Options | None = None,
        **conditions: Tensor,
    ) -> Tensor:
        """Predict, inside the wrappers that other packs put around a network.

        Args:
            x, timestep: see ``StageC.forward``.
            context: not used; the prompt is in the conditions.
            control: of ControlNets.
            transformer_options: see ``patches.Options``.
            conditions: what ``extra_conds`` of the host's model made.
        """
        options = transformer_options or {}
        wrappers = get_all_wrappers(WrappersMP.DIFFUSION_MODEL, options)
        execute = WrapperExecutor.new_class_executor(self._run, self, wrappers).execute
        return execute(x, timestep, context, control, options, **conditions)

    def _run(
        self, x: Tensor, t: Tensor, context: None, control: Any, options: Options, **conditions: Tensor
    ) -> Tensor:
        self.host_attention.options = options
        return self.predict(x, t, control, options, **conditions)

    def wide_values(self, x: Tensor) -> int | None:
        """How many values may be inside an MLP in the memory there is; see ``run_trunk``."""
        needed = activation_bytes(self.config, x.shape, x.dtype)
        if needed < ALWAYS_FITS or torch.compiler.is_compiling():
            return None
        free = get_free_memory(x.device)
        return None if needed < free else int(free / 2 / dtype_size(x.dtype) / LIVE_ACTIVATIONS)


class HostStageC(_HostNetwork, StageC):
    """Stage C as the host calls it."""

    def predict(
        self,
        x: Tensor,
        t: Tensor,
        control: Mapping[str, list] | None,
        options: Options,
        *,
        tokens: Tensor,
        text: Tensor | None = None,
        keys_values: Tensor | None = None,
    ) -> Tensor:
        """See ``StageC.forward``; the host's networks pop the ``input`` list of ControlNets from its end.

        ``text`` is what the first tokens were made of, for packs that change the prompt inside the network.
        """
        residuals = tuple(reversed((control or {}).get("input", ())))
        prompt = None if text is None else Prompt(text, self.text_tokens)
        hooks = hooks_of(options, list(x.shape), self.config.trunk.head_width, prompt)
        return StageC.forward(self, x, t, tokens, residuals, hooks, self.wide_values(x), keys_values)


class HostStageB(_HostNetwork, StageB):
    """Stage B as the host calls it."""

    def predict(
        self,
        x: Tensor,
        t: Tensor,
        control: Any,
        options: Options,
        *,
        tokens: Tensor,
        semantic_map: Tensor,
        keys_values: Tensor | None = None,
    ) -> Tensor:
        """See ``StageB.forward``. No ControlNet steers Stage B, and it is given no text."""
        hooks = hooks_of(options, list(x.shape), self.config.trunk.head_width)
        wide = self.wide_values(x)
        return StageB.forward(self, x, t, tokens, semantic_map, hooks, wide, keys_values)
