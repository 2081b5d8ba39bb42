"""Noise that belongs to pictures."""

import torch
from comfyui_cascade.latents.noise import SEEDS, StepNoise, picture_noise
from hypothesis import given
from hypothesis import strategies as st

seeds = st.integers(0, SEEDS - 1)


def latents(batch):
    return torch.zeros(batch, 4, 3, 5)


@given(seeds, st.integers(1, 4))
def test_row_i_is_the_noise_of_seed_plus_i_alone(seed, batch):
    together = picture_noise(latents(batch), seed)
    for i in range(batch):
        assert torch.equal(together[i], picture_noise(latents(1), (seed + i) % SEEDS)[0])


@given(seeds, st.integers(1, 4))
def test_noise_of_steps_belongs_to_pictures_too(seed, batch):
    together = StepNoise(latents(batch), seed)
    alone = [StepNoise(latents(1), (seed + i) % SEEDS) for i in range(batch)]
    for _ in range(3):
        assert torch.equal(together(), torch.cat([one() for one in alone]))


def test_numbered_rows_have_the_noise_of_their_numbers():
    assert torch.equal(picture_noise(latents(2), 7, [3, 0]), picture_noise(latents(4), 7)[[3, 0]])


def test_noise_of_steps_is_no_picture_s_first_noise():
    first = picture_noise(latents(50), 7)
    fresh = StepNoise(latents(1), 7)()
    assert not any(torch.equal(fresh[0], one) for one in first)


def test_noise_has_unit_variance():
    noise = picture_noise(torch.zeros(20, 16, 12, 12), 1)
    assert abs(noise.mean()) < 0.01
    assert abs(noise.std() - 1) < 0.01
