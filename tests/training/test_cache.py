"""What is computed once and kept."""

import pickle
import resource
import signal

import pytest
import torch
from comfyui_cascade.training import cache
from comfyui_cascade.training.cache import cached, key_of


@pytest.fixture(autouse=True)
def _few_in_a_file(monkeypatch):
    monkeypatch.setattr(cache, "ITEMS_PER_FILE", 4)


def numbers(i):
    return {"square": torch.full((i % 3 + 1, 2), float(i * i)), "number": torch.tensor(i)}


def test_every_example_comes_back(tmp_path):
    store = cached(tmp_path / "cache", 10, lambda places: map(numbers, places))
    for i in range(10):
        assert torch.equal(store[i]["square"], numbers(i)["square"])
        assert store[i]["number"] == i


def test_what_is_there_is_not_made_again(tmp_path):
    made = []

    def make(places):
        made.append(list(places))
        return map(numbers, places)

    for _ in range(2):
        cached(tmp_path / "cache", 10, make)
    assert made == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9]]


def test_making_goes_on_where_it_was_cut(tmp_path):
    def until_six(places):
        for i in places:
            if i == 6:
                raise KeyboardInterrupt
            yield numbers(i)

    with pytest.raises(KeyboardInterrupt):
        cached(tmp_path / "cache", 10, until_six)
    made, said = [], []

    def make(places):
        made.extend(places)
        return map(numbers, places)

    store = cached(tmp_path / "cache", 10, make, said.append)
    assert made == list(range(4, 10))
    assert said == [8, 10]
    assert store[1]["number"] == 1
    assert store[9]["number"] == 9


def test_a_full_disk_leaves_what_was_whole_and_teaches(tmp_path):
    folder = tmp_path / "cache"

    def make(places):
        return ({"big": torch.zeros(1000 if i < 4 else 100_000)} for i in places)

    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, before[1]))
    try:
        with pytest.raises(OSError, match=r"`00001\.safetensors` could not be written .* free some space"):
            cached(folder, 8, make)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert [path.name for path in folder.iterdir()] == ["00000.safetensors"]
    assert len(cached(folder, 8, make)[7]["big"]) == 100_000


def test_a_store_travels_to_another_process(tmp_path):
    store = cached(tmp_path / "cache", 3, lambda places: map(numbers, places))
    store[0]
    assert pickle.loads(pickle.dumps(store))[2]["number"] == 2


def test_keys_change_with_values_and_with_the_bytes_of_files(tmp_path, monkeypatch):
    monkeypatch.setattr(cache, "READ_AT_ONCE", 3)
    file = tmp_path / "encoder.safetensors"
    file.write_bytes(b"weights of it")
    keys = [key_of(64, "a", file), key_of(65, "a", file), key_of(64, "b", file)]
    file.write_bytes(b"weights of It")
    keys.append(key_of(64, "a", file))
    assert len(set(keys)) == 4
    file.write_bytes(b"weights of it")
    assert key_of(64, "a", file) == keys[0]
