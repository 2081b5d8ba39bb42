"""Which weight every name in a LoRA means, and which tensor of it, whoever wrote the file.

A name is the name of a module, with dots or with underscores, behind a prefix and before a suffix. Modules
are looked up among those of the network at hand, under every spelling that trainers have used for them; so a
file needs no table for its dialect, and mixed files are understood as well.

Sources: OneTrainer ``WuerstchenLoRASaver.py``, kohya sd-scripts ``networks/lora.py``, PEFT
``save_and_load.py``, diffusers ``loaders/lora_base.py``, ComfyUI ``comfy/lora.py`` and
``comfy/weight_adapter``.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from torch import Tensor

Parts = dict[str, Tensor]
"""The tensors that change one weight, by suffixes as the host spells them, such as ``lora_up.weight``."""

_SUFFIXES = tuple(
    (re.compile(pattern), suffix)
    for pattern, suffix in (
        (r"[._]lora\.up\.weight|\.lora_(up|linear_layer\.up)\.weight", "lora_up.weight"),
        (r"[._]lora\.down\.weight|\.lora_(down|linear_layer\.down)\.weight", "lora_down.weight"),
        (r"\.lora_B(\.(?!bias)\w+)*", "lora_up.weight"),
        (r"\.lora_A(\.(?!bias)\w+)*", "lora_down.weight"),
        (r"\.lora_mid\.weight", "lora_mid.weight"),
        (r"\.lora_magnitude_vector(\.\w+)*|\.dora_scale", "dora_scale"),
        (r"\.(?P<kept>alpha|rescale|oft_blocks|diff|diff_b|set_weight|reshape_weight)", ""),
        (r"\.(?P<kept>hada_(w[12]_[ab]|t[12])|lokr_(w[12](_[ab])?|t2))(\.default)?", ""),
        (r"\.(?P<kept>[ab][12]\.weight)", ""),
    )
)
"""Spellings of what follows a module's name; the host's, or ``kept`` where it is that already."""

_PREFIXES = (
    "lora_prior_unet_", "lora_prior_prior_", "lora_prior_te_", "lora_unet_", "lora_te1_", "lora_te2_",
    "lora_te_", "lycoris_", "base_model.model.", "_orig_mod.", "module.", "model.diffusion_model.",
    "diffusion_model.", "prior.", "decoder.", "unet.", "text_encoders.", "text_encoder.",
    "clip_g.transformer.",
)  # fmt: skip
"""What trainers put before a module's name; several may follow each other."""

_ATTENTION = "_attention_attn_"
_SPELLINGS = (  # in place of "_attention_attn_" and what follows it in ours
    ("to_q", ("attention_to_q", "attention_processor_to_q", "attention_attn_in_proj_0")),
    ("to_k", ("attention_to_k", "attention_processor_to_k", "attention_attn_in_proj_1")),
    ("to_v", ("attention_to_v", "attention_processor_to_v", "attention_attn_in_proj_2")),
    (
        "out_proj",
        (
            "attention_to_out_0",
            "attention_to_out",
            "attention_processor_to_out",
            "attention_attn_to_out",
            "attention_attn_to_out_proj",
        ),
    ),
)
"""Of the attention's four layers: diffusers', its older processors', OneTrainer's and kohya's."""

_FUSED = ("attention_attn_in_proj", "attention_attn_in_proj_weight", "attention_attn")
"""Of query, key and value in one: Stability's, and what trainers make of it."""

_BODY = re.compile(
    r"(down|up)_blocks_(?P<level>\d+)_(?P<block>\d+)_(attention|channelwise|depthwise|mapper|kv_mapper)"
)

TEXT_BODY = re.compile(r"text_model_|text_projection")
"""How the modules of a text encoder begin, with underscores."""


@dataclass(frozen=True, slots=True)
class Name:
    """One name of a file, taken apart.

    Attributes:
        flat: the module's name without prefixes, dots turned into underscores.
        suffix: which tensor of the module's change, as the host spells it.
    """

    flat: str
    suffix: str

    @property
    def place(self) -> tuple[int, int] | None:
        """Level and number of the block, where the name tells them."""
        match = _BODY.match(self.flat)
        return (int(match["level"]), int(match["block"])) if match else None


def take_apart(name: str) -> Name | None:
    """A name's module and suffix; None for a name that ends like nothing a LoRA has."""
    for pattern, suffix in _SUFFIXES:
        match = re.search(rf"(?:{pattern.pattern})$", name)
        if match:
            module = name[: match.start()]
            return Name(_without_prefixes(module).replace(".", "_"), suffix or match["kept"])
    return None


def _without_prefixes(module: str) -> str:
    found = True
    while found:
        found = next((prefix for prefix in _PREFIXES if module.startswith(prefix)), "")
        module = module[len(found) :]
    return module


def spellings(weights: Iterable[str]) -> dict[str, tuple[str, ...]]:
    """Paths behind every spelling of a network's modules, dots turned into underscores.

    Args:
        weights: names of its weights, ours.

    Returns:
        For each spelling one path, or the three of query, key and value where it means them together. A path
        is a weight's name without ``.weight``; other parameters have their whole name.
    """
    paths = {name.removesuffix(".weight") for name in weights if not name.endswith(".bias")}
    found: dict[str, tuple[str, ...]] = {}
    for path in sorted(paths):
        flat = path.replace(".", "_")
        found[flat] = (path,)
        before, attention, layer = flat.rpartition(_ATTENTION)
        for ours, theirs in _SPELLINGS if attention else ():
            if layer == ours:
                found |= {f"{before}_{spelling}": (path,) for spelling in theirs}
        if attention and layer == "to_q":
            stem = path.removesuffix("to_q")
            found |= {
                f"{before}_{spelling}": tuple(f"{stem}to_{one}" for one in "qkv") for spelling in _FUSED
            }
    if "clip_mapper" in paths:  # diffusers' name in Stage B
        found["clip_txt_pooled_mapper"] = ("clip_mapper",)
    return found


def gather(tensors: Mapping[str, Tensor]) -> tuple[dict[str, tuple[Name, Parts, str]], list[str]]:
    """A file's tensors by module.

    Returns:
        For each module one of its names taken apart, its parts, and the first name as the file has it; and
        the names that are none of a LoRA.
    """
    modules: dict[str, tuple[Name, Parts, str]] = {}
    others = []
    for key, tensor in tensors.items():
        name = take_apart(key)
        if name is None:
            others.append(key)
        else:
            modules.setdefault(name.flat, (name, {}, key))[1][name.suffix] = tensor
    return modules, others
