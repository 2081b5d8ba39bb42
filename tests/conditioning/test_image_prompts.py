"""Several image prompts, weighted, averaged and blurred."""

import pytest
import torch
from comfyui_cascade.conditioning.image import blurred, combined


def embeds(count, seed=0, width=64):
    return torch.randn(count, width, generator=torch.Generator().manual_seed(seed))


def generator():
    return torch.Generator().manual_seed(5)


def test_concatenating_keeps_every_weighted_picture():
    first, second = embeds(1), embeds(2, seed=1)
    together = combined([first, second], [0.5, -1.0], "concatenate")
    assert torch.equal(together, torch.cat([first * 0.5, second * -1.0]))


def test_average_is_the_mean_of_the_weighted_embeddings():
    first, second = embeds(1), embeds(2, seed=1)
    together = combined([first, second], [2.0, 0.5], "average")
    assert torch.allclose(together, (2.0 * first + 0.5 * second[:1] + 0.5 * second[1:]) / 3)


@pytest.mark.parametrize("weight", [0.0, 0.4, 1.0])
def test_average_of_equal_pictures_is_one_of_them(weight):
    picture = embeds(1)
    together = combined([picture, picture, picture], [weight] * 3, "average")
    assert torch.allclose(together, picture * weight, atol=1e-6)


def test_no_noise_leaves_the_embedding_untouched():
    picture = embeds(2)
    assert blurred(picture, 0.0, generator()) is picture


@pytest.mark.parametrize("level", [0.2, 0.5, 1.0])
def test_noise_keeps_the_strength_of_the_embedding(level):
    picture = embeds(4, width=20_000) * torch.tensor([[0.1], [1.0], [5.0], [30.0]])
    strength = blurred(picture, level, generator()).norm(dim=1) / picture.norm(dim=1)
    assert (strength - 1).abs().max() < 0.03


def test_more_noise_leaves_less_of_the_picture():
    picture = embeds(1, width=5000)
    similar = [
        torch.cosine_similarity(blurred(picture, level, generator()), picture).item()
        for level in (0.0, 0.3, 0.6, 1.0)
    ]
    assert similar == sorted(similar, reverse=True)
    assert similar[0] == pytest.approx(1)
    assert abs(similar[-1]) < 0.05


def test_noise_is_that_of_its_seed():
    picture = embeds(1)
    assert torch.equal(blurred(picture, 0.5, generator()), blurred(picture, 0.5, generator()))
