"""Checkpoints: whole or not there."""

import json
import resource
import signal

import pytest
import torch
from comfyui_cascade.training.average import Average
from comfyui_cascade.training.checkpoint import PROGRESS, Checkpoints, read, snapshot
from torch import nn
from torch.nn import Linear


def trained(seed, steps=3):
    torch.manual_seed(seed)
    network = nn.Sequential(Linear(3, 4), nn.BatchNorm1d(4), Linear(4, 2))
    network[2].bias.requires_grad_(False)
    optimizer = torch.optim.AdamW([p for p in network.parameters() if p.requires_grad], lr=1e-2)
    average = Average(network, 0.9)
    for step in range(steps):
        network(torch.randn(5, 3)).square().mean().backward()
        optimizer.step()
        optimizer.zero_grad()
        average.update(network, step + 1)
    return network, average.network, optimizer


def step_on(network, optimizer):
    torch.manual_seed(9)
    network(torch.randn(5, 3)).square().mean().backward()
    optimizer.step()
    return network.state_dict()


def write(folder, step, keep=2, seed=0):
    network, average, optimizer = trained(seed)
    return Checkpoints(folder, keep).write(step, snapshot(network, average, optimizer), {"seed": seed})


def test_what_was_written_is_read_and_goes_on_alike(tmp_path):
    network, average, optimizer = trained(0)
    place = Checkpoints(tmp_path, 2).write(7, snapshot(network, average, optimizer), {"seed": 4})
    other = trained(1)
    assert read(place, *other) == {"step": 7, "seed": 4}
    for mine, theirs in zip((network, average), other[:2], strict=True):
        for name, value in mine.state_dict().items():
            assert torch.equal(theirs.state_dict()[name], value), name
    expected = step_on(network, optimizer)
    for name, value in step_on(other[0], other[2]).items():
        assert torch.equal(value, expected[name]), name


def test_a_fresh_optimizer_takes_the_state(tmp_path):
    network, average, optimizer = trained(0)
    place = Checkpoints(tmp_path, 2).write(7, snapshot(network, average, optimizer), {})
    fresh = trained(1, steps=0)
    read(place, *fresh)
    expected = step_on(network, optimizer)
    assert all(torch.equal(v, expected[name]) for name, v in step_on(fresh[0], fresh[2]).items())


def test_the_last_ones_are_kept(tmp_path):
    for step in (5, 10, 15, 20):
        write(tmp_path, step)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["000000015", "000000020"]
    assert Checkpoints(tmp_path, 2).last().name == "000000020"


def test_there_may_be_none(tmp_path):
    assert Checkpoints(tmp_path / "none", 2).last() is None


def test_half_written_ones_are_ignored_and_cleared(tmp_path):
    write(tmp_path, 5)
    half = tmp_path / "000000010.part"
    half.mkdir()
    (half / "network.safetensors").write_bytes(b"half")
    nameless = tmp_path / "000000011"
    nameless.mkdir()  # without its progress
    assert Checkpoints(tmp_path, 2).last().name == "000000005"
    write(tmp_path, 12)
    assert not half.exists()


@pytest.mark.parametrize("earlier", [True, False])
def test_a_full_disk_leaves_the_last_whole_one_and_teaches(tmp_path, earlier):
    if earlier:
        write(tmp_path, 5)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (600, before[1]))
    try:
        with pytest.raises(OSError, match="the checkpoint of step 10 could not be written") as error:
            write(tmp_path, 10)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    kept = "the checkpoint of step 5 is whole" if earlier else "there is none before it"
    assert f"{kept}, so free some space and start the run again" in str(error.value)
    assert [path.name for path in tmp_path.iterdir()] == (["000000005"] if earlier else [])
    if earlier:
        assert json.loads((tmp_path / "000000005" / PROGRESS).read_text())["step"] == 5
