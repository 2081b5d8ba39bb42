"""What says whether a picture follows its hint: right for equal pictures, wrong for others."""

import math

import numpy as np
import pytest
import tiny_cascade
import tiny_controlnet
import torch
from comfyui_cascade.benchmarks.control import edge_agreement, fidelity, hint_of, kept_psnr, measure
from comfyui_cascade.benchmarks.drawing import Sampling, cascade_in
from comfyui_cascade.training.picturebook import draw, fresh_scenes
from comfyui_cascade.training.workspace import to_images


@pytest.fixture(scope="module")
def true():
    return to_images(np.stack([draw(scene, (128, 128)).picture for scene in fresh_scenes(4)]))


def test_edges_agree_with_their_own_and_not_with_those_of_other_pictures(true):
    assert edge_agreement(true, true) == pytest.approx(1)
    other = edge_agreement(true, true.roll(1, 0))
    assert other < 0.7
    assert edge_agreement(true, true.roll(1, -1)) > 0.95 > other  # a pixel aside is near enough


def test_picture_without_edges_follows_none(true):
    assert edge_agreement(torch.full_like(true, 0.5), true) == 0
    assert math.isnan(edge_agreement(true, torch.full_like(true, 0.5)))


def test_edges_do_not_know_colours(true):
    assert edge_agreement(1 - true, true) == pytest.approx(1, abs=0.05)


def test_many_wrong_edges_count_against_a_picture_that_has_all_right_ones(true):
    noisy = true.clone()
    noisy[..., ::8, :] = 1 - noisy[..., ::8, :]
    assert edge_agreement(noisy, true) < 0.8


def test_what_is_in_the_hole_does_not_count():
    references = torch.rand(2, 3, 8, 8)
    masks = torch.zeros(2, 1, 8, 8)
    masks[..., :4] = 1
    pictures = references.clone()
    pictures[..., :4] = 0
    assert kept_psnr(pictures, references, masks) == math.inf
    pictures[..., 4:] += 0.1
    assert kept_psnr(pictures, references, masks) == pytest.approx(20, abs=1e-3)


def test_fidelity_is_that_of_the_small_picture():
    small = torch.rand(1, 3, 8, 8)
    large = small.repeat_interleave(2, -1).repeat_interleave(2, -2)
    assert fidelity(large, small) > 60 > 15 > fidelity(1 - large, small)


@pytest.fixture(scope="module")
def cascade(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tiny")
    tiny_cascade.write(folder)
    return cascade_in(folder)


@pytest.mark.parametrize("kind", ["canny", "inpainting", "super-resolution"])
def test_hints_have_the_channels_of_their_kind(kind, true, cascade):
    hint, figures = hint_of(kind, true, cascade)
    assert hint.shape[1] == tiny_controlnet.CONFIGS[kind].backbone.c_in
    assert all(value > 0 for value in figures(true * 0.9).values())


def test_nothing_is_measured_for_other_kinds(true, cascade):
    with pytest.raises(ValueError, match="of the kind identity"):
        hint_of("identity", true, cascade)


def test_whole_measurement_draws_with_and_without(cascade):
    controlnet = tiny_controlnet.network("canny")
    sampling = Sampling(steps_c=2, steps_b=2, size=(64, 64))
    table, pictures = measure(cascade, controlnet, 2, 2.0, sampling, lambda line: None)
    assert set(table) == {"with it", "without it", "true latents"}
    assert pictures.shape == (8, 3, 64, 64)
    assert not torch.equal(pictures[2:4], pictures[4:6])
