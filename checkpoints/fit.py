"""Whether parts that a person picked one by one make a cascade."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

from .identify import NAMES, Part
from .recorded import RELEASED_COMPRESSION, Recorded

SAME_COMPRESSION = 0.01
"""Relative difference of two compressions that files spell differently."""


class Piece(NamedTuple):
    """What there is to know about a part before it is loaded.

    Attributes:
        file: what the person picked.
        config: sizes of its network.
        recorded: what its metadata says.
        small: whether it is the small cascade's own.
    """

    file: str
    config: Any
    recorded: Recorded
    small: bool


class Joint(NamedTuple):
    """Two sizes that have to be one: what a part takes and what another gives."""

    taker: Part
    taken: str
    giver: Part
    given: str
    what: str


JOINTS = (
    Joint(Part.STAGE_C, "c_text", Part.TEXT_ENCODER, "width", "features of a text token"),
    Joint(Part.STAGE_C, "c_pooled", Part.TEXT_ENCODER, "c_pooled", "features of the whole text"),
    Joint(Part.STAGE_B, "c_pooled", Part.TEXT_ENCODER, "c_pooled", "features of the whole text"),
    Joint(Part.STAGE_B, "c_semantic", Part.STAGE_C, "channels", "channels of Stage C's latents"),
    Joint(Part.STAGE_B, "channels", Part.STAGE_A, "channels", "channels of Stage B's latents"),
    Joint(Part.STAGE_C, "channels", Part.SEMANTIC_ENCODER, "channels", "channels of Stage C's latents"),
)

TRAINED_TOGETHER = ((Part.STAGE_B, Part.STAGE_C), (Part.SEMANTIC_ENCODER, Part.STAGE_C))
"""Parts that know Stage C's latents at one compression."""


def check_fit(pieces: Mapping[Part, Piece]) -> None:
    """Make sure that the parts belong together, as far as their sizes and metadata tell.

    Raises:
        ValueError: two of them do not; the sentence names both, and the number that differs.
    """
    for joint in JOINTS:
        if joint.taker in pieces and joint.giver in pieces:
            _check_joint(joint, pieces[joint.taker], pieces[joint.giver])
    for part, other in TRAINED_TOGETHER:
        if part in pieces and other in pieces:
            _check_compression(part, pieces[part], pieces[other])
    if Part.STAGE_A in pieces and Part.STAGE_B in pieces:
        _check_stage_a(pieces[Part.STAGE_A], pieces[Part.STAGE_B])


def _check_joint(joint: Joint, taker: Piece, giver: Piece) -> None:
    taken, given = getattr(taker.config, joint.taken), getattr(giver.config, joint.given)
    if taken != given:
        raise ValueError(
            f"`{taker.file}` is {NAMES[joint.taker]} for {taken} {joint.what}, and `{giver.file}` is "
            f"{NAMES[joint.giver]} with {given}: choose parts of one cascade"
        )


def _check_compression(part: Part, piece: Piece, stage_c: Piece) -> None:
    found, expected = piece.recorded.compression, stage_c.recorded.compression
    if not math.isclose(found, expected, rel_tol=SAME_COMPRESSION):
        raise ValueError(
            f"`{piece.file}` is {NAMES[part]} trained on Stage C latents of {found:.4g} pixels to a cell, "
            f"and `{stage_c.file}` draws them at {expected:.4g}: choose parts of one cascade"
        )


def _check_stage_a(stage_a: Piece, stage_b: Piece) -> None:
    """The small Stage A has latents of its own, and those have no number to tell them by."""
    released_a = stage_a.recorded.part is None
    released_b = math.isclose(stage_b.recorded.compression, RELEASED_COMPRESSION, rel_tol=SAME_COMPRESSION)
    if (stage_a.small and released_b) or (stage_b.small and released_a):
        raise ValueError(
            f"`{stage_b.file}` draws latents for another Stage A than `{stage_a.file}`: the small cascade's "
            "Stage A and Stage B go with each other, and not with the released ones"
        )
