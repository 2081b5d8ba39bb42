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
)


def path(part: str) -> Path:
    """Where a part's file lies; not every part has to ship."""
    if part not in PARTS:
        raise ValueError(f"the small cascade has no part {part}; it has {', '.join(PARTS)}")
    return Path(__file__).parent / f"{part}.safetensors"
