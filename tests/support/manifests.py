"""Names, dtypes and shapes of every tensor in the released files, and of adapters for them."""

import gzip
import json
from pathlib import Path

import torch

FOLDER = Path(__file__).resolve().parents[1] / "data" / "manifests"
DTYPES = {"F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16, "I64": torch.int64}


def names():
    """Every manifest by name, such as ``stage_c_lite``."""
    return sorted(path.name.removesuffix(".json.gz") for path in FOLDER.glob("*.json.gz"))


def manifest(name):
    """Shape of each tensor of a released file."""
    return {key: tuple(shape) for key, (_, shape) in _read(name).items()}


def tensors(name):
    """Dtype, as safetensors spells it, and shape of each tensor of a released file."""
    return {key: (dtype, tuple(shape)) for key, (dtype, shape) in _read(name).items()}


def meta_weights(name):
    """A released file's tensors without storage."""
    return {
        key: torch.empty(shape, dtype=DTYPES[d], device="meta") for key, (d, shape) in _read(name).items()
    }


def _read(name):
    return json.loads(gzip.decompress((FOLDER / f"{name}.json.gz").read_bytes()))
