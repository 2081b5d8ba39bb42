"""Downloading the official files: from a server in this process that cuts, lies and refuses."""

import errno
import hashlib
import io
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from comfy_host import ROOT
from dev_script import dev
from file_server import FileServer
from safetensors.torch import save

from development import weights

TABLE = weights.Catalogue.read(ROOT / "weights" / "official.json")
CONTENT = bytes(range(256)) * 5000
"""1.3 MB: more than one read."""


@pytest.fixture(autouse=True)
def _no_proxy(monkeypatch):
    monkeypatch.setenv("no_proxy", "127.0.0.1")


@pytest.fixture
def server():
    with FileServer(one__safetensors=CONTENT, two__safetensors=b"second") as running:
        yield running


@pytest.fixture
def said():
    return []


@pytest.fixture
def bring(server, said, tmp_path):
    """Downloads from the server into ``tmp_path/models`` and returns the places of the files."""

    def bring(*files, accepted=True):
        licence = {"name": "a licence", "says": "research only"}
        table = weights.Catalogue(licence, files or (official(server),))
        return weights.download(table, "lite", tmp_path / "models", said.append, accepted, pause=0)

    return bring


def official(server, name="one.safetensors", **changed):
    content = server.files[name]
    known = {"size": len(content), "sha256": hashlib.sha256(content).hexdigest()}
    fields = {"part": "stage_a", "sets": ("lite",), "name": name, "directory": "vae", "url": server.url(name)}
    return weights.Official(**{**fields, **known, **changed})


def place(tmp_path, name="one.safetensors"):
    return tmp_path / "models" / "vae" / name


# Downloading


def test_files_arrive_in_their_folders_and_nothing_is_left_beside_them(bring, server):
    places = bring(official(server), official(server, "two.safetensors", directory="clip_vision"))
    assert [path.read_bytes() for path in places] == [CONTENT, b"second"]
    assert [path.parent.name for path in places] == ["vae", "clip_vision"]
    assert [file.name for file in places[0].parent.iterdir()] == ["one.safetensors"]


def test_only_the_files_of_the_chosen_set_are_brought(bring, server, tmp_path):
    bring(official(server, "two.safetensors"), official(server, sets=("full",)))
    assert not place(tmp_path).exists()


def test_cut_connection_goes_on_where_it_was_cut(bring, server):
    server.cuts = [400_000, 300_000]
    (path,) = bring()
    assert path.read_bytes() == CONTENT
    assert [span for _, span in server.asked] == [None, "bytes=400000-", "bytes=700000-"]


def test_file_cut_in_an_earlier_run_goes_on_in_this_one(bring, server, tmp_path):
    server.answers, server.cuts = [200, *[404] * 9], [400_000]
    with pytest.raises(weights.Problem):
        bring()
    assert place(tmp_path, "one.safetensors.part").read_bytes() == CONTENT[:400_000]
    assert not place(tmp_path).exists()
    server.answers, server.asked = [], []
    (path,) = bring()
    assert path.read_bytes() == CONTENT
    assert server.asked == [("one.safetensors", "bytes=400000-")]


def test_server_without_ranges_is_asked_for_all_of_it_again(bring, server):
    server.ranges, server.cuts = False, [400_000]
    (path,) = bring()
    assert path.read_bytes() == CONTENT
    assert server.asked[-1] == ("one.safetensors", "bytes=400000-")


def test_busy_server_is_asked_again(bring, server):
    server.answers = [503, 429, 200]
    (path,) = bring()
    assert path.read_bytes() == CONTENT
    assert len(server.asked) == 3


def test_what_is_longer_than_the_file_is_thrown_away(bring, tmp_path):
    part = place(tmp_path, "one.safetensors.part")
    part.parent.mkdir(parents=True)
    part.write_bytes(CONTENT + b"more")
    (path,) = bring()
    assert path.read_bytes() == CONTENT


def test_right_file_that_is_there_is_not_asked_for(bring, server, said):
    bring()
    server.asked.clear()
    bring()
    assert server.asked == []
    assert "one.safetensors is there already" in said


# What goes wrong


def test_wrong_hash_leaves_no_file_and_says_both_hashes(bring, server, tmp_path):
    with pytest.raises(weights.Problem, match="Run this again") as caught:
        bring(official(server, sha256="0" * 64))
    assert hashlib.sha256(CONTENT).hexdigest() in str(caught.value)
    assert "0" * 64 in str(caught.value)
    assert list(place(tmp_path).parent.iterdir()) == []


def test_server_with_a_file_of_another_size_is_left_at_once(bring, server, tmp_path):
    with pytest.raises(weights.Problem, match=r"holds 1,280,000 bytes where 7 are expected"):
        bring(official(server, size=7))
    assert list(place(tmp_path).parent.iterdir()) == []


def test_other_file_under_the_name_is_left_alone_and_nothing_is_brought(bring, server, tmp_path):
    place(tmp_path).parent.mkdir(parents=True)
    place(tmp_path).write_bytes(b"mine")
    with pytest.raises(weights.Problem, match="rename or delete it"):
        bring(official(server, "two.safetensors"), official(server))
    assert place(tmp_path).read_bytes() == b"mine"
    assert server.asked == []


def test_server_that_brings_nothing_new_is_given_up_and_what_came_is_kept(bring, server, tmp_path):
    server.cuts = [100_000, *[0] * 20]
    with pytest.raises(weights.Problem, match="check the network"):
        bring()
    assert len(server.asked) == 1 + weights.TRIES
    assert place(tmp_path, "one.safetensors.part").read_bytes() == CONTENT[:100_000]


def test_server_that_is_not_there_is_a_problem(bring, server):
    with pytest.raises(weights.Problem, match="connection failed"):
        bring(official(server, url="http://127.0.0.1:9/one.safetensors"))


def test_address_that_refuses_says_where_to_put_the_file_by_hand(bring, server, tmp_path):
    server.answers = [401]
    with pytest.raises(weights.Problem, match="open it in a browser") as caught:
        bring()
    assert str(place(tmp_path).parent) in str(caught.value)


def test_too_little_room_is_told_before_anything_is_brought(bring, server, monkeypatch):
    usage = shutil.disk_usage(ROOT)._replace(free=1_000_000)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage)
    with pytest.raises(weights.Problem, match="--dir"):
        bring()
    assert server.asked == []


def test_disk_that_fills_up_keeps_what_came(bring, monkeypatch, tmp_path):
    whole = Path.open

    def open_on_full_disk(path, mode="r", *rest):
        file = whole(path, mode, *rest)
        if path.suffix == ".part" and mode != "rb":
            return FullAfter(file, 1_000_000)
        return file

    monkeypatch.setattr(Path, "open", open_on_full_disk)
    with pytest.raises(weights.Problem, match="disk is full with"):
        bring()
    monkeypatch.undo()
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    (path,) = bring()
    assert path.read_bytes() == CONTENT


class FullAfter:
    """A file on a disk with room for so many bytes."""

    def __init__(self, file, room):
        self.file, self.room = file, room

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.file.close()

    def seek(self, place):
        return self.file.seek(place)

    def tell(self):
        return self.file.tell()

    def write(self, content):
        if self.file.tell() + len(content) > self.room:
            self.file.write(content[: self.room - self.file.tell()])
            raise OSError(errno.ENOSPC, "No space left on device")
        return self.file.write(content)


# Files of which no hash is known


def test_file_without_a_hash_is_known_by_its_parameters(bring, server):
    tensors = {"a": torch.zeros(3, 4, dtype=torch.bfloat16), "ids": torch.zeros(1, 5, dtype=torch.int64)}
    server.files["one.safetensors"] = save(tensors)
    (path,) = bring(official(server, size=None, sha256=None, parameters=12))
    assert path.read_bytes() == server.files["one.safetensors"]


@pytest.mark.parametrize("content", [b"", b"<html>log in</html>", save({"a": torch.zeros(12)})[:-1]])
def test_file_without_a_hash_that_is_not_whole_is_refused(bring, server, content, tmp_path):
    server.files["one.safetensors"] = content
    with pytest.raises(weights.Problem, match="is not a whole safetensors file"):
        bring(official(server, size=None, sha256=None, parameters=12))
    assert not place(tmp_path).exists()


def test_file_without_a_hash_with_other_parameters_is_refused(bring, server, tmp_path):
    server.files["one.safetensors"] = save({"a": torch.zeros(13)})
    with pytest.raises(weights.Problem, match="has 13 parameters where 12 are expected"):
        bring(official(server, size=None, sha256=None, parameters=12))
    assert list(place(tmp_path).parent.iterdir()) == []


# The licence


def test_licence_is_said_before_anything_is_asked_for(bring, server, said):
    server.answers = [404]
    with pytest.raises(weights.Problem):
        bring()
    assert "licence" in said[0]
    assert [line.strip() for line in said[1:3]] == ["a licence", "research only"]
    assert not any("one.safetensors" in line for line in said[:3])


def test_without_a_person_or_a_yes_nothing_is_brought(bring, server, monkeypatch, tmp_path):
    monkeypatch.setattr(sys, "stdin", io.StringIO("yes\n"))
    with pytest.raises(weights.Problem, match="--yes"):
        bring(accepted=False)
    assert server.asked == []
    assert not (tmp_path / "models").exists()


@pytest.mark.parametrize(("typed", "files"), [("yes\n", 1), ("no\n", 0), ("\n", 0)])
def test_person_is_asked_for_a_yes(bring, server, monkeypatch, typed, files):
    keyboard = io.StringIO(typed)
    keyboard.isatty = lambda: True
    monkeypatch.setattr(sys, "stdin", keyboard)
    if files:
        assert len(bring(accepted=False)) == files
    else:
        with pytest.raises(weights.Problem, match="not accepted"):
            bring(accepted=False)
        assert server.asked == []


def test_command_without_consent_says_the_licence_and_fails():
    done = subprocess.run(
        [sys.executable, ROOT / "dev.py", "weights", "lite"],
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
    )
    assert done.returncode == 1
    assert TABLE.licence["name"] in done.stdout
    assert done.stderr == "error: The licence was not accepted, so nothing was downloaded: " \
        "with --yes you accept it.\n"  # fmt: skip


def test_folder_that_is_not_comfyui_s_is_a_problem(tmp_path, capsys):
    assert dev.main(["weights", "full", "--yes", "--dir", str(tmp_path)]) == 1
    assert "has no folder models" in capsys.readouterr().err
