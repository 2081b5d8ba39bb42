"""What a run works with: pictures, captions, companions, and what encoders make of them."""

import random
import shutil

import numpy as np
import pytest
import tiny_cascade
import tiny_runs
import torch
from comfyui_cascade.checkpoints.identify import Part
from comfyui_cascade.checkpoints.open import load_part
from comfyui_cascade.stage_a.model import STAGE_B_SCALE
from comfyui_cascade.training.order import NO_BUCKET
from comfyui_cascade.training.sources import UnreadablePicture
from comfyui_cascade.training.workspace import Workspace, encoder_input, shrink, to_images
from PIL import Image


def workspace(base, part="stage_b", **changes):
    return Workspace(tiny_runs.settings(part, **changes), base, lambda line: None)


@pytest.fixture
def own_base(base, tmp_path):
    """The companions in a folder of the test's own."""
    for file in base.glob("*.safetensors"):
        shutil.copy(file, tmp_path)
    return tmp_path


def paint(folder, sizes, caption=""):
    folder.mkdir()
    for i, size in enumerate(sizes):
        pixels = np.random.default_rng(i).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{i}.png")
        (folder / f"{i}.txt").write_text(caption)


FOLDER = {"picturebook": 0, "folder": "pictures", "multiple": 32}


def test_to_images_puts_channels_first_and_white_at_one():
    pictures = torch.full((2, 4, 6, 3), 255, dtype=torch.uint8)
    assert torch.equal(to_images(pictures), torch.ones(2, 3, 4, 6))


def test_cached_latents_are_the_encoders_to_half_precision(base):
    work = workspace(base)
    latents, semantics = work.latents_field(), work.semantics_field()
    stage_a = load_part(base / "stage_a.safetensors", Part.STAGE_A)
    encoder = load_part(base / "semantic_encoder.safetensors", Part.SEMANTIC_ENCODER)
    for i in (0, 7):
        image = to_images(work.picture(i))[None]
        with torch.no_grad():
            live = stage_a.encode(image)[0] / STAGE_B_SCALE
            small = shrink(image, 48, 48)  # 64 pixels / 21.33 are 3 cells, of 16 pixels each
            live_semantic = encoder(small)[0]
        torch.testing.assert_close(latents(i, random.Random(0)), live, rtol=2e-3, atol=2e-3)
        torch.testing.assert_close(semantics(i, random.Random(0)), live_semantic, rtol=2e-3, atol=2e-3)


def test_another_encoder_makes_another_cache(own_base):
    workspace(own_base).latents_field()
    tiny_cascade.write(own_base, ["stage_a"], note=1)  # the same weights, another file
    workspace(own_base).latents_field()
    workspace(own_base).latents_field()
    assert len(list((own_base / "cache").glob("stage_a-*"))) == 2


def test_other_pictures_make_another_cache(own_base):
    paint(own_base / "pictures", [(64, 64)] * 3)
    workspace(own_base, data=FOLDER).latents_field()
    Image.new("RGB", (64, 64), "red").save(own_base / "pictures" / "1.png")
    workspace(own_base, data=FOLDER).latents_field()
    assert len(list((own_base / "cache").glob("stage_a-*"))) == 2


def test_pictures_of_several_shapes_are_cached_in_their_order(own_base):
    paint(own_base / "pictures", [(64, 64), (192, 64), (60, 60), (64, 128), (300, 100)])
    work = workspace(own_base, data=FOLDER | {"ratios": [1.0, 3.0, 0.3333]})
    assert work.sizes == [(64, 64), (96, 32), (32, 96)]
    assert work.buckets == [0, 1, 0, 2, 1]
    load = work.latents_field()
    shapes = [tuple(load(i, random.Random(0)).shape) for i in range(5)]
    assert shapes == [(4, 16, 16), (4, 8, 24), (4, 16, 16), (4, 24, 8), (4, 8, 24)]


def test_unreadable_pictures_are_left_out_of_caches_with_a_warning(own_base, caplog):
    paint(own_base / "pictures", [(64, 64)] * 4)
    file = own_base / "pictures" / "2.png"
    file.write_bytes(file.read_bytes()[:3000])
    load = workspace(own_base, data=FOLDER).latents_field()
    assert "2.png is no readable picture" in caplog.text
    load(3, random.Random(0))
    with pytest.raises(UnreadablePicture, match="picture 2 could not be read when"):
        load(2, random.Random(0))


def test_pictures_that_do_not_even_open_get_no_bucket(own_base, caplog):
    paint(own_base / "pictures", [(64, 64)] * 3)
    (own_base / "pictures" / "1.png").write_bytes(b"no picture")
    work = workspace(own_base, data=FOLDER | {"ratios": [1.0, 3.0]})
    assert work.buckets == [0, NO_BUCKET, 0]
    assert "1.png is no readable picture" in caplog.text


def test_crops_are_squares_from_random_places(base):
    work = workspace(base, "stage_a", data={"crop": 24})
    crops = [work.crop(0, random.Random(seed)) for seed in range(5)]
    assert {tuple(crop.shape) for crop in crops} == {(24, 24, 3)}
    assert not torch.equal(crops[0], crops[1])


def test_a_crop_larger_than_the_pictures_is_refused(base):
    with pytest.raises(ValueError, match=r"data\.crop is 65, and pictures are 64x64"):
        workspace(base, "stage_a", data={"crop": 65}).crop(0, random.Random(0))


@pytest.mark.parametrize("share", [0.0, 0.3, 1.0])
def test_a_share_of_the_captions_is_dropped(base, share):
    work = workspace(base, objective={"drop_text": share})
    dropped = sum(work.caption(i % 12, random.Random(i)) == "" for i in range(1500)) / 1500
    assert dropped == pytest.approx(share, abs=0.04)


def test_cached_captions_are_features_of_some_caption_or_of_none(base):
    work = workspace(base, data={"captions": 2}, objective={"drop_text": 0.3})
    load = work.text_field()["features"]
    encoder = work.companion(Part.TEXT_ENCODER)
    texts = ["", *(work.source.caption(4, random.Random(k)) for k in range(2))]
    expected = [work.encode_rows(encoder, work.rows([text])) for text in texts]
    counts = [0, 0, 0]
    for seed in range(900):
        text, pooled = load(4, random.Random(seed))
        near = [
            (text - e[0][0]).abs().max() < 5e-3 and (pooled - e[1][0]).abs().max() < 5e-3 for e in expected
        ]
        assert any(near)
        counts[near.index(True)] += 1
    assert counts[0] / 900 == pytest.approx(0.3, abs=0.05)


def test_companions_that_are_not_named_or_not_there_are_asked_for(base):
    with pytest.raises(ValueError, match=r"needs a stage_a; name its file in companions\.stage_a"):
        workspace(base, companions={"stage_a": ""}).companion(Part.STAGE_A)
    with pytest.raises(ValueError, match=r"other\.safetensors is not there"):
        workspace(base, companions={"stage_a": "other.safetensors"}).companion(Part.STAGE_A)


def test_the_encoders_input_has_one_cell_for_its_compression(base):
    encoder = load_part(base / "semantic_encoder.safetensors", Part.SEMANTIC_ENCODER)
    small = encoder_input(encoder, torch.rand(1, 3, 64, 128), 256 / 12)
    assert small.shape == (1, 3, 48, 96)
    assert encoder(small).shape == (1, 16, 3, 6)
