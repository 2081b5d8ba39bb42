"""Safetensors files of any size that take no room: a true header, and a hole where the data would be."""

import json
import math
import struct

from comfyui_cascade.checkpoints.header import BITS


def header_of(tensors, metadata=None):
    """The header's table for ``{name: (dtype, shape)}``."""
    table = {"__metadata__": metadata} if metadata else {}
    begin = 0
    for name, (dtype, shape) in tensors.items():
        end = begin + math.prod(shape) * BITS[dtype] // 8
        table[name] = {"dtype": dtype, "shape": list(shape), "data_offsets": [begin, end]}
        begin = end
    return table


def write_sparse(path, tensors, metadata=None):
    """A file with these tensors, all zero; returns its path."""
    table = header_of(tensors, metadata)
    text = json.dumps(table).encode()
    data = max(
        (entry["data_offsets"][1] for name, entry in table.items() if name != "__metadata__"), default=0
    )
    with path.open("wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        file.truncate(8 + len(text) + data)
    return path


def write_names(path, names, dtype="F32", shape=(1,)):
    """A file of equal tensors under these names."""
    return write_sparse(path, dict.fromkeys(names, (dtype, shape)))
