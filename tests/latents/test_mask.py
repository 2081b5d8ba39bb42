import pytest
import torch
from comfyui_cascade.latents.mask import feathered, over_cells


def square(size=64, low=24, high=40):
    mask = torch.zeros(1, size, size)
    mask[:, low:high, low:high] = 1
    return mask


@pytest.mark.parametrize("pixels", [1, 4, 9, 16])
def test_feather_leaves_the_inside_whole_and_ends_after_its_pixels(pixels):
    soft = feathered(square(), pixels)
    assert soft[0, 24:40, 24:40].min() == 1
    reach = 2 * ((pixels + 1) // 2)
    assert soft[0, 32, 40 + reach :].max() == 0
    assert 0 < soft[0, 32, 40] < 1


def test_feather_falls_without_rising():
    row = feathered(square(), 12)[0, 32, 32:]
    assert (row.diff() <= 1e-6).all()


def test_no_feather_is_the_same_mask():
    mask = square()
    assert feathered(mask, 0) is mask


def test_feather_keeps_soft_values():
    mask = square() * 0.4
    soft = feathered(mask, 8)
    assert soft[0, 32, 32] == pytest.approx(0.4)
    assert soft.max() <= 0.4 + 1e-6


@pytest.mark.parametrize("size", [(64, 64), (7, 13), (256, 100), (12, 12), (1, 1)])
@pytest.mark.parametrize("cells", [(12, 12), (24, 16), (9, 30)])
def test_mask_of_any_size_covers_every_cell_that_it_touches(size, cells):
    mask = torch.zeros(1, *size)
    row, column = size[0] // 2, size[1] // 3
    mask[0, row, column] = 1
    over = over_cells(mask, *cells)
    assert over.shape == (1, 1, *cells)
    middle = [
        int((place + 0.5) * n / side) for place, n, side in zip((row, column), cells, size, strict=True)
    ]
    assert over[0, 0, middle[0], middle[1]] == 1


def test_one_pixel_masks_one_cell():
    mask = torch.zeros(1, 256, 256)
    mask[0, 3, 250] = 1
    over = over_cells(mask, 12, 12)
    assert over.sum() == 1
    assert over[0, 0, 0, 11] == 1


def test_soft_mask_stays_soft_over_cells():
    mask = torch.linspace(0, 1, 64).expand(1, 64, 64)
    over = over_cells(mask, 8, 8)
    assert over.unique().numel() == 8
    assert (over[0, 0, 0].diff() > 0).all()
