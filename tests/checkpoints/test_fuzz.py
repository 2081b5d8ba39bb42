"""Ten thousand damaged headers: each gives a report or one sentence, at once."""

import gc
import io
import json
import random
import struct
import time
from pathlib import Path

import pytest
from comfyui_cascade.checkpoints.header import BITS, header_in
from comfyui_cascade.checkpoints.report import report_of
from comfyui_cascade.weights import path
from manifests import tensors
from sparse import header_of

COUNT = 10_000
SECONDS = 0.05
SMALL = ("stage_a", "stage_c", "text_encoder")
"""Parts of the embedded cascade whose whole headers are damaged too."""

NUMBERS = [0, 1, -1, 2, 255, 2**31, 2**53 + 1, 2**63, 2**64, 10**40, 0.5, True, None, "7", [], {}]
DTYPES = ["F32", "F64", "BF16", "F8_E4M3", "F4", "I64", "BOOL", "F31", "", "f32", 7, None, ["F32"]]
NAMES = [
    "clip_txt_mapper.weight", "clf.1.weight", "effnet_mapper.0.weight", "backbone.0.0.weight",
    "down_blocks.0.2.attention.attn.in_proj_weight", "down_blocks.999999999.0.depthwise.weight",
    "up_blocks.0.0.depthwise.bias", "text_projection", "weights.0.lora_down", "module.", "", ".", "\n",
    "\ud800", "__metadata__", "model.diffusion_model.", "down_blocks..0.depthwise.weight", "x" * 5000,
    "text_model.encoder.layers.x.mlp.fc1.weight", "vquantizer.embedding.weight", "a.lora_up.weight",
]  # fmt: skip
METADATA = [
    {"cascade.head_dim": "0"}, {"cascade.head_dim": "-1"}, {"cascade.head_dim": "9" * 5000},
    {"cascade.strides": "[[[["}, {"cascade.strides": "[1]"}, {"cascade.token_ids": "{}"}, {"a": "\x1b"},
    {"cascade.stage_c.head_dim": "x"}, {"a": 1}, [], "text",
]  # fmt: skip


def shrunk(name, most=24):
    """A released file's names and dtypes with every side cut to at most 3, and at most so many of them."""
    every = list(tensors(name).items())
    kept = every[:: max(1, len(every) // most)]
    return {key: (dtype, tuple(min(side, 3) for side in shape)) for key, (dtype, shape) in kept}


CUT = [
    header_of(shrunk(name), {"format": "pt"})
    for name in (
        "stage_a", "stage_b_lite", "stage_c_lite", "diffusers_decoder_lite", "effnet_encoder", "previewer",
        "text_encoder_clip_g", "image_encoder_clip_l_vision", "comfyui_stable_cascade_stage_b",
        "controlnet_canny", "lora_kohya_stage_c_lite_rank4", "lora_stability_stage_c_lite_rank4",
    )
]  # fmt: skip


def raw_header(file):
    data = file.read_bytes()
    return json.loads(data[8 : 8 + struct.unpack("<Q", data[:8])[0]])


def some_entry(table, rng):
    return table[rng.choice([name for name in table if name != "__metadata__"])]


def change_number(table, rng):
    numbers = some_entry(table, rng)[rng.choice(["shape", "data_offsets"])]
    numbers[:] = [rng.choice(NUMBERS) if rng.random() < 0.5 else number for number in numbers]


def change_shape(table, rng):
    some_entry(table, rng)["shape"] = [rng.choice([0, 1, 1, 2, 3, 2**62]) for _ in range(rng.randint(0, 40))]


def change_dtype(table, rng):
    some_entry(table, rng)["dtype"] = rng.choice(DTYPES)


def change_kind(table, rng):
    table[rng.choice(list(table))] = rng.choice(NUMBERS)


def rename(table, rng):
    names = list(table)
    table[rng.choice(NAMES)] = table.pop(rng.choice(names))


def rename_all(table, rng):
    prefix = rng.choice(["module.", "model.", "x.", "vae.", "model.diffusion_model."]) * rng.randint(1, 20)
    for name in list(table):
        table[prefix + name] = table.pop(name)


def drop(table, rng):
    del table[rng.choice(list(table))]


def describe(table, rng):
    table["__metadata__"] = rng.choice(METADATA)


def reshape_alike(table, rng):
    """Another shape of as many elements, which only the reader of sizes can find strange."""
    entry = some_entry(table, rng)
    whole = [side for side in entry["shape"] if type(side) is int]
    entry["shape"] = rng.choice([whole[::-1], [*whole, 1], [1, *whole], [0], []])


CHANGES = [
    change_number, change_shape, change_dtype, change_kind, rename, rename_all, drop, describe, reshape_alike,
]  # fmt: skip


def refit(table):
    """Offsets that follow the shapes again, so that a strange header gets past the reader of headers."""
    entries = {name: entry for name, entry in table.items() if name != "__metadata__"}
    for entry in entries.values():
        dtype, shape = (entry.get("dtype"), entry.get("shape")) if isinstance(entry, dict) else (None, None)
        if not isinstance(dtype, str) or dtype not in BITS or not isinstance(shape, list):
            return table
        if not all(type(side) is int and 0 <= side < 2**20 for side in shape):
            return table
    metadata = table.get("__metadata__")
    return header_of({name: (entry["dtype"], entry["shape"]) for name, entry in entries.items()}, metadata)


def data_of(table):
    """Bytes that the tensors take, where that can be said."""
    entries = (value for value in table.values() if isinstance(value, dict))
    ends = [end for entry in entries for end in entry.get("data_offsets") or [] if type(end) is int]
    return max((end for end in ends if 0 <= end < 2**40), default=0)


def damaged(rng, seeds):
    """The first bytes of a damaged file, and how long the file would be."""
    table = json.loads(rng.choice(seeds))
    for _ in range(rng.randint(0, 3)):
        try:
            rng.choice(CHANGES)(table, rng)
        except (IndexError, KeyError, TypeError, AttributeError):  # an earlier change left nothing to change
            break
    if rng.random() < 0.5:
        table = refit(table)
    text = bytearray(json.dumps(table).encode())
    for _ in range(rng.choice([0, 0, 1, 5])):
        text[rng.randrange(len(text))] = rng.randrange(256)
    size = 8 + len(text) + data_of(table) + rng.choice([0] * 20 + [1, 10**12])
    if rng.random() < 0.05:
        del text[rng.randrange(len(text)) :]
    lengths = [len(text)] * 30 + [0, 1, max(len(text) - 1, 0), len(text) + 1, 2**40, 2**63, 2**64 - 1]
    return struct.pack("<Q", rng.choice(lengths)) + text, size


@pytest.fixture
def frozen():
    """No collection of what is there already, which would count as ours."""
    gc.collect()
    gc.freeze()
    yield
    gc.unfreeze()


def test_damaged_headers_give_a_report_or_one_sentence_at_once(frozen):
    rng = random.Random(0)
    seeds = [json.dumps(table) for table in [*CUT, *(raw_header(path(part)) for part in SMALL)]]
    slowest, told = 0.0, 0
    for number in range(COUNT):
        start, size = damaged(rng, seeds)
        begun = time.process_time()
        try:
            found = report_of(header_in(io.BytesIO(start), size, Path("a.safetensors")))
            said = [found.line, *found.text.split("\n")]
            json.dumps(found.as_json())
            told += 1
        except ValueError as error:
            said = [str(error)]
            assert said[0].startswith("`a.safetensors` "), f"{number}: {said[0]}"
        slowest = max(slowest, time.process_time() - begun)
        assert all(line.isprintable() for line in said), f"{number}: {said}"
        assert max(map(len, said)) < 2000, f"{number}: {said}"
    assert slowest < SECONDS
    assert told > COUNT / 10  # the others never reach what tells parts apart
