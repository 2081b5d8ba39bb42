"""Blocks in parts, and the norms in them, against blocks whole."""

import pytest
import tiny_cascade
import torch
from comfyui_cascade.layers import wide
from comfyui_cascade.layers.blocks import ResponseMLP, channel_norm
from comfyui_cascade.layers.ops import TORCH
from comfyui_cascade.layers.wide import by_strips
from comfyui_cascade.stage_b import StageB
from comfyui_cascade.stage_c import StageC
from random_weights import difference, randomise
from tiny_cascade import unit


@pytest.mark.parametrize("rows", [1, 3, 7, 99])
def test_an_mlp_in_strips_equals_the_mlp_whole(rows):
    mlp = randomise(ResponseMLP(6, 5, TORCH)).double()
    x = unit(2, 7, 4, 6).double()
    assert difference(mlp(x, rows), mlp(x)) < 1e-13


@pytest.mark.parametrize("values", [1, 2000, 10**9])
def test_networks_with_little_room_draw_the_same(values):
    stage_c = randomise(StageC(tiny_cascade.C)).double().eval()
    tokens = unit(2, 6, tiny_cascade.COND).double()
    t = torch.tensor([0.9, 0.2])
    x = unit(2, 16, 9, 11).double()
    assert difference(stage_c(x, t, tokens, wide_values=values), stage_c(x, t, tokens)) < 1e-12
    stage_b = randomise(StageB(tiny_cascade.B)).double().eval()
    x = unit(2, 4, 38, 42).double()
    cells = stage_b.semantic_map(unit(2, 16, 3, 4).double(), 38, 42)
    whole = stage_b(x, t, tokens, cells)
    assert difference(stage_b(x, t, tokens, cells, wide_values=values), whole) < 1e-12


@pytest.mark.parametrize("rows", [None, 3])
def test_an_mlp_gives_the_same_with_and_without_gradients_and_keeps_its_input(rows):
    mlp = randomise(ResponseMLP(6, 5, TORCH)).double()
    x = unit(2, 7, 4, 6).double()
    before = x.clone()
    with torch.no_grad():
        without = mlp(x, rows)
    expand, gelu, response, _, reduce = mlp
    assert difference(without, reduce(response(gelu(expand(x))))) < 1e-13
    assert torch.equal(mlp(x, rows), without)
    assert torch.equal(x, before)


def test_an_mlp_has_gradients_where_its_gain_alone_is_trained():
    mlp = randomise(ResponseMLP(6, 5, TORCH)).double().requires_grad_(False)
    mlp[2].gamma.requires_grad_(True)
    x = unit(1, 3, 4, 6).double()

    def of_gain(gamma):
        return torch.func.functional_call(mlp, {"2.gamma": gamma}, x)

    assert torch.autograd.gradcheck(of_gain, mlp[2].gamma)


@pytest.mark.parametrize(("device", "limit"), [("cpu", "CACHED_VALUES"), ("meta", "HELD_VALUES")])
@pytest.mark.parametrize(("values", "expected"), [(1, [1] * 7), (300, [3, 3, 1]), (10**9, [7])])
def test_a_layer_by_strips_gives_the_same(device, limit, values, expected, monkeypatch):
    monkeypatch.setattr(wide, limit, values)
    x, heights = unit(2, 7, 4, 6).to(device), []

    def layer(cells):
        heights.append(cells.shape[1])
        return cells * 2

    made = by_strips(layer, x, 24)
    assert heights == expected
    assert made.shape == x.shape
    assert device == "meta" or torch.equal(made, x * 2)


def test_an_mlp_in_strips_holds_a_strip_of_wide_values_at_most():
    mlp, widest = ResponseMLP(6, 5, TORCH), []
    mlp[0].register_forward_hook(lambda layer, given, out: widest.append(out.numel()))
    mlp(unit(2, 12, 4, 6), 3)
    assert max(widest) == 2 * 3 * 4 * 20


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_norms_of_half_precisions_neither_overflow_nor_lose_small_values(dtype):
    x = torch.full((1, 128, 128, 3), 300.0)
    x[..., 1] = 1e-3
    x[..., 2] = 0
    x = x.to(dtype)
    expected = torch.linalg.vector_norm(x.double(), dim=(1, 2), keepdim=True)
    assert channel_norm(x).dtype == torch.float32
    torch.testing.assert_close(channel_norm(x).double(), expected, rtol=1e-5, atol=1e-15)


def test_the_norm_of_nothing_has_no_slope():
    x = torch.zeros(1, 4, 4, 2, requires_grad=True)
    channel_norm(x).sum().backward()
    assert torch.equal(x.grad, torch.zeros_like(x))
