"""fp16 where plain fp16 overflows: finite, and no further from the truth than bf16."""

import pytest
import torch
from comfyui_cascade.layers.half import HALF, half_attention, half_linear
from comfyui_cascade.layers.ops import TORCH, scaled_dot_product
from comfyui_cascade.stage_b import StageB
from comfyui_cascade.stage_c import StageC
from random_weights import randomise, spread
from tiny_cascade import IMAGE, TEXT, B, C, unit

LARGEST = torch.finfo(torch.float16).max


@pytest.fixture(autouse=True)
def _no_gradients():
    with torch.inference_mode():
        yield


def loud(network):
    """Weights that drive every kind of activation out of fp16's range.

    The timestep blocks multiply the residual stream, the MLPs' hidden values and the response norm's sums are
    made large, and so are queries and keys.
    """
    randomise(network)
    with torch.no_grad():
        for name, value in network.state_dict().items():
            if name.endswith("mapper.bias"):
                value[: len(value) // 2] += 40
            elif name.endswith(("channelwise.0.weight", "channelwise.4.weight")):
                value *= 300
            elif "to_q" in name or "to_k" in name:
                value *= 10
    return network


def loudest(network, run):
    """Largest activation that leaves a block, a hidden layer of an MLP, and a response norm."""
    found = {"block": 0.0, "hidden": 0.0, "norm": 0.0}

    def watch(kind):
        def hook(module, inputs, output):
            found[kind] = max(found[kind], output.abs().max().item())

        return hook

    hooks = []
    for name, module in network.named_modules():
        depth = name.count(".")
        if name.startswith(("down_blocks.", "up_blocks.")) and depth == 2:
            hooks.append(module.register_forward_hook(watch("block")))
        for ending, kind in (("channelwise.0", "hidden"), ("channelwise.2", "norm")):
            if name.endswith(ending):
                hooks.append(module.register_forward_hook(watch(kind)))
    run(network)
    for hook in hooks:
        hook.remove()
    return found


def run_c(network, dtype=torch.float32):
    x, text, pooled = unit(1, 16, 6, 7), unit(1, 5, TEXT, seed=1), unit(1, TEXT, seed=2)
    tokens = network.tokens(text.to(dtype), pooled.to(dtype), torch.zeros(1, 1, IMAGE, dtype=dtype))
    return network(x.to(dtype), torch.tensor([0.6]), tokens).float()


def run_b(network, dtype=torch.float32):
    x, pooled, semantic = unit(1, 4, 16, 20), unit(1, TEXT, seed=1), unit(1, 16, 3, 4, seed=2)
    cells = network.semantic_map(semantic.to(dtype), 16, 20)
    return network(x.to(dtype), torch.tensor([0.6]), network.tokens(pooled.to(dtype)), cells).float()


STAGES = {"stage_c": (StageC, C, run_c), "stage_b": (StageB, B, run_b)}


def rebuilt(make, config, weights, ops, dtype):
    network = make(config, ops)
    network.load_state_dict({key: value.to(dtype) for key, value in weights.items()}, assign=True)
    return network.eval()


@pytest.mark.parametrize("stage", STAGES)
def test_fp16_is_finite_and_no_further_from_the_truth_than_bf16(stage):
    make, config, run = STAGES[stage]
    exact = loud(make(config))
    assert min(loudest(exact, run).values()) > LARGEST
    truth, weights = run(exact), exact.state_dict()
    plain = run(rebuilt(make, config, weights, TORCH, torch.float16), torch.float16)
    assert not plain.isfinite().all()
    wide = run(rebuilt(make, config, weights, TORCH, torch.bfloat16), torch.bfloat16)
    ours = run(rebuilt(make, config, weights, HALF, torch.float16))
    assert ours.isfinite().all()
    assert spread(ours, truth) <= spread(wide, truth)


@pytest.mark.parametrize("stage", STAGES)
def test_fp16_on_quiet_weights_is_near_the_truth(stage):
    make, config, run = STAGES[stage]
    exact = randomise(make(config))
    ours = rebuilt(make, config, exact.state_dict(), HALF, torch.float16)
    assert spread(run(ours), run(exact)) < 2e-3


@pytest.mark.parametrize("size", [0.0, 1e-12, 1.0, 1e9])
def test_linear_layer_takes_rows_of_any_size(size):
    x, weight, bias = size * unit(3, 64), unit(32, 64, seed=1), unit(32, seed=2)
    truth = x @ weight.T + bias
    assert (half_linear(x, weight, bias) - truth).abs().max() <= 2e-3 * truth.abs().max()
    assert (half_linear(x, weight, None) - x @ weight.T).abs().max() <= 2e-3 * truth.abs().max()


def test_attention_takes_keys_and_values_of_any_size():
    q, k, v = unit(2, 5, 32), unit(2, 7, 32, seed=1), unit(2, 7, 32, seed=2)
    attend = half_attention()
    for q_scale, k_scale, v_scale in [(1, 1, 1), (1e-5, 1e5, 1e6), (1e5, 1e5, 1e-6), (0, 1, 1)]:
        inputs = q * q_scale, k * k_scale, v * v_scale
        result, truth = attend(*inputs, 4), scaled_dot_product(*inputs, 4)
        assert (result - truth).abs().max() <= 5e-3 * truth.abs().max()
