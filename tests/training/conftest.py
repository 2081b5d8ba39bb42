"""What tests of training share: one thread, so that sums come out the same, and a tiny cascade."""

import pytest
import tiny_cascade
import torch
from child_runs import Children


@pytest.fixture(autouse=True)
def _one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="session")
def base(tmp_path_factory):
    """A folder with a file of every part; caches come into it."""
    folder = tmp_path_factory.mktemp("base")
    tiny_cascade.write(folder)
    return folder


@pytest.fixture(scope="session")
def children():
    """Starts the training command in processes of its own, which may be killed."""
    running = Children()
    yield running
    running.close()
