"""The picker of a size."""

import pytest

WIDGETS = {
    "aspect": "1:1 square", "size": "as trained", "megapixels": 1.05, "long_side": 1024, "batch_size": 1,
}  # fmt: skip


@pytest.fixture
def pick(pack):
    return lambda **changes: pack["CascadePickResolution"](**WIDGETS | changes).result


def test_size_as_trained_is_that_of_the_wired_model(pick, tiny, native):
    assert pick()[:2] == (1024, 1024)
    assert pick(stage_c=native.stage_c)[:2] == (1024, 1024)
    assert pick(stage_c=tiny.stage_c)[:2] == (256, 256)
    assert pick(stage_c=tiny.stage_c, aspect="5:3 landscape")[:2] == (320, 192)


@pytest.mark.parametrize(
    ("changes", "size"),
    [
        ({"size": "1024 (released weights)", "aspect": "3:4 portrait"}, (896, 1216)),
        ({"size": "256 (small cascade)", "aspect": "3:5 portrait"}, (192, 320)),
        ({"size": "megapixels", "megapixels": 2.36}, (1536, 1536)),
        ({"size": "long side", "long_side": 1536, "aspect": "16:9 landscape"}, (1536, 896)),
        ({"size": "long side", "long_side": 1536, "aspect": "16:9 landscape", "multiple": 8}, (1536, 864)),
    ],
)
def test_size_is_what_was_asked_for(pick, changes, size):
    assert pick(**changes)[:2] == size


def test_latents_shown_are_those_of_empty_latents(pick, pack, tiny):
    width, height, batch, text = pick(stage_c=tiny.stage_c, aspect="4:3 landscape", batch_size=3)
    made = pack["CascadeEmptyLatents"](
        width=width, height=height, batch_size=batch, compression=0.0, stage_c=tiny.stage_c
    ).result
    for stage, latents in zip("CB", made, strict=True):
        count, channels, high, wide = latents["samples"].shape
        assert count == 3
        assert f"Stage {stage}: {wide}x{high} cells of {channels} channels" in text


def test_a_size_beyond_the_models_training_is_told_and_not_refused(pick, tiny):
    large = pick(stage_c=tiny.stage_c, size="1024 (released weights)")
    assert large[:2] == (1024, 1024)
    assert "trained at about 256x256 pixels" in large[3]
    assert "trained" not in pick(stage_c=tiny.stage_c)[3]
