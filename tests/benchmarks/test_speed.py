"""The benchmarks of time, memory and growth: programs that are compared do the same."""

import pytest
import torch
from comfyui_cascade.benchmarks import growth, memory, speed
from comfyui_cascade.benchmarks.contestants import CLASSES, RIVALS, SIZES, stage


@pytest.mark.parametrize("name", [name for name in SIZES if name.startswith("tiny")])
def test_all_programs_draw_the_same_from_the_same_memory(comfy_nodes, name):
    with torch.inference_mode():
        rows = speed.measure(name, 256, 1, "fp32", "cpu", RIVALS, 1, 1e12)
    assert [row["program"] for row in rows] == ["ours", *RIVALS]
    assert all(row["error"] < 1e-5 and row["agrees"] for row in rows)
    assert all(row["of_limit"] > 0 for row in rows)
    assert [speed.table(row).split()[4] for row in rows] == ["ours", *RIVALS]


@pytest.mark.parametrize("name", ["stage_c_3.6b", "stage_c", "stage_b_1.5b", "stage_b", "stage_a"])
def test_sizes_are_the_published_ones(name):
    with torch.device("meta"):
        network = CLASSES[type(SIZES[name])](SIZES[name])
    millions = sum(parameter.numel() for parameter in network.parameters()) / 1e6
    published = {"stage_c_3.6b": 3590, "stage_c": 1000, "stage_b_1.5b": 1500, "stage_b": 700, "stage_a": 18}
    assert millions == pytest.approx(published[name], rel=0.05)


@pytest.mark.parametrize(
    ("name", "lean"), [("tiny_a", "tiles"), ("tiny_a_encode", "tiles"), ("tiny_b", "parts")]
)
def test_lean_ways_give_what_the_whole_gives(monkeypatch, name, lean):
    monkeypatch.setattr(memory, "TILE", 24)
    made = stage(name, 256, 1, torch.float32, "cpu")
    assert memory.ways(name, ["native"]) == ["whole", lean, "native"]
    with torch.inference_mode():
        whole, parts = (memory.WAYS[way](made)() for way in ("whole", lean))
    assert speed.error(parts, whole) < 1e-5


def test_rows_that_failed_say_so():
    row = {"stage": "stage_a", "pixels": 9, "dtype": "fp32", "way": "tiles", "failed": -9}
    assert memory.table(row).endswith("ended with -9")


def test_exponents_come_from_the_two_largest():
    assert growth.exponent([(4, 8.0), (1, 100.0), (2, 2.0)]) == pytest.approx(2)
    assert growth.exponent([(4, 8.0)]) is None
    rows = [
        {"pixels": pixels, "batch": batch, "seconds": pixels**3 * batch}
        for pixels, batch in ((256, 1), (512, 1), (256, 2))
    ]
    assert growth.exponents(rows) == {"cells": pytest.approx(1.5), "batch": pytest.approx(1)}
