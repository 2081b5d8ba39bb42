"""Stage C's own latents of known pictures, from which Stage B learns."""

import random

import pytest
import tiny_runs
import torch
from comfyui_cascade.training.redraw import Redrawer, redrawn_field
from comfyui_cascade.training.workspace import Workspace

COMPANIONS = {"stage_c": "stage_c.safetensors"}


def work(base, share=1.0, **redraw):
    settings = tiny_runs.settings(
        "stage_b", companions=COMPANIONS, redraw={"share": share, "steps": 4, **redraw}
    )
    return Workspace(settings, base, lambda line: None)


@pytest.mark.parametrize("cfg", [1.0, 4.0])
def test_the_later_redrawing_begins_the_more_of_the_latents_is_left(base, cfg):
    redrawer = Redrawer(work(base, cfg=cfg))
    clean = torch.randn(3, redrawer.stage_c.config.channels, 5, 7)
    captions = ["a red boat on the sea"] * 3
    changes = [
        (redrawer(clean, captions, start, 0) - clean).square().mean() for start in (0.02, 0.3, 0.6, 1.0)
    ]
    assert changes == sorted(changes)
    assert changes[0] < 0.05 < changes[-1]


def test_redrawing_is_the_same_for_the_same_seed_alone(base):
    redrawer = Redrawer(work(base))
    clean = torch.zeros(2, redrawer.stage_c.config.channels, 4, 4)
    once, again, other = (redrawer(clean, ["a cat"] * 2, 0.5, seed) for seed in (1, 1, 2))
    assert torch.equal(once, again)
    assert not torch.equal(once, other)


def test_a_share_of_the_latents_is_redrawn_and_kept(base):
    space = work(base, share=0.5)
    field, semantics = redrawn_field(space), space.semantics_field()
    first = [[field(i, random.Random(k)) for k in range(40)] for i in range(3)]
    for i, drawn in enumerate(first):
        assert {tuple(one.shape) for one in drawn} == {tuple(semantics(i, random.Random(0)).shape)}
        kept = sum(torch.equal(one, semantics(i, random.Random(0))) for one in drawn)
        assert 8 <= kept <= 32
        others = [one for one in drawn if not torch.equal(one, semantics(i, random.Random(0)))]
        assert all(torch.equal(one, others[0]) for one in others)
    again = redrawn_field(work(base, share=0.5))
    assert torch.equal(again(1, random.Random(3)), first[1][3])


def test_stage_b_trains_on_redrawn_latents(base, tmp_path):
    done = tiny_runs.run(
        "stage_b", base, tmp_path / "run", companions=COMPANIONS, redraw={"share": 1.0, "steps": 2}
    )
    assert done.finished
    assert (tmp_path / "run" / "stage_b.safetensors").exists()


def test_redrawing_without_a_stage_c_says_what_to_name(base):
    settings = tiny_runs.settings("stage_b", redraw={"share": 1.0})
    with pytest.raises(ValueError, match=r"companions\.stage_c"):
        redrawn_field(Workspace(settings, base, lambda line: None))
