"""How many attention heads a CLIP encoder has, which shapes do not tell."""

from __future__ import annotations

from collections.abc import Mapping

RELEASED_HEAD_WIDTH = 64
"""Channels of an attention head in every CLIP of the released cascade."""


def count_heads(width: int, metadata: Mapping[str, str] | None) -> int:
    """Heads of an encoder of this width; ``cascade.head_dim`` in the metadata where they are not 64 wide.

    Raises:
        ValueError: the width does not divide into heads.
    """
    head_width = int((metadata or {}).get("cascade.head_dim", RELEASED_HEAD_WIDTH))
    if width % head_width:
        raise ValueError(
            f"attention over {width} channels does not divide into heads of {head_width}; "
            "the file's metadata must say cascade.head_dim"
        )
    return width // head_width
