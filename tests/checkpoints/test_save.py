from contextlib import contextmanager

import pytest
import torch
from comfyui_cascade.checkpoints.identify import Part
from comfyui_cascade.checkpoints.layout import Layout, from_native, to_native
from comfyui_cascade.checkpoints.open import load_part, pick
from comfyui_cascade.checkpoints.save import PLACES, save, save_all, save_tensors
from comfyui_cascade.weights import path as embedded
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from manifests import manifest, meta_weights
from random_sizes import parts
from safetensors import safe_open
from safetensors.torch import load_file

RELAXED = [HealthCheck.function_scoped_fixture, HealthCheck.too_slow]

PUBLISHED = {
    (Part.STAGE_A, Layout.STABILITY): "stage_a",
    (Part.STAGE_A, Layout.DIFFUSERS): "diffusers_vqgan",
    (Part.STAGE_B, Layout.STABILITY): "stage_b_lite",
    (Part.STAGE_B, Layout.DIFFUSERS): "diffusers_decoder_lite",
    (Part.STAGE_C, Layout.STABILITY): "stage_c_lite",
    (Part.STAGE_C, Layout.DIFFUSERS): "diffusers_prior_lite",
    (Part.TEXT_ENCODER, Layout.STABILITY): "text_encoder_clip_g",
    (Part.SEMANTIC_ENCODER, Layout.STABILITY): "effnet_encoder",
    (Part.PREVIEWER, Layout.STABILITY): "previewer",
}


def same(one, other):
    """Whether the same names hold the same bits."""
    return one.keys() == other.keys() and all(
        one[key].dtype == other[key].dtype
        and torch.equal(
            one[key].contiguous().view(-1).view(torch.uint8),
            other[key].contiguous().view(-1).view(torch.uint8),
        )
        for key in one
    )


def small_weights(part):
    return {name: weight.clone() for name, weight in to_native(load_file(embedded(part.value))).items()}


def stored(path, part):
    return pick(load_file(path), part)


def test_any_tensors_and_notes_are_written_into_new_folders(tmp_path):
    path = tmp_path / "new" / "file.safetensors"
    save_tensors(path, {"a": torch.arange(6).view(2, 3).T, "b": torch.ones(2).requires_grad_()}, {"x": "y"})
    with safe_open(path, "pt") as file:
        assert torch.equal(file.get_tensor("a"), torch.arange(6).view(2, 3).T)
        assert torch.equal(file.get_tensor("b"), torch.ones(2))
        assert file.metadata() == {"x": "y", "format": "pt"}
    assert [one.name for one in path.parent.iterdir()] == ["file.safetensors"]


SHIPPED = [part for part in PLACES if embedded(part.value).is_file()]


@pytest.mark.parametrize("part", SHIPPED)
def test_small_cascade_returns_bit_for_bit_through_every_layout(tmp_path, part):
    path, weights = tmp_path / "a.safetensors", small_weights(part)
    state = weights
    for layout in (Layout.STABILITY, Layout.DIFFUSERS, Layout.COMFYUI, Layout.STABILITY, Layout.COMFYUI):
        save(path, part, state, layout=layout, dtype=None, metadata={})
        state = load_file(path)
        assert same(stored(path, part), weights)


@settings(max_examples=12, deadline=None, suppress_health_check=RELAXED)
@given(
    parts((Part.STAGE_A, Part.STAGE_B, Part.STAGE_C)),
    st.lists(st.sampled_from(list(Layout)), min_size=1, max_size=4),
)
def test_any_sizes_return_bit_for_bit_through_any_layouts(tmp_path, written, layouts):
    part, _, weights, metadata = written
    path, state = tmp_path / "a.safetensors", weights
    for layout in layouts:
        save(path, part, state, layout=layout, dtype=None, metadata=metadata)
        state = load_file(path)
    assert same(pick(state, part), weights)


@pytest.mark.parametrize(("part", "layout"), PUBLISHED)
def test_layout_has_the_names_and_shapes_of_the_published_file(tmp_path, part, layout):
    published = manifest(PUBLISHED[part, layout])
    for other, name in PUBLISHED.items():
        if other[0] is part:
            pieces = saved_pieces(part, meta_weights(name), layout)
            assert pieces == {key: shape for key, shape in published.items() if "position_ids" not in key}


def saved_pieces(part, weights, layout):
    """Names and shapes that a file would have."""
    native = {key: tensor for key, tensor in to_native(weights).items() if "position_ids" not in key}
    return {
        name: tuple(torch.cat(piece).shape) if len(piece) > 1 else tuple(piece[0].shape)
        for name, piece in from_native(native, layout).items()
    }


def test_file_reads_as_the_library_reads_its_own(tmp_path):
    weights = {
        "a": torch.arange(3, dtype=torch.uint8), "b": torch.randn(2, 3).bfloat16(), "c": torch.tensor(7),
        "d": torch.randn(4, 5).t(), "e": torch.zeros(0, 3), "f": torch.tensor([True]),
        "g": torch.randn(3, 3).to(torch.float8_e4m3fn),
    }  # fmt: skip
    save(tmp_path / "a.safetensors", Part.STAGE_A, weights, layout=Layout.STABILITY, dtype=None, metadata={})
    assert same(load_file(tmp_path / "a.safetensors"), weights)


def test_diffusion_model_in_comfyuis_layout_has_its_prefix(tmp_path):
    path = tmp_path / "a.safetensors"
    save(path, Part.STAGE_C, small_weights(Part.STAGE_C), layout=Layout.COMFYUI, dtype=None, metadata={})
    assert all(key.startswith("model.diffusion_model.") for key in load_file(path))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_floats_take_the_precision_and_counters_keep_theirs(tmp_path, dtype):
    path, weights = tmp_path / "a.safetensors", small_weights(Part.PREVIEWER)
    save(path, Part.PREVIEWER, weights, layout=Layout.STABILITY, dtype=dtype, metadata={})
    for key, tensor in load_file(path).items():
        assert torch.equal(
            tensor, weights[key].to(dtype if weights[key].is_floating_point() else torch.int64)
        )


@pytest.mark.parametrize("dtype", [torch.float8_e4m3fn, torch.float8_e5m2])
def test_eight_bits_hold_matrices_alone(tmp_path, dtype):
    path, weights = tmp_path / "a.safetensors", small_weights(Part.STAGE_C)
    save(path, Part.STAGE_C, weights, layout=Layout.STABILITY, dtype=dtype, metadata={})
    found = load_file(path)
    assert found["down_blocks.0.2.attention.attn.in_proj_weight"].dtype == dtype
    for key in ("clf.1.bias", "down_blocks.0.0.channelwise.2.gamma"):
        assert torch.equal(found[key], weights[key])


@pytest.mark.parametrize(("dtype", "value"), [(torch.float16, 70000.0), (torch.float8_e4m3fn, 500.0)])
def test_weight_that_does_not_fit_the_precision_is_named(tmp_path, dtype, value):
    weights = {"in_block.1.weight": torch.full((2, 2), value)}
    with pytest.raises(
        ValueError, match=r"in_block\.1\.weight holds values up to (7e\+04|500), .* choose bf16"
    ):
        save(
            tmp_path / "a.safetensors",
            Part.STAGE_A,
            weights,
            layout=Layout.STABILITY,
            dtype=dtype,
            metadata={},
        )
    assert list(tmp_path.iterdir()) == []


def test_weight_that_was_infinite_before_stays_so(tmp_path):
    weights = {"a": torch.tensor([[float("inf"), 1], [2, 3]])}
    path = tmp_path / "a.safetensors"
    save(path, Part.STAGE_A, weights, layout=Layout.STABILITY, dtype=torch.float16, metadata={})
    assert load_file(path)["a"][0, 0].isinf()


def test_part_of_another_kind_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"a Flux checkpoint cannot be saved; what can is a Stage B"):
        save(tmp_path / "a.safetensors", Part.FLUX, {}, layout=Layout.STABILITY, dtype=None, metadata={})


def test_stage_a_and_a_previewer_do_not_share_a_file(tmp_path):
    together = {part: small_weights(part) for part in (Part.STAGE_A, Part.PREVIEWER)}
    with pytest.raises(ValueError, match=r"a Stage A and a Stage C previewer do not go into one file"):
        save_all(tmp_path / "a.safetensors", together, dtype=None, metadata={})


def test_saved_file_takes_the_place_of_the_old_one(tmp_path):
    path = tmp_path / "a.safetensors"
    path.write_bytes(b"old")
    save(path, Part.STAGE_A, small_weights(Part.STAGE_A), layout=Layout.STABILITY, dtype=None, metadata={})
    load_part(path, Part.STAGE_A)
    assert list(tmp_path.iterdir()) == [path]


def test_file_may_be_replaced_by_itself(tmp_path):
    path, weights = tmp_path / "a.safetensors", small_weights(Part.STAGE_B)
    save(path, Part.STAGE_B, weights, layout=Layout.STABILITY, dtype=None, metadata={})
    save(path, Part.STAGE_B, load_file(path), layout=Layout.DIFFUSERS, dtype=None, metadata={})
    assert same(stored(path, Part.STAGE_B), weights)


@contextmanager
def files_of_at_most(size):
    """As on a disk that is full once a file has this many bytes."""
    resource = pytest.importorskip("resource")  # Windows has no such limit
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.parametrize("there", [{"a.safetensors": b"old"}, {}])
def test_file_that_cannot_be_written_whole_leaves_what_was_there(tmp_path, there):
    for name, content in there.items():
        (tmp_path / name).write_bytes(content)
    with (
        files_of_at_most(1_000_000),
        pytest.raises(OSError, match=r"`a\.safetensors` could not be written .* nothing was changed"),
    ):
        save(
            tmp_path / "a.safetensors",
            Part.STAGE_A,
            {"a": torch.zeros(1_000_000)},
            layout=Layout.STABILITY,
            dtype=None,
            metadata={},
        )
    assert {file.name: file.read_bytes() for file in tmp_path.iterdir()} == there
