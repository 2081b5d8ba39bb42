"""Stage B and C whose blocks torch compiles: each kind of block once, when it first runs."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch._dynamo
from comfy.patcher_extension import WrappersMP
from comfy_api.torch_helpers.torch_compile import COMPILE_KEY, set_torch_compile_wrapper
from torch import Tensor
from torch._dynamo.exc import TorchDynamoException

from .messages import say

CHOICES = ("off", "blocks")
"""What a loader offers."""

MOST_GRAPHS = 64
"""Of one kind of block: one for each width, with and without a skip, and for one picture or several."""


def compiled(model: Any, choice: str, backend: str = "inductor") -> Any:
    """A MODEL whose blocks are compiled for pictures and batches of every size; a new one.

    Blocks with other packs' patches inside run as they are, the rest around them does not.

    Args:
        model: Stage B or C of ours.
        choice: one of ``CHOICES``.
        backend: of ``torch.compile``.
    """
    if choice == "off":
        return model
    made = model.clone(disable_dynamic=True)  # as the host's own node: compiled code reads weights in place
    set_torch_compile_wrapper(made, backend=backend, dynamic=True, keys=list(_blocks(made.model)))
    (wrapper,) = made.get_wrappers(WrappersMP.APPLY_MODEL, COMPILE_KEY)
    made.remove_wrappers_with_key(WrappersMP.APPLY_MODEL, COMPILE_KEY)
    made.add_wrapper_with_key(WrappersMP.APPLY_MODEL, COMPILE_KEY, _OrEagerly(wrapper))
    return made


def _blocks(model: Any) -> Iterator[str]:
    network = model.diffusion_model
    for side in ("down_blocks", "up_blocks"):
        for level, blocks in enumerate(getattr(network, side)):
            for i in range(len(blocks)):
                yield f"diffusion_model.{side}.{level}.{i}"


class _OrEagerly:
    """The host's wrapper around a call of a model, without it from the first failure to compile on."""

    def __init__(self, wrapper: Callable[..., Tensor]):
        self.wrapper = wrapper
        self.failed = False

    def __call__(self, call: Callable[..., Tensor], *args: Any, **kwargs: Any) -> Tensor:
        if not self.failed:
            try:
                with torch._dynamo.config.patch(recompile_limit=MOST_GRAPHS):
                    return self.wrapper(call, *args, **kwargs)
            except TorchDynamoException as error:
                self.failed = True
                reason = str(getattr(error, "inner_exception", error)).strip().partition("\n")[0]
                say(
                    f"torch could not compile the blocks ({reason}), and the stage runs uncompiled: choose "
                    "`off` for compile in its loader, or install what torch.compile needs, a C++ compiler "
                    "and on a GPU Triton"
                )
        return call(*args, **kwargs)
