"""Faces in a picture, by InsightFace, an optional library: pip install "cascade[faces]".

The reference finds them with the same models, det_10g and w600k_r50 of the folder buffalo_l. Source:
Stability ``modules/controlnet.py``, ``IdentityFilter``.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from .hints import Face

DETECTED_AT = (320, 320)
"""Pixels to which the reference scales a picture to find faces."""


def detect(picture: Tensor, folder: Path, count: int, threshold: float) -> list[Face]:
    """The largest faces in a picture.

    Args:
        picture: ``h w 3`` in [0, 1].
        folder: of InsightFace's ``.onnx`` files, for detection and recognition.
        count: of faces at most.
        threshold: how sure of a face the detector must be.

    Raises:
        ValueError: the library or its models are missing.
    """
    analysis = _analysis(folder, threshold)
    pixels = (picture * 255).round().clamp(0, 255).to(torch.uint8).cpu()
    height, width, _ = picture.shape
    found = analysis.get(pixels.flip(-1).contiguous().numpy(), max_num=count)  # blue first
    return [_face(face, width, height) for face in found]


def _face(found: Any, width: int, height: int) -> Face:
    left, top, right, bottom = (float(side) for side in found.bbox)
    box = (left / width, top / height, right / width, bottom / height)
    return Face(box, torch.as_tensor(found.normed_embedding, dtype=torch.float32))


def _analysis(folder: Path, threshold: float) -> Any:
    try:
        from insightface.app import FaceAnalysis
    except ImportError as error:
        raise ValueError(
            f"finding faces needs InsightFace, which cannot be loaded ({error}); install it into ComfyUI's "
            "Python by pip install insightface onnxruntime"
        ) from error
    # The library downloads what it does not find, and nothing here goes to the network.
    if not any(folder.glob("*.onnx")):
        raise ValueError(
            f"there are no .onnx files in {folder}; unpack InsightFace's buffalo_l there, which holds "
            "det_10g.onnx and w600k_r50.onnx"
        )
    analysis = FaceAnalysis(name=str(folder), allowed_modules=["detection", "recognition"])
    analysis.prepare(ctx_id=0, det_thresh=threshold, det_size=DETECTED_AT)
    return analysis
