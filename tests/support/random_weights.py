"""Random values for every weight of a network, and how far two results are apart.

Networks start with zeros in places (heads, gains), which would hide a wrong block from a comparison.
"""

import torch


def randomise(network, seed=0):
    """Give every parameter and statistic of a network a random value that keeps activations near 1."""
    generator = torch.Generator().manual_seed(seed)

    def unit(shape):
        return torch.randn(shape, generator=generator)

    with torch.no_grad():
        for name, value in network.state_dict().items():
            if not value.is_floating_point():
                continue
            if name.endswith("running_var"):
                value.copy_(0.5 + torch.rand(value.shape, generator=generator))
            elif value.ndim > 1 and not name.endswith(("gamma", "beta")):
                fan_in = max(1, value[0].numel())
                value.copy_(unit(value.shape) / fan_in**0.5)
            elif name.endswith(("weight", "logit_scale")):  # gains of norms
                value.copy_(1 + 0.3 * unit(value.shape))
            else:
                value.copy_(0.5 * unit(value.shape))
    return network.eval()


def difference(ours, theirs):
    """Largest difference, relative to the largest value."""
    assert ours.shape == theirs.shape
    assert theirs.isfinite().all()
    assert theirs.float().std() > 1e-3
    return ((ours.float() - theirs.float()).abs().max() / theirs.float().abs().max()).item()


def spread(result, truth):
    """Root mean square error, relative to the root mean square of the truth."""
    return ((result.float() - truth).square().mean() / truth.square().mean()).sqrt().item()
