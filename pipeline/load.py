"""A cascade from its files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import torch

from ..checkpoints.identify import Part
from .cascade import Cascade
from .parts import PRECISIONS, Parts

FILES = (
    Part.STAGE_A, Part.STAGE_B, Part.STAGE_C, Part.TEXT_ENCODER, Part.IMAGE_ENCODER, Part.SEMANTIC_ENCODER,
    Part.PREVIEWER, Part.IMAGE_ADAPTER,
)  # fmt: skip
"""What a cascade may be given a file of; all of them are in the small one."""


def load(
    *,
    files: Mapping[str, str | Path] | None = None,
    loras: Sequence[tuple[str | Path, float]] = (),
    tokenizer: str | Path | None = None,
    device: str = "cpu",
    precision: str | None = None,
) -> Cascade:
    """A cascade; the small one that ships where no files are given.

    Args:
        files: paths by part: ``stage_a``, ``stage_b``, ``stage_c``, ``text_encoder``, ``image_encoder``,
            ``semantic_encoder``, ``previewer``, ``image_adapter``; parts that are not named are those that
            ship.
        loras: files with strengths; 1 is as trained.
        tokenizer: a folder with CLIP's vocabulary, for a text encoder that knows all of it; the folder
            ``tokenizer`` beside its file by default.
        device: as torch calls it.
        precision: what Stage B and C compute in: fp32, bf16 or fp16; None for fp32 on a CPU and bf16
            elsewhere.

    Raises:
        ValueError: a file is missing or holds something else, or the parts do not fit each other.
    """
    given = {_part(name): Path(path) for name, path in (files or {}).items()}
    where = _device(device)
    chosen = precision or ("fp32" if where.type == "cpu" else "bf16")
    if chosen not in PRECISIONS:
        raise ValueError(f"there is no precision {chosen!r}; choose {', '.join(PRECISIONS)}")
    for path, strength in loras:
        if not Path(path).is_file():
            raise ValueError(f"there is no `{path}` to read a LoRA of strength {strength:g} from")
    parts = Parts(
        given, where, chosen, [(Path(path), strength) for path, strength in loras],
        Path(tokenizer) if tokenizer else None,
    )  # fmt: skip
    parts.check()
    return Cascade(parts)


def _part(name: str) -> Part:
    known = [part.value for part in FILES]
    if name not in known:
        raise ValueError(f"a cascade has no part {name!r}; it has {', '.join(known)}")
    return Part(name)


def _device(name: str) -> torch.device:
    try:
        device = torch.device(name)
        torch.zeros(1, device=device)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).partition("\n")[0]
        raise ValueError(f"torch has no device {name!r} here ({reason}); cpu always works") from None
    return device
