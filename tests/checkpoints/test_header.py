import contextlib
import json
import struct
import time
import tracemalloc

import pytest
import torch
from comfyui_cascade.checkpoints.header import read_header
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import save, save_file


def write(path, header, data=b""):
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + data)
    return path


def message(path):
    with pytest.raises(ValueError, match=r"\A`") as caught:
        read_header(path)
    text = str(caught.value)
    assert text.startswith(f"`{path.name}` ")
    assert str(path.parent) not in text
    assert "\n" not in text
    return text


def test_header_tells_dtypes_shapes_and_metadata(tmp_path):
    path = tmp_path / "a.safetensors"
    save_file(
        {"x": torch.zeros(2, 3, dtype=torch.bfloat16), "n": torch.tensor(1)},
        path,
        {"cascade.part": "stage_c"},
    )
    header = read_header(path)
    assert header.tensors == {"x": ("BF16", (2, 3)), "n": ("I64", ())}
    assert header.shapes == {"x": (2, 3), "n": ()}
    assert header.metadata == {"cascade.part": "stage_c"}
    assert header.file == "a.safetensors"


@pytest.mark.parametrize(
    "dtype", [torch.float8_e4m3fn, torch.float8_e5m2, torch.bool, torch.float64, torch.uint8]
)
def test_header_takes_every_dtype_that_torch_saves(tmp_path, dtype):
    save_file({"x": torch.zeros(3, 5).to(dtype)}, tmp_path / "a.safetensors")
    assert read_header(tmp_path / "a.safetensors").shapes == {"x": (3, 5)}


def test_missing_file_is_said_to_be_missing(tmp_path):
    assert "does not exist" in message(tmp_path / "a.safetensors")


def test_folder_is_no_file(tmp_path):
    (tmp_path / "a.safetensors").mkdir()
    assert "is no file" in message(tmp_path / "a.safetensors")


def test_empty_file_is_said_to_be_empty(tmp_path):
    path = tmp_path / "a.safetensors"
    path.touch()
    assert "is empty; download it again" in message(path)


def test_file_cut_anywhere_is_refused(tmp_path):
    whole = save({"x": torch.zeros(4)})
    path = tmp_path / "a.safetensors"
    for length in range(1, len(whole)):
        path.write_bytes(whole[:length])
        text = message(path)
        assert length < 10 or "cut short" in text


@pytest.mark.parametrize("zipped", [True, False])
def test_renamed_pickle_is_named_and_never_loaded(tmp_path, zipped):
    class Bomb:
        def __reduce__(self):
            return (pytest.fail, ("the pickle was loaded",))

    path = tmp_path / "ultrapixel.safetensors"
    torch.save({"x": Bomb()}, path, _use_new_zipfile_serialization=zipped)
    text = message(path)
    assert "is a PyTorch pickle that was renamed to .safetensors" in text
    assert "Convert it to safetensors".lower() in text.lower()


def test_honest_pickle_is_not_said_to_be_renamed(tmp_path):
    torch.save({}, tmp_path / "a.ckpt")
    assert "renamed" not in message(tmp_path / "a.ckpt")


@pytest.mark.parametrize(
    ("start", "said"),
    [
        (b"version https://git-lfs.github.com/spec/v1\n", "Git LFS pointer"),
        (b"<!DOCTYPE html><html>", "web page"),
        (b"GGUF\x03\x00\x00\x00\x00\x00\x00", "GGUF"),
        (b"\x89PNG\r\n\x1a\n 1234567", "does not start like a safetensors file"),
        (b"PK\x03\x04 pictures/cat.png", "is a zip archive"),
        (b'{"error": "Repository not found"}', 'it says: {"error": "Repository not found"}'),
        (b"Entry not found", "it says: Entry not found"),
    ],
)
def test_other_kinds_of_file_are_named(tmp_path, start, said):
    path = tmp_path / "a.safetensors"
    path.write_bytes(start)
    assert said in message(path)


def test_absurd_header_length_is_refused(tmp_path):
    path = tmp_path / "a.safetensors"
    path.write_bytes(struct.pack("<Q", 2**63) + b"{}")
    message(path)


ENTRY = {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}


@pytest.mark.parametrize(
    "header",
    [
        b"{not json}",
        b'{"a":' + b"[" * 50_000,
        {"a": 3},
        {"a": ENTRY | {"shape": [-1]}},
        {"a": ENTRY | {"shape": [2.0]}},
        {"a": ENTRY | {"shape": [3]}},
        {"a": ENTRY | {"data_offsets": [8, 0]}},
        {"a": ENTRY | {"data_offsets": [0, 8, 9]}},
        {"a": ENTRY | {"data_offsets": [0, 10**12], "dtype": "?"}},
        {"a": {"dtype": "F32"}},
        {"__metadata__": {"a": 1}},
        {"__metadata__": [1]},
        {"a": ENTRY, "b": ENTRY},
        {
            "a": ENTRY | {"shape": [1], "data_offsets": [0, 4]},
            "b": ENTRY | {"shape": [1], "data_offsets": [2, 6]},
        },
        {"a": ENTRY | {"shape": [1], "data_offsets": [4, 8]}},
        {"a": ENTRY | {"shape": [1], "data_offsets": [0, 4]}},
        {"a": ENTRY | {"dtype": "F31"}},
        {"a": ENTRY | {"dtype": ["F32"]}},
        {"a": ENTRY | {"shape": [2**63, 2**63]}},
        {"a": ENTRY | {"shape": [True, 2]}},
        {"a": ENTRY | {"data_offsets": [0, 8.0]}},
        b'{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}',
        b'{"a":{"dtype":"F32","dtype":"F32","shape":[2],"data_offsets":[0,8]}}',
        b'{"a":{"dtype":"F32","shape":[' + b"9" * 9999 + b'],"data_offsets":[0,8]}}',
        b'{"a\xff":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}',
        b'{"\\ud800\\n\\u001b[2J' + b"x" * 9999 + b'":{"dtype":"F32","shape":[3],"data_offsets":[0,8]}}',
    ],
    ids=lambda header: str(header)[:60],
)
def test_header_that_contradicts_itself_is_refused(tmp_path, header):
    message(write(tmp_path / "a.safetensors", header, b"\0" * 8))


def test_header_longer_than_any_model_has_is_not_read(tmp_path):
    path = tmp_path / "a.safetensors"
    with path.open("wb") as file:
        file.write(struct.pack("<Q", 2**40) + b"{")
        file.truncate(2**41)
    assert "has a header of 1099511627776 bytes" in message(path)


@pytest.mark.parametrize("length", [2**64 - 1, 2**40, 10**9])
def test_absurd_length_takes_no_memory(tmp_path, length):
    path = tmp_path / "a.safetensors"
    path.write_bytes(struct.pack("<Q", length) + b"{" + b" " * 4096)
    tracemalloc.start()
    with contextlib.suppress(ValueError):
        read_header(path)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 100_000


def test_shape_of_many_sides_is_refused_at_once(tmp_path):
    begun = time.process_time()
    message(write(tmp_path / "a.safetensors", {"a": ENTRY | {"shape": [2**62] * 100_000}}, b"\0" * 8))
    assert time.process_time() - begun < 5  # as a product it is a number of six million bits


def test_name_with_a_null_byte_is_no_file():
    with pytest.raises(ValueError, match="does not exist"):
        read_header("a\0.safetensors")


class OneSentence(Exception):
    pass


def read_one(path):
    try:
        read_header(path)
    except ValueError as error:
        if str(error).startswith("`a.safetensors` ") and "\n" not in str(error):
            raise OneSentence from None
        raise


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.binary(max_size=200), st.booleans())
def test_any_bytes_give_a_header_or_one_sentence(tmp_path, data, framed):
    path = tmp_path / "a.safetensors"
    path.write_bytes(struct.pack("<Q", len(data) + 1) + b"{" + data if framed else data)
    with contextlib.suppress(OneSentence):
        read_one(path)
