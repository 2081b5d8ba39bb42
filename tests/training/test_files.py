"""Files that are whole whenever they have their name."""

import resource
import signal

import pytest
import torch
from comfyui_cascade.training.files import write_whole
from safetensors import safe_open


def test_tensors_and_metadata_are_written(tmp_path):
    path = tmp_path / "new" / "file.safetensors"
    write_whole({"a": torch.arange(6).view(2, 3).T, "b": torch.ones(2).requires_grad_()}, path, {"x": "y"})
    with safe_open(path, "pt") as file:
        assert torch.equal(file.get_tensor("a"), torch.arange(6).view(2, 3).T)
        assert file.metadata() == {"x": "y"}
    assert [p.name for p in path.parent.iterdir()] == ["file.safetensors"]


def test_a_full_disk_leaves_what_was_there(tmp_path):
    path = tmp_path / "file.safetensors"
    write_whole({"a": torch.ones(2)}, path)
    was = path.read_bytes()
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (5000, before[1]))
    try:
        with pytest.raises(OSError, match=r"file\.safetensors could not be written .*free some space"):
            write_whole({"a": torch.ones(5000)}, path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert path.read_bytes() == was
    assert [p.name for p in tmp_path.iterdir()] == ["file.safetensors"]
