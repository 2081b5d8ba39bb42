"""What kind of LoRA or ControlNet a file holds, told from the names and shapes in it.

Sources: Stability ``modules/lora.py`` and ``modules/controlnet.py``, OneTrainer ``WuerstchenLoRASaver.py``,
kohya sd-scripts ``networks/lora.py``, ComfyUI ``comfy/weight_adapter``.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from ..layers.trunk import Shapes


@dataclass(frozen=True, slots=True)
class Adapter:
    """A LoRA or one of its kin.

    Attributes:
        target: what it was trained for, such as "Stage C"; "" if it cannot be told.
        dialect: whose names it has.
        method: how it changes a weight, such as "LoRA" or "LyCORIS LoKr".
        rank: of its matrices; None where the method has none.
        count: weights that it changes.
    """

    target: str
    dialect: str
    method: str
    rank: int | None
    count: int


# The first that matches one name of the file; a DoRA holds a LoRA's names as well, so it stands before it.
_METHODS = (
    ("DoRA", r"\.dora_scale$"),
    ("LyCORIS LoHa", r"\.hada_w1_a$"),
    ("LyCORIS LoKr", r"\.lokr_w1(_a)?$"),
    ("LyCORIS OFT", r"\.oft_(blocks|diag)$"),
    ("LyCORIS GLoRA", r"\.a1\.weight$"),
    ("LyCORIS LoCon", r"\.lora_mid\.weight$"),
    ("LoRA", r"[._]lora[._](linear_layer\.)?(down|up|A|B)(\.|$)"),
    ("full difference", r"\.(diff|diff_b|set_weight|w_norm)$"),
)

_DIALECTS = (
    ("Stability", r"^weights\.\d+\.lora_(down|up)$"),
    ("OneTrainer", r"^lora_prior_(unet|prior|te)_|^bundle_emb\."),
    ("kohya", r"^lora_(unet|te\d?)_"),
    ("LyCORIS", r"^lycoris_"),
    ("ComfyUI", r"^(model\.)?diffusion_model\."),
    ("diffusers", r"[._]lora[._](linear_layer\.)?(A|B|down|up)\."),
)

# What was trained, told from names whose dots became underscores.
_BLOCK = r"(?:^|_)(?:down|up)_blocks_"
_TARGETS = (
    ("Stage B", rf"(^|_)(effnet_mapper|pixels_mapper)_|{_BLOCK}[23]_\d+_(attention|channelwise|kv_mapper)_"),
    (
        "Stage C",
        rf"{_BLOCK}[01]_\d+_(attention|channelwise|kv_mapper|mapper\w*)_|(^|_)clip_(txt|img)_mapper_",
    ),
    ("Würstchen v2", r"(^|_)blocks_\d+_(attention|channelwise)_"),
    ("Flux", r"(^|_)(double_blocks|single_blocks|single_transformer_blocks)_"),
    ("SD3", r"(^|_)joint_(transformer_)?blocks?_|(^|_)transformer_blocks_\d+_attn_(add|to)_"),
)

_UNETS = {768: "SD 1.5", 1024: "SD 2", 2048: "SDXL"}
"""Families of networks with cross-attention, by the features of a text token."""

_DOWN = re.compile(r"(lora[._](linear_layer\.)?(down|A)(\.default)?(\.weight)?|hada_w1_b|lokr_w[12]_b)$")


def find_adapter(shapes: Shapes) -> Adapter | None:
    """The adapter that a file is; None for anything else."""
    names = "\n".join(shapes)
    method = _first(_METHODS, names)
    if not method:
        return None
    downs = [shape for key, shape in shapes.items() if _DOWN.search(key) and shape]
    if method == "LoRA" and any(len(shape) == 4 and shape[-1] > 1 for shape in downs):
        method = "LyCORIS LoCon"
    dialect = _first(_DIALECTS, names)
    pattern = re.compile(dict(_METHODS)["LoRA" if method == "LyCORIS LoCon" else method])
    stems = {key[: match.start()] for key in shapes if (match := pattern.search(key))}
    return Adapter(
        target="Stage C" if dialect == "Stability" else _target(shapes, names.replace(".", "_")),
        dialect=dialect or "unknown",
        method=method,
        rank=max((shape[0] for shape in downs), default=None),
        count=len(stems),
    )


def _first(signs: tuple[tuple[str, str], ...], names: str) -> str:
    return next((what for what, pattern in signs if re.search(pattern, names, re.MULTILINE)), "")


def _target(shapes: Shapes, flat: str) -> str:
    known = _first(_TARGETS, flat)
    if known:
        return known
    for key, shape in shapes.items():
        if re.search(r"attn2[._]to_k", key) and _DOWN.search(key) and len(shape) > 1 and shape[1] in _UNETS:
            return _UNETS[shape[1]]
    return "a text encoder" if re.search(r"text_model_", flat) else ""


def controlnet_kind(shapes: Shapes, prefix: str) -> str:
    """What a Stage C ControlNet is steered by, told from its first convolution."""
    first = shapes.get(f"{prefix}backbone.0.0.weight") or shapes.get(f"{prefix}backbone.0.weight") or ()
    if len(first) != 4:
        return "unknown"
    whole = f"{prefix}backbone.0.0.weight" in shapes
    kinds = {
        (True, 1, 3): "canny",
        (True, 4, 3): "inpainting",
        (False, 16, 1): "super-resolution",
        (False, 512, 3): "identity",
    }
    return kinds.get((whole, first[1], first[-1]), f"unknown, of {first[1]} input channels")


@dataclass(frozen=True, slots=True)
class Projections:
    """What a Stage C ControlNet adds to Stage C.

    Attributes:
        count: residual blocks that it feeds.
        width: of the Stage C that it was made for.
    """

    count: int
    width: int


def controlnet_projections(shapes: Shapes) -> Projections:
    """Told from the last convolution of each projection."""
    found = [shape for key, shape in shapes.items() if re.fullmatch(r"projections\.\d+\.2\.weight", key)]
    return Projections(len(found), max((shape[0] for shape in found if shape), default=0))
