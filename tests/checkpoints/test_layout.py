import pytest
import torch
from comfyui_cascade.checkpoints.layout import shapes, to_native, wrapper
from hypothesis import given
from hypothesis import strategies as st

P = "down_blocks.0.2.attention."


def native_attention(width=8):
    weights = {f"{P}attn.to_{name}.weight": torch.randn(width, width) for name in "qkv"}
    weights |= {f"{P}attn.to_{name}.bias": torch.randn(width) for name in "qkv"}
    return weights | {
        f"{P}attn.out_proj.weight": torch.randn(width, width),
        f"{P}attn.out_proj.bias": torch.randn(width),
    }


def as_stability(native):
    packed = {
        f"{P}attn.in_proj_{kind}": torch.cat([native[f"{P}attn.to_{name}.{kind}"] for name in "qkv"])
        for kind in ("weight", "bias")
    }
    return packed | {key: value for key, value in native.items() if "out_proj" in key}


def as_diffusers(native):
    return {
        key.replace("attn.out_proj", "to_out.0").replace("attn.to_", "to_"): value
        for key, value in native.items()
    }


def same(one, other):
    return one.keys() == other.keys() and all(torch.equal(one[key], other[key]) for key in one)


@pytest.mark.parametrize("spell", [as_stability, as_diffusers, dict])
def test_every_spelling_of_attention_becomes_the_native_one(spell):
    native = native_attention()
    assert same(to_native(spell(native)), native)


def test_native_names_stay_as_they_are():
    once = to_native(as_stability(native_attention()))
    assert same(to_native(once), once)


@pytest.mark.parametrize("spell", [as_stability, as_diffusers])
def test_weights_are_views_of_what_was_given(spell):
    given_weights = spell(native_attention())
    storages = {tensor.untyped_storage().data_ptr() for tensor in given_weights.values()}
    assert {tensor.untyped_storage().data_ptr() for tensor in to_native(given_weights).values()} == storages


def test_pooled_mapper_is_renamed_in_stage_b_alone():
    pooled = {"clip_txt_pooled_mapper.weight": torch.ones(1)}
    assert set(to_native(pooled)) == {"clip_txt_pooled_mapper.weight"}
    assert "clip_mapper.weight" in to_native(pooled | {"effnet_mapper.0.weight": torch.ones(1)})


def test_codebook_of_diffusers_is_renamed():
    assert set(to_native({"vquantizer.embedding.weight": torch.ones(1)})) == {"vquantizer.codebook.weight"}


def test_bare_text_projection_is_the_transposed_one():
    projection = torch.randn(3, 5)
    assert torch.equal(to_native({"text_projection": projection})["text_projection.weight"], projection.T)


@given(st.lists(st.sampled_from(["module.", "_orig_mod.", "model.", "model.diffusion_model."]), max_size=4))
def test_any_pile_of_wrappers_is_taken_off(wrappers):
    weights = {"".join(wrappers) + key: torch.ones(1) for key in ("clf.1.weight", "clf.1.bias")}
    assert set(to_native(weights)) == {"clf.1.weight", "clf.1.bias"}


def test_prefix_that_only_some_names_have_is_no_wrapper():
    assert wrapper(["module.a", "b"]) == ""


def test_shapes_are_tuples():
    assert shapes({"a": torch.ones(2, 3)}) == {"a": (2, 3)}
