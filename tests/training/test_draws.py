"""Random numbers that belong to examples."""

import torch
from comfyui_cascade.training.draws import Draws, random_of, seed_of


def drawn(seed, positions):
    draws = Draws(seed, positions)
    return torch.cat([draws.normal(3, 2).flatten(1), draws.uniform(4), draws.keep(0.5, 2)], dim=1)


def test_an_examples_numbers_do_not_depend_on_its_batch():
    together = drawn(5, range(10, 18))
    for i, position in enumerate(range(10, 18)):
        assert torch.equal(drawn(5, [position])[0], together[i])


def test_positions_and_seeds_have_numbers_of_their_own():
    assert not torch.equal(drawn(5, [0]), drawn(5, [1]))
    assert not torch.equal(drawn(5, [0]), drawn(6, [0]))


def test_seeds_depend_on_every_part():
    seeds = {seed_of("a", 1), seed_of("a", 2), seed_of("b", 1), seed_of("a", 1, 0)}
    assert len(seeds) == 4
    assert all(0 <= seed < 2**63 for seed in seeds)
    assert random_of("a", 1).random() == random_of("a", 1).random()


def test_a_share_of_the_examples_is_dropped():
    keep = Draws(0, range(4000)).keep(0.3, 4)
    assert keep.shape == (4000, 1, 1, 1)
    assert set(keep.unique().tolist()) == {0.0, 1.0}
    assert abs(keep.mean().item() - 0.7) < 0.03


def test_normal_numbers_are_normal_and_uniform_ones_uniform():
    draws = Draws(0, range(500))
    normal, uniform = draws.normal(20), draws.uniform(20)
    assert abs(normal.mean()) < 0.05
    assert abs(normal.std() - 1) < 0.05
    assert uniform.min() >= 0
    assert uniform.max() < 1
    assert abs(uniform.mean() - 0.5) < 0.02
