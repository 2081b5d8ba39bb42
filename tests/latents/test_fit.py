import pytest
import torch
from comfyui_cascade.latents.fit import WAYS, Fit, apply, margin, plan
from hypothesis import given, settings
from hypothesis import strategies as st

sides = st.integers(300, 2000)


def picture(width, height):
    return torch.rand(1, 3, height, width, generator=torch.Generator().manual_seed(0))


@settings(max_examples=200, deadline=None)
@given(
    st.tuples(sides, sides),
    st.tuples(st.sampled_from([0, 512, 1000]), st.sampled_from([0, 384, 777])),
    st.sampled_from(WAYS),
    st.sampled_from([8, 64]),
)
def test_sides_are_multiples_and_the_parts_add_up(size, wanted, way, multiple):
    fit = plan(size, wanted, way, multiple=multiple)
    assert all(side % multiple == 0 for side in fit.size)
    assert fit.left + fit.scaled[0] + fit.right == fit.size[0]
    assert fit.top + fit.scaled[1] + fit.bottom == fit.size[1]
    if way == "crop":
        assert max(fit.left, fit.top, fit.right, fit.bottom) <= 0
    if way == "pad":
        assert min(fit.left, fit.top, fit.right, fit.bottom) >= 0
    if way == "stretch":
        assert fit.scaled == fit.size


@settings(max_examples=100, deadline=None)
@given(st.tuples(sides, sides), st.sampled_from(["crop", "pad"]))
def test_scaling_keeps_the_proportions(size, way):
    fit = plan(size, (512, 768), way)
    across, down = (new / old for new, old in zip(fit.scaled, size, strict=True))
    assert abs(across - down) <= max(across, down) * 0.5 / min(fit.scaled) + 0.5 / min(size)


def test_without_a_size_nothing_is_scaled():
    assert plan((1000, 700), multiple=64) == Fit((1000, 700), (1000, 700), (960, 640), -20, -30)
    assert plan((1000, 700), way="pad", multiple=64) == Fit((1000, 700), (1000, 700), (1024, 704), 12, 2)


def test_one_side_follows_from_the_other():
    assert plan((1000, 500), (512, 0)).size == (512, 256)
    assert plan((1000, 500), (0, 512)).size == (1024, 512)


@pytest.mark.parametrize(("place", "kept"), [("left", slice(0, 64)), ("right", slice(36, 100))])
def test_crop_keeps_the_side_that_is_named(place, kept):
    image = picture(100, 64)
    assert torch.equal(apply(plan((100, 64), place=place, multiple=64), image), image[..., kept])


@pytest.mark.parametrize("way", ["pad", "canvas"])
@pytest.mark.parametrize("fill", ["edge", "grey"])
def test_padded_picture_keeps_its_pixels_and_the_mask_covers_the_rest(way, fill):
    image = picture(100, 70)
    fit = plan((100, 70), (200, 200) if way == "canvas" else (0, 0), way)
    filled, mask = apply(fit, image, fill), margin(fit)
    assert filled.shape[-2:] == mask.shape[-2:] == fit.size[::-1]
    assert torch.equal(filled[..., mask[0] == 0].view(1, 3, 70, 100), image)
    assert mask.sum() == fit.size[0] * fit.size[1] - 7000


def test_edge_goes_on_with_the_colours_at_the_border():
    image = picture(64, 64)
    filled = apply(plan((64, 64), (128, 64), "canvas", "left"), image)
    assert torch.equal(filled[..., 64:], image[..., -1:].expand(1, 3, 64, 64))


def test_what_was_done_is_said():
    assert str(plan((256, 256))) == "256x256 pixels, as they were"
    assert str(plan((512, 512), (256, 256))) == "512x512 pixels, scaled to 256x256: 256x256"
    said = str(plan((256, 256), (320, 192), "pad"))
    assert said == ("256x256 pixels, scaled to 192x192, filled by 64 on the left, 64 on the right: 320x192")


def test_size_too_small_for_stage_b_is_refused():
    with pytest.raises(ValueError, match="at least 64 along each side: give a larger"):
        plan((40, 300))


def test_multiple_that_stage_b_cannot_take_is_refused():
    with pytest.raises(ValueError, match=r"multiples of 12, .* choose 16"):
        plan((400, 300), multiple=12)
