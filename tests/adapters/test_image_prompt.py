"""Decoupled image attention on the pure Stage C: what it adds, where, and its file."""

import pytest
import tiny_cascade
import torch
from comfyui_cascade.adapters.image_prompt import (
    ImageAdapterConfig,
    attention_blocks,
    cells_seen,
    check_adapter,
    image_attention,
    load_image_adapter,
    new_image_adapter,
)
from comfyui_cascade.checkpoints.layout import shapes
from comfyui_cascade.checkpoints.save import save_tensors
from comfyui_cascade.layers.hooks import Hooks, Place, Projected
from comfyui_cascade.layers.ops import scaled_dot_product
from comfyui_cascade.stage_c import StageC
from random_weights import difference, randomise
from tiny_cascade import unit

C_IMAGE, TOKENS, C_TOKEN = 24, 3, 16
PLACES = [Place("down", 0), Place("down", 1), Place("up", 0), Place("up", 1)]


@pytest.fixture(scope="module")
def stage_c():
    return randomise(StageC(tiny_cascade.C)).requires_grad_(False)


@pytest.fixture(scope="module")
def adapter():
    return randomise(new_image_adapter(tiny_cascade.C.trunk, C_IMAGE, TOKENS, C_TOKEN))


@pytest.fixture(scope="module")
def predict(stage_c):
    tokens = unit(2, 9, tiny_cascade.COND, seed=1)

    def run(*attention):
        x, t = unit(2, 16, 6, 5), torch.tensor([0.3, 0.8])
        return stage_c(x, t, tokens, hooks=Hooks(attention=attention))

    return run


def test_adapter_feeds_every_attention_block(adapter):
    assert [place for place, _ in adapter.config.blocks] == PLACES
    assert attention_blocks(tiny_cascade.B.trunk) == tuple(
        (place, 32) for place in (Place("down", 2), Place("down", 3), Place("up", 0), Place("up", 1))
    )


def test_new_adapter_changes_nothing(predict):
    fresh = new_image_adapter(tiny_cascade.C.trunk, C_IMAGE, TOKENS, C_TOKEN)
    assert torch.equal(predict(image_attention(fresh(unit(1, 1, C_IMAGE)), 1.0)), predict())


def test_what_is_added_is_attention_to_the_pictures_alone(adapter):
    q, k, v = unit(2, 30, 32), unit(2, 38, 32, seed=1), unit(2, 38, 32, seed=2)
    call = Projected(PLACES[2], (6, 5), q, k, v, 30, 2, scaled_dot_product)
    image = unit(1, 2, C_IMAGE, seed=3)
    found = image_attention(adapter(image), 0.7)(call, lambda c: c.attend(c.q, c.k, c.v, c.heads))

    # By hand, with the softmax written out.
    tokens = adapter.image_tokens.norm(adapter.image_tokens.proj(image).view(1, 2 * TOKENS, C_TOKEN))
    block = adapter.up["0"]

    def attend(keys, values):
        heads = [part.unflatten(-1, (2, 16)).movedim(2, 1) for part in (q, keys, values)]
        weights = torch.softmax(heads[0] @ heads[1].mT / 4, dim=-1)
        return (weights @ heads[2]).movedim(1, 2).flatten(2)

    by_hand = attend(k, v) + 0.7 * attend(
        block.to_k(tokens).expand(2, -1, -1), block.to_v(tokens).expand(2, -1, -1)
    )
    assert difference(found, by_hand) < 1e-5


def test_several_adapters_add_up_in_any_order(adapter, predict):
    first = image_attention(adapter(unit(1, 1, C_IMAGE)), 0.6)
    second = image_attention(adapter(unit(1, 1, C_IMAGE, seed=4)), -0.3)
    assert difference(predict(first, second), predict(second, first)) < 1e-5
    assert difference(predict(first, second), predict(first)) > 1e-3


def test_scale_is_linear_in_one_block(adapter):
    q = unit(1, 30, 32)
    call = Projected(PLACES[0], (6, 5), q, q, q, 30, 2, scaled_dot_product)
    nothing = torch.zeros_like(q)
    once, twice = (
        image_attention(adapter(unit(1, 1, C_IMAGE)), scale)(call, lambda c: nothing) for scale in (0.5, 1.0)
    )
    assert difference(2 * once, twice) < 1e-6


@pytest.mark.parametrize("size", [(6, 5), (60, 50), (7, 9)])
def test_cells_outside_of_the_region_see_no_picture(adapter, size):
    q = unit(2, 30, 32)
    call = Projected(PLACES[0], (6, 5), q, q, q, 30, 2, scaled_dot_product)
    region = torch.zeros(1, *size)
    region[:, : size[0] // 2] = 1
    added = image_attention(adapter(unit(1, 1, C_IMAGE)), 1.0, region)(call, lambda c: torch.zeros_like(q))
    rows = added.abs().amax(dim=(0, 2)).view(6, 5).amax(dim=1)
    assert (rows[:2] > 0).all()
    assert (rows[4:] == 0).all()
    full = image_attention(adapter(unit(1, 1, C_IMAGE)), 1.0)(call, lambda c: torch.zeros_like(q))
    assert difference(added[:, :10], full[:, :10]) < 1e-6


def test_soft_region_is_a_share_of_each_cell():
    region = torch.linspace(0, 1, 8).expand(1, 4, 8)
    assert torch.allclose(cells_seen(region, (2, 2))[0, :, 0], torch.tensor([3, 11, 3, 11]) / 14, atol=1e-6)


def test_file_gives_the_adapter_back(adapter, tmp_path):
    path = tmp_path / "style.safetensors"
    save_tensors(path, adapter.state_dict(), {"cascade.part": "image_adapter"})
    loaded = load_image_adapter(path)
    assert loaded.config == adapter.config
    image = unit(1, 2, C_IMAGE)
    for place, (keys, values) in adapter(image).items():
        assert torch.equal(loaded(image)[place].keys, keys)
        assert torch.equal(loaded(image)[place].values, values)


def test_sizes_are_read_from_shapes(adapter):
    assert ImageAdapterConfig.from_shapes(shapes(adapter.state_dict())) == ImageAdapterConfig(
        C_IMAGE, TOKENS, C_TOKEN, tuple((place, 32) for place in PLACES)
    )


def test_file_of_another_kind_is_told(stage_c, tmp_path):
    path = tmp_path / "stage_c.safetensors"
    save_tensors(path, stage_c.state_dict())
    with pytest.raises(ValueError, match=r"a Stage C of .* and an image adapter for Stage C was expected"):
        load_image_adapter(path)


def test_adapter_of_another_stage_c_is_refused(adapter):
    with pytest.raises(ValueError, match="made for a Stage C of 4 attention blocks of 32 channels"):
        check_adapter(adapter.config, tiny_cascade.B.trunk, "style.safetensors")
