"""Pictures and captions from folders, shards and the picture-book world, and how they are cut."""

import io
import json
import random
import tarfile
from pathlib import Path

import numpy as np
import pytest
from comfyui_cascade.training import picturebook
from comfyui_cascade.training.settings import Data
from comfyui_cascade.training.sources import (
    Folder,
    PictureBook,
    Shards,
    UnreadablePicture,
    bucket_sizes,
    cut,
    nearest_bucket,
    open_source,
)
from PIL import Image


def picture(width=40, height=30, seed=0, mode="RGB"):
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return Image.fromarray(pixels).convert(mode)


def encoded(image, form="PNG"):
    buffer = io.BytesIO()
    image.save(buffer, form)
    return buffer.getvalue()


def captions(source, i):
    return {source.caption(i, random.Random(seed)) for seed in range(40)}


def shard(path, files):
    with tarfile.open(path, "w") as tar:
        for name, content in files.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            tar.addfile(entry, io.BytesIO(content))
    return path


# Folders -------------------------------------------------------------------------------------------------


def test_a_folder_gives_pictures_and_one_caption_a_line(tmp_path):
    (tmp_path / "below").mkdir()
    picture(seed=1).save(tmp_path / "a.png")
    (tmp_path / "a.txt").write_text("a red house\n\n  a house, red \n", encoding="utf-8")
    picture(20, 50, mode="L").save(tmp_path / "below" / "b.JPG", "JPEG")
    (tmp_path / "notes.md").write_text("not a picture")
    source = Folder(tmp_path)
    assert len(source) == 2
    assert [source.size(i) for i in range(2)] == [(40, 30), (20, 50)]
    assert np.array_equal(source.picture(0), picture(seed=1))
    assert source.picture(1).mode == "RGB"
    assert captions(source, 0) == {"a red house", "a house, red"}
    assert captions(source, 1) == {""}
    assert source.things(0) == ()


def test_an_empty_folder_is_refused(tmp_path):
    with pytest.raises(ValueError, match="holds no pictures"):
        Folder(tmp_path)


@pytest.mark.parametrize("form", ["PNG", "JPEG", "WEBP"])
def test_a_damaged_picture_is_named(tmp_path, form):
    whole = encoded(picture(), form)
    suffix = form.lower()
    (tmp_path / f"cut.{suffix}").write_bytes(whole[: len(whole) // 2])
    (tmp_path / f"text.{suffix}").write_bytes(b"<html>404</html>")
    (tmp_path / f"void.{suffix}").write_bytes(b"")
    source = Folder(tmp_path)
    for i, name in enumerate(("cut", "text", "void")):
        with pytest.raises(UnreadablePicture, match=f"{name}.{suffix} is no readable picture"):
            source.picture(i)


def test_a_folder_whose_pictures_or_captions_changed_has_other_contents(tmp_path):
    picture().save(tmp_path / "a.png")
    seen = [Folder(tmp_path).contents()]
    (tmp_path / "a.txt").write_text("a cat")
    seen.append(Folder(tmp_path).contents())
    picture(41).save(tmp_path / "b.png")
    seen.append(Folder(tmp_path).contents())
    assert seen[0] != seen[1] != seen[2]
    assert seen[2] == Folder(tmp_path).contents()


# Shards --------------------------------------------------------------------------------------------------


def test_shards_give_pictures_and_captions_as_webdataset_writes_them(tmp_path):
    files = {
        "0001.json": json.dumps({"width": 40}).encode(),
        "0001.txt": "ein Haus, größer".encode(),
        "0001.jpg": encoded(picture(), "JPEG"),
        "0002.png": encoded(picture(16, 64, seed=2)),
    }
    shard(tmp_path / "part-1.tar", files)
    shard(tmp_path / "part-2.tar", {"x/0003.webp": encoded(picture(8, 8), "WEBP"), "x/0003.txt": b"one\ntwo"})
    data = Data(shards=("part-*.tar",))
    source = open_source(data, tmp_path)
    assert [source.size(i) for i in range(len(source))] == [(40, 30), (16, 64), (8, 8)]
    assert np.array_equal(source.picture(1), picture(16, 64, seed=2))
    assert captions(source, 0) == {"ein Haus, größer"}
    assert captions(source, 1) == {""}
    assert captions(source, 2) == {"one", "two"}


def test_shards_may_be_named_by_absolute_patterns(tmp_path):
    (tmp_path / "deep").mkdir()
    shard(tmp_path / "deep" / "a.tar", {"1.png": encoded(picture())})
    assert len(open_source(Data(shards=(str(tmp_path / "*" / "*.tar"),)), Path("/elsewhere"))) == 1


def test_a_damaged_picture_in_a_shard_is_named_with_its_shard(tmp_path):
    whole = encoded(picture())
    shard(tmp_path / "a.tar", {"1.png": whole[:200], "2.png": whole})
    source = Shards([tmp_path / "a.tar"])
    with pytest.raises(UnreadablePicture, match=r"1\.png in .*a\.tar is no readable picture"):
        source.picture(0)
    assert source.picture(1).size == (40, 30)


def test_no_shards_and_broken_shards_are_refused(tmp_path):
    with pytest.raises(ValueError, match="no pictures in 0 shards"):
        open_source(Data(shards=("*.tar",)), tmp_path)
    (tmp_path / "bad.tar").write_bytes(b"no tar" * 300)
    with pytest.raises(ValueError, match=r"bad\.tar is no whole, uncompressed tar file"):
        open_source(Data(shards=("*.tar",)), tmp_path)


# Picture book --------------------------------------------------------------------------------------------


def test_the_picture_book_draws_its_scenes_in_the_sizes_of_the_buckets():
    source = open_source(Data(picturebook=5, size=64, multiple=32, ratios=(1.0, 2.0)), Path())
    assert isinstance(source, PictureBook)
    assert len(source) == 5
    sizes = [(64, 64), (96, 32), (64, 64), (96, 32), (64, 64)]
    assert [source.picture(i).size for i in range(5)] == [source.size(i) for i in range(5)] == sizes
    kinds = {thing.kind for thing in source.things(3)}
    assert kinds <= {group.kind for group in picturebook.training_scene(3).groups}
    assert len(captions(source, 3)) > 3


# Cutting -------------------------------------------------------------------------------------------------


def test_bucket_sizes_have_the_area_and_the_ratios_asked_for():
    data = Data(picturebook=1, size=1024, multiple=32, ratios=(1.0, 0.5, 2.0, 0.75, 1.333, 0.6))
    for (width, height), ratio in zip(bucket_sizes(data), data.ratios, strict=True):
        assert width % 32 == height % 32 == 0
        assert abs(width / height / ratio - 1) < 0.06
        assert abs(width * height / 1024**2 - 1) < 0.06
    assert bucket_sizes(data)[0] == (1024, 1024)


def test_a_bucket_is_never_without_width():
    assert bucket_sizes(Data(size=64, multiple=64, ratios=(0.1,)))[0][0] == 64


def test_a_picture_goes_to_the_nearest_shape():
    buckets = [(64, 64), (96, 64), (64, 96)]
    assert nearest_bucket((500, 510), buckets) == 0
    assert nearest_bucket((1500, 1000), buckets) == 1
    assert nearest_bucket((200, 900), buckets) == 2


@pytest.mark.parametrize("size", [(64, 64), (40, 30), (7, 100), (300, 20), (1000, 1)])
@pytest.mark.parametrize("target", [(64, 64), (96, 64), (32, 96)])
def test_a_cut_covers_its_size(size, target):
    white = Image.new("RGB", size, "white")
    for rng in (None, random.Random(0)):
        found = cut(white, target, rng)
        assert found.shape == (target[1], target[0], 3)
        assert (found == 255).all()  # nothing black was added at a border


def test_a_cut_keeps_shapes_and_takes_the_middle_or_a_random_place():
    columns = np.broadcast_to(np.arange(200, dtype=np.uint8)[None, :, None], (50, 200, 3))
    image = Image.fromarray(np.ascontiguousarray(columns))
    middle = cut(image, (50, 50))[0, :, 0]
    assert middle[0] == 75
    assert middle[-1] == 124
    starts = {int(cut(image, (50, 50), random.Random(seed))[0, 0, 0]) for seed in range(300)}
    assert min(starts) <= 2
    assert max(starts) >= 148
