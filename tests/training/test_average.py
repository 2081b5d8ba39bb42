"""The average of the weights."""

import pytest
import torch
from comfyui_cascade.training.average import Average
from torch import nn
from torch.nn import Conv2d


def network():
    torch.manual_seed(0)
    return nn.Sequential(Conv2d(2, 3, 1), nn.BatchNorm2d(3))


@pytest.mark.parametrize("decay", [0.5, 0.99])
def test_average_equals_the_recurrence_written_out(decay):
    trained = network()
    average = Average(trained, decay)
    expected = {name: value.double().clone() for name, value in trained.named_parameters()}
    for step in range(1, 60):
        with torch.no_grad():
            for parameter in trained.parameters():
                parameter.add_(torch.randn_like(parameter))
        average.update(trained, step)
        share = min(decay, (1 + step) / (10 + step))
        for name, value in trained.named_parameters():
            expected[name] = share * expected[name] + (1 - share) * value.detach().double()
    for name, value in average.network.named_parameters():
        torch.testing.assert_close(value.double(), expected[name], rtol=1e-5, atol=1e-5)


def test_buffers_are_copied():
    trained = network()
    average = Average(trained, 0.9)
    trained(torch.randn(4, 2, 3, 3))
    average.update(trained, 1)
    for mine, theirs in zip(average.network.buffers(), trained.buffers(), strict=True):
        assert torch.equal(mine, theirs)
    assert average.network[1].num_batches_tracked == 1


def test_averaging_leaves_the_trained_network_alone():
    trained = network()
    before = {name: value.clone() for name, value in trained.state_dict().items()}
    average = Average(trained, 0.9)
    average.network[0].weight.data.fill_(7)
    average.update(trained, 5)
    assert all(torch.equal(value, before[name]) for name, value in trained.state_dict().items())
    assert trained.training
    assert not average.network.training
    assert not any(parameter.requires_grad for parameter in average.network.parameters())
