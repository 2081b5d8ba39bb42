"""Stage B and Stage C with the host's layers inside and the host's call outside.

Attribute names stay those of the pure networks, so that a MODEL's weights keep the names that the host's own
loader, merging nodes and LoRAs know.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import torch
from comfy.ldm.modules.attention import optimized_attention
from comfy.patcher_extension import WrapperExecutor, WrappersMP, get_all_wrappers
from torch import Tensor, nn

from ...layers.ops import Operations
from ...stage_b import StageB, StageBConfig
from ...stage_c import StageC, StageCConfig

Options = Mapping[str, Any]
"""The host's ``transformer_options``: what a sampling run tells its networks and the patches in them."""


class HostAttention:
    """The host's attention function, with the options of the current call, where other packs put patches."""

    def __init__(self) -> None:
        self.options: Options = {}

    def __call__(self, q: Tensor, k: Tensor, v: Tensor, heads: int) -> Tensor:
        """Multi-head attention; see ``layers.ops.scaled_dot_product``."""
        return optimized_attention(q, k, v, heads, transformer_options=dict(self.options))


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


def _call(
    network: nn.Module, run: Callable[..., Tensor], options: Options, *args: Any, **tensors: Any
) -> Tensor:
    """Run a network inside the wrappers that other packs put around it."""
    wrappers = get_all_wrappers(WrappersMP.DIFFUSION_MODEL, options)
    return WrapperExecutor.new_class_executor(run, network, wrappers).execute(*args, options, **tensors)


class HostStageC(StageC):
    """Stage C as the host calls it."""

    def __init__(
        self, config: StageCConfig, dtype: torch.dtype, device: torch.device | None, operations: Any
    ):
        attention = HostAttention()
        super().__init__(config, host_operations(operations, dtype, device, attention))
        self.dtype = dtype
        self.host_attention = attention

    def forward(
        self,
        x: Tensor,
        timestep: Tensor,
        context: Tensor | None = None,
        control: Mapping[str, list] | None = None,
        transformer_options: Options | None = None,
        **tensors: Tensor,
    ) -> Tensor:
        """Predict; see ``StageC.forward``.

        Args:
            x, timestep: as there.
            context: not used; the prompt is in the tokens.
            control: of ControlNets, whose ``input`` list the host's networks pop from its end.
            transformer_options: see ``Options``.
            tensors: what ``CascadeC.extra_conds`` made.
        """
        return _call(self, self._run, transformer_options or {}, x, timestep, context, control, **tensors)

    def _run(
        self, x: Tensor, t: Tensor, context: None, control: Any, options: Options, *, tokens: Tensor
    ) -> Tensor:
        self.host_attention.options = options
        return super().forward(x, t, tokens, tuple(reversed((control or {}).get("input", ()))))


class HostStageB(StageB):
    """Stage B as the host calls it."""

    def __init__(
        self, config: StageBConfig, dtype: torch.dtype, device: torch.device | None, operations: Any
    ):
        attention = HostAttention()
        super().__init__(config, host_operations(operations, dtype, device, attention))
        self.dtype = dtype
        self.host_attention = attention

    def forward(
        self,
        x: Tensor,
        timestep: Tensor,
        context: Tensor | None = None,
        control: Any = None,
        transformer_options: Options | None = None,
        **tensors: Tensor,
    ) -> Tensor:
        """Predict; see ``StageB.forward`` and ``HostStageC.forward``. No ControlNet steers Stage B."""
        return _call(self, self._run, transformer_options or {}, x, timestep, context, control, **tensors)

    def _run(
        self, x: Tensor, t: Tensor, context: None, control: Any, options: Options, *,
        tokens: Tensor, semantic_map: Tensor,
    ) -> Tensor:  # fmt: skip
        self.host_attention.options = options
        return super().forward(x, t, tokens, semantic_map)
