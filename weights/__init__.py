"""The small cascade that ships with the pack: one safetensors file for each part."""

from __future__ import annotations

from pathlib import Path

PARTS = (
    "stage_a",
    "stage_b",
    "stage_c",
    "text_encoder",
    "image_encoder",
    "semantic_encoder",
    "previewer",
    "image_adapter",
)


def shipped() -> list[str]:
    """Names of the files that ship: parts, and adapters such as "lora_cyanotype"."""
    return sorted(file.stem for file in Path(__file__).parent.glob("*.safetensors"))


def path(name: str) -> Path:
    """Where the file of a part or of an adapter lies; not every part has to ship.

    Raises:
        ValueError: nothing is called so.
    """
    names = sorted({*PARTS, *shipped()})
    if name not in names:
        raise ValueError(f"the small cascade has no {name}; it has {', '.join(names)}")
    return Path(__file__).parent / f"{name}.safetensors"


def adapters(kind: str) -> list[str]:
    """Names of the shipped adapters of a kind, "lora" or "controlnet", without the kind."""
    return [name.removeprefix(f"{kind}_") for name in shipped() if name.startswith(f"{kind}_")]
