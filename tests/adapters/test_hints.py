"""What ControlNets follow: as the reference makes it."""

import sys

import cv2
import numpy as np
import pytest
import torch
from comfyui_cascade.adapters.hints import (
    Face,
    as_colours,
    canny_hint,
    identity_hint,
    inpaint_hint,
    lit,
    super_resolution_hint,
    with_borders,
)


def unit(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def shapes_picture(height, width):
    """Two boxes and a disc on a slope, ``1 3 h w``."""
    rows, columns = torch.meshgrid(torch.linspace(0, 1, height), torch.linspace(0, 1, width), indexing="ij")
    picture = torch.stack([rows, columns, 0.3 + 0.2 * rows])
    picture[:, height // 5 : height // 2, width // 5 : width // 2] = torch.tensor([0.9, 0.2, 0.1]).view(
        3, 1, 1
    )
    disc = (rows - 0.7).square() + (columns - 0.7).square() < 0.04
    picture[:, disc] = torch.tensor([[0.1], [0.2], [0.8]])
    return picture[None]


@pytest.mark.parametrize("size", [(256, 256), (200, 320)])
def test_edges_are_found_as_the_reference_finds_them(size):
    picture = shapes_picture(*size)
    square = torch.nn.functional.interpolate(picture, (224, 224), mode="bilinear")
    pixels = np.ascontiguousarray((square[0] * 255).byte().permute(1, 2, 0).numpy())
    edges = torch.from_numpy(cv2.Canny(pixels, 100, 200))[None, None] / 255
    expected = torch.nn.functional.interpolate(edges, size, mode="bilinear")
    found = canny_hint(picture)
    assert torch.equal(found, expected)
    assert 0.005 < found.mean() < 0.2


def test_lower_thresholds_find_more_edges():
    noise = torch.rand(1, 3, 128, 128, generator=torch.Generator().manual_seed(0))
    picture = 0.7 * shapes_picture(128, 128) + 0.3 * noise
    few, usual, many = (canny_hint(picture, *pair).mean() for pair in ((600, 700), (100, 200), (20, 40)))
    assert few < usual < many


def test_edges_at_the_pictures_own_size_are_crisp():
    found = canny_hint(shapes_picture(96, 128), side=0)
    assert found.shape == (1, 1, 96, 128)
    assert set(found.unique().tolist()) == {0.0, 1.0}


def test_missing_opencv_is_said_with_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "cv2", None)
    with pytest.raises(ValueError, match="pip install opencv-python-headless"):
        canny_hint(torch.rand(1, 3, 32, 32))


def test_holes_are_white_and_marked_and_the_rest_is_kept():
    images, masks = torch.rand(2, 3, 20, 30), torch.zeros(1, 1, 20, 30)
    masks[..., 5:9, 10:20] = 0.7
    hint = inpaint_hint(images, masks)
    holes = torch.zeros(2, 1, 20, 30)
    holes[..., 5:9, 10:20] = 1
    assert torch.equal(hint[:, 3:], holes)
    assert torch.equal(hint[:, :3], torch.where(holes.bool(), torch.ones(()), images))
    assert not inpaint_hint(images, masks, threshold=0.8)[:, 3:].any()


def test_borders_are_to_be_painted_and_the_picture_stays_in_its_place():
    images, masks = torch.rand(1, 3, 16, 16), torch.zeros(1, 1, 16, 16)
    larger, holes = with_borders(images, masks, (8, 0, 4, 2))
    assert larger.shape == (1, 3, 18, 28)
    assert torch.equal(larger[..., :16, 8:24], images)
    assert holes.sum() == 18 * 28 - 16 * 16


def test_latents_of_a_small_picture_repeat_over_a_larger_one():
    latents = unit(1, 16, 3, 4)
    hint = super_resolution_hint(latents)
    assert hint.shape == (1, 16, 6, 8)
    for row in (0, 1):
        for column in (0, 1):
            assert torch.equal(hint[..., row::2, column::2], latents)


def test_faces_fill_the_cells_of_their_boxes_with_unit_embeddings():
    one, other = unit(512), unit(512, seed=1)
    # 320x160 pixels are 10x5 cells; the second box lies over the first.
    faces = [Face((0.1, 0.2, 0.55, 0.8), 7 * one), Face((0.38, -0.2, 0.7, 0.35), other)]
    cells = identity_hint(faces, 320, 160)
    expected = torch.zeros(1, 512, 5, 10)
    expected[0, :, 1:4, 1:6] = (one / one.norm())[:, None, None]
    expected[0, :, 0:2, 4:7] = (other / other.norm())[:, None, None]
    torch.testing.assert_close(cells, expected)


@pytest.mark.parametrize("box", [(0.5, 0.5, 0.501, 0.501), (0.99, 0.99, 1.2, 1.2), (-0.3, -0.3, 0.0, 0.0)])
def test_the_smallest_face_has_a_cell(box):
    assert (identity_hint([Face(box, unit(8))], 256, 256).norm(dim=1) > 0).sum() == 1


def test_four_faces_count():
    faces = [Face((i / 5, 0.0, (i + 1) / 5, 1.0), unit(4, seed=i)) for i in range(5)]
    cells = identity_hint(faces, 320, 32)
    assert (cells.norm(dim=1) > 0).sum() == 8


@pytest.mark.parametrize(("faces", "message"), [
    ([], "no face"), ([Face((0, 0, 1, 1), unit(4)), Face((0, 0, 1, 1), unit(5))], r"\[4, 5\] features"),
])  # fmt: skip
def test_faces_that_do_not_fit_are_refused(faces, message):
    with pytest.raises(ValueError, match=message):
        identity_hint(faces, 64, 64)


@pytest.mark.parametrize("channels", [1, 2, 3, 4, 16, 512])
def test_any_hint_can_be_looked_at(channels):
    shown = as_colours(5 * unit(2, channels, 4, 6))
    assert shown.shape == (2, 3, 4, 6)
    assert shown.amin() == 0
    assert shown.amax() == pytest.approx(1, abs=1e-5)
    assert as_colours(torch.zeros(1, channels, 2, 2)).isfinite().all()


def test_a_picture_is_dark_outside_of_its_faces():
    image = torch.ones(1, 10, 20, 3)
    shown = lit([Face((0.25, 0.0, 0.5, 1.0), unit(4))], image)
    assert shown[:, :, 5:10].eq(1).all()
    assert shown[:, :, :5].lt(0.5).all()
    assert shown[:, :, 10:].lt(0.5).all()
