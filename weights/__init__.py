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


def path(part: str) -> Path:
    """Where a part's file lies; not every part has to ship."""
    if part not in PARTS:
        raise ValueError(f"the small cascade has no part {part}; it has {', '.join(PARTS)}")
    return Path(__file__).parent / f"{part}.safetensors"


def loras() -> list[str]:
    """Names of the LoRAs that ship, such as "woodcut"."""
    files = Path(__file__).parent.glob("lora_*.safetensors")
    return sorted(file.stem.removeprefix("lora_") for file in files)


def lora_path(name: str) -> Path:
    """Where a LoRA that ships lies.

    Raises:
        ValueError: none of this name ships.
    """
    if name not in loras():
        raise ValueError(f"no LoRA named {name} ships with the small cascade; it has {', '.join(loras())}")
    return Path(__file__).parent / f"lora_{name}.safetensors"


def controlnets() -> list[str]:
    """Names of the ControlNets that ship, such as "canny"."""
    files = Path(__file__).parent.glob("controlnet_*.safetensors")
    return sorted(file.stem.removeprefix("controlnet_") for file in files)


def controlnet_path(name: str) -> Path:
    """Where a ControlNet that ships lies.

    Raises:
        ValueError: none of this name ships.
    """
    if name not in controlnets():
        shipped = ", ".join(controlnets()) or "none"
        raise ValueError(f"no ControlNet named {name} ships with the small cascade; it has {shipped}")
    return Path(__file__).parent / f"controlnet_{name}.safetensors"
