"""Windows of pictures for Stage B."""

import torch
from comfyui_cascade.training.draws import Draws
from comfyui_cascade.training.picturebook import Placed
from comfyui_cascade.training.windows import EACH, whole, windows_on

MAPS = torch.arange(2 * 3 * 32 * 48).view(2, 3, 32, 48)


def test_the_whole_of_a_map_is_one_window():
    windows = whole(MAPS)
    assert windows.each == 1
    assert torch.equal(windows.cut(MAPS), MAPS)


def test_windows_are_half_a_side_and_lie_on_the_grid_inside_the_map():
    for start in range(0, 200, 2):
        windows = windows_on([(), ()], MAPS, 2, Draws(0, [start, start + 1]))
        assert windows.size == (16, 24)
        assert windows.each == EACH
        assert windows.pictures == (0,) * EACH + (1,) * EACH
        for top, left in windows.corners:
            assert top % 2 == left % 2 == 0
            assert 0 <= top <= 16
            assert 0 <= left <= 24


def test_windows_reach_every_border():
    corners = [c for i in range(100) for c in windows_on([()], MAPS[:1], 2, Draws(0, [i])).corners]
    assert {top for top, _ in corners} == set(range(0, 17, 2))
    assert {left for _, left in corners} == set(range(0, 25, 2))


def test_every_second_window_shows_a_thing():
    thing = Placed("cat", "red", (0.7, 0.6, 0.8, 0.8))
    row, column = int(0.7 * 32), int(0.75 * 48)
    for i in range(50):
        windows = windows_on([(thing,)], MAPS[:1], 2, Draws(0, [i]))
        for top, left in windows.corners[1::2]:
            assert top <= row < top + 16
            assert left <= column < left + 24


def test_windows_of_a_coarser_map_show_the_same_place():
    windows = windows_on([(), ()], MAPS, 2, Draws(1, [0, 1]))
    coarse = MAPS[:, :, ::2, ::2]
    assert torch.equal(windows.cut(coarse, 2), windows.cut(MAPS)[:, :, ::2, ::2])


def test_a_pictures_windows_do_not_depend_on_its_batch():
    together = windows_on([(), ()], MAPS, 2, Draws(1, [4, 5]))
    alone = windows_on([()], MAPS[:1], 2, Draws(1, [5]))
    assert together.corners[EACH:] == alone.corners
