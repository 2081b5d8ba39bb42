"""Faces by an optional library: what is asked of it, and what is made of its answers."""

import sys
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest
import torch
from comfyui_cascade.adapters.faces import detect


@pytest.fixture
def insightface(monkeypatch):
    """Stands in for the library; keeps what it was asked."""
    asked = SimpleNamespace()
    embedding = np.arange(512, dtype=np.float32)

    class FaceAnalysis:
        def __init__(self, name, allowed_modules):
            asked.folder, asked.modules = name, allowed_modules

        def prepare(self, ctx_id, det_thresh, det_size):
            asked.threshold, asked.size = det_thresh, det_size

        def get(self, pixels, max_num):
            asked.pixels, asked.count = pixels, max_num
            box = np.array([10, 20, 30, 40], dtype=np.float32)
            return [SimpleNamespace(bbox=box, normed_embedding=embedding / np.linalg.norm(embedding))]

    app = ModuleType("insightface.app")
    app.FaceAnalysis = FaceAnalysis
    monkeypatch.setitem(sys.modules, "insightface", ModuleType("insightface"))
    monkeypatch.setitem(sys.modules, "insightface.app", app)
    return asked


def test_pictures_go_in_as_blue_green_red_bytes_and_boxes_come_back_as_shares(insightface, tmp_path):
    (tmp_path / "det_10g.onnx").touch()
    picture = torch.rand(80, 100, 3)
    (face,) = detect(picture, tmp_path, 4, 0.5)
    assert face.box == pytest.approx((0.1, 0.25, 0.3, 0.5))
    assert face.embedding.shape == (512,)
    assert face.embedding.norm() == pytest.approx(1, abs=1e-5)
    assert insightface.folder == str(tmp_path)
    assert insightface.modules == ["detection", "recognition"]
    assert (insightface.threshold, insightface.size, insightface.count) == (0.5, (320, 320), 4)
    assert insightface.pixels.dtype == np.uint8
    assert np.array_equal(insightface.pixels[..., ::-1], (picture * 255).round().byte().numpy())


def test_missing_models_are_said_before_the_library_can_download_any(insightface, tmp_path):
    with pytest.raises(ValueError, match=r"no \.onnx files in .* unpack InsightFace's buffalo_l there"):
        detect(torch.rand(8, 8, 3), tmp_path / "buffalo_l", 4, 0.5)
    assert not hasattr(insightface, "folder")


def test_missing_library_is_said_with_what_to_install(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "insightface.app", None)
    with pytest.raises(ValueError, match="pip install insightface onnxruntime"):
        detect(torch.rand(8, 8, 3), tmp_path, 4, 0.5)
