"""The benchmark of approximations: what it runs is what nodes do, and its figures mean what they say."""

import pytest
import tiny_cascade
import torch
from comfyui_cascade.benchmarks import price
from comfyui_cascade.benchmarks.hosted import Hosted
from comfyui_cascade.training.picturebook import fresh_scenes


@pytest.fixture(scope="module")
def small(comfy_nodes, tmp_path_factory):
    paths = tiny_cascade.write(tmp_path_factory.mktemp("tiny"))
    return Hosted(paths["stage_c"].parent)


def test_the_exact_run_is_exact_and_reuse_takes_fewer_operations(small, monkeypatch):
    monkeypatch.setattr(price, "STEPS_C", 4)
    rows = price.haste(small, fresh_scenes(1), 2.0, None, lambda line: None)
    assert rows["exact"] == {"operations": 1.0, "error": 0.0}
    reused = rows["deep blocks every 2nd step"]
    assert reused["operations"] < 1
    assert reused["error"] > 0
    assert rows["guided from 1 to 0.5"]["operations"] < 0.9


def test_seams_are_seen_where_they_are():
    smooth = torch.linspace(0, 1, 64).expand(1, 3, 64, 64).contiguous()
    stepped = smooth.clone()
    stepped[..., 32:] += 0.5
    assert price.jumps(stepped, [32]) > 10 * price.jumps(smooth, [32])
    assert price.jumps(stepped, [20]) == pytest.approx(price.jumps(smooth, [20]))


def test_figures_that_a_row_lacks_are_dashes():
    shown = price.table({"a": {"error": 0.5}, "longer": {"error": 0.25, "things": 2.0}})
    assert [line.split() for line in shown.splitlines()] == [
        ["error", "things"], ["a", "0.500", "-"], ["longer", "0.250", "2.000"],
    ]  # fmt: skip
