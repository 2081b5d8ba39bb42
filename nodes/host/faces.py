"""Where InsightFace's models lie in the host's folders."""

from __future__ import annotations

from pathlib import Path

import folder_paths
from torch import Tensor

from ...adapters.faces import detect
from ...adapters.hints import Face

REFERENCE = "buffalo_l"
"""Folder of the models that the reference used."""


def _root() -> Path:
    """Where other packs keep them as well."""
    return Path(folder_paths.models_dir) / "insightface" / "models"


def face_models() -> list[str]:
    """Folders of models, the reference's first whether it is there or not."""
    folders = {path.parent.name for path in _root().glob("*/*.onnx")} - {REFERENCE}
    return [REFERENCE, *sorted(folders)]


def detect_faces(picture: Tensor, models: str, count: int, threshold: float) -> list[Face]:
    """See ``adapters.faces.detect``; ``models`` is one of ``face_models``."""
    return detect(picture, _root() / Path(models).name, count, threshold)
