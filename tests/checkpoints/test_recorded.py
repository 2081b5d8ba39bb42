import pytest
from comfyui_cascade.checkpoints.recorded import LatentRgb, Recorded


def test_file_without_metadata_is_a_released_one():
    assert Recorded.from_metadata(None) == Recorded.from_metadata({}) == Recorded()
    assert Recorded().prediction == "noise"
    assert Recorded().compression == 42.67


def test_every_entry_is_read():
    metadata = {
        "cascade.part": "stage_c",
        "cascade.prediction": "velocity",
        "cascade.compression": "21.3333",
        "cascade.head_dim": "32",
        "cascade.strides": "[2, 1, 2]",
        "cascade.token_ids": "[320, 49406, 49407]",
        "cascade.latent_rgb": '{"factors": [[1, 2, 3], [4, 5, 6.5]], "bias": [0, 0, 1]}',
        "format": "pt",
    }
    assert Recorded.from_metadata(metadata) == Recorded(
        "stage_c", "velocity", 21.3333, 32, (2, 1, 2), (320, 49406, 49407),
        LatentRgb(((1, 2, 3), (4, 5, 6.5)), (0, 0, 1)),
    )  # fmt: skip


@pytest.mark.parametrize(
    ("entry", "text"),
    [
        ("prediction", "epsilon"),
        ("prediction", ""),
        ("compression", "nan"),
        ("compression", "0"),
        ("compression", "large"),
        ("head_dim", "0"),
        ("head_dim", "6.5"),
        ("strides", "[2, 3]"),
        ("strides", "2"),
        ("strides", "[true, 1]"),
        ("token_ids", "[]"),
        ("token_ids", "[1, 1]"),
        ("token_ids", '["a"]'),
        ("token_ids", "[" * 100_000),
        ("latent_rgb", "{}"),
        ("latent_rgb", "[]"),
        ("latent_rgb", '{"factors": [[1, 2]], "bias": [0, 0, 0]}'),
        ("latent_rgb", '{"factors": [], "bias": [0, 0, 0]}'),
        ("latent_rgb", '{"factors": 3, "bias": [0, 0, 0]}'),
    ],
)
def test_bad_entry_is_named_in_one_sentence(entry, text):
    with pytest.raises(
        ValueError, match=rf"^x says cascade\.{entry} = .* was expected; correct its metadata$"
    ):
        Recorded.from_metadata({f"cascade.{entry}": text}, "x")
