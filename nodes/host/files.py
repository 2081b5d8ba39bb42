"""Which files a loader offers, where they are, and what is in them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import comfy.memory_management
import comfy.utils
import folder_paths
import torch
from torch import Tensor

from ... import weights as embedded
from ...checkpoints.header import Header
from ...checkpoints.identify import Part, expect
from ...checkpoints.layout import shapes
from ...checkpoints.open import NETWORKS, check_weights, pick, read_cast, read_weights
from ...checkpoints.recorded import Recorded
from ...checkpoints.scaled import plain

SMALL = "small cascade"
"""The choice that stands for the file that ships with the pack."""

FOLDERS = {
    Part.STAGE_A: "vae",
    Part.STAGE_B: "diffusion_models",
    Part.STAGE_C: "diffusion_models",
    Part.TEXT_ENCODER: "text_encoders",
    Part.IMAGE_ENCODER: "clip_vision",
    Part.SEMANTIC_ENCODER: "vae",
    Part.PREVIEWER: "vae",
}
"""Model folder of the host in which each part's files lie."""


def choices(part: Part) -> list[str]:
    """What a loader of a part offers, the embedded file first."""
    small = [SMALL] if embedded.path(part.value).is_file() else []
    return small + folder_paths.get_filename_list(FOLDERS[part])


def path_of(part: Part, choice: str) -> str:
    """The file behind a choice."""
    if choice == SMALL:
        return str(embedded.path(part.value))
    return folder_paths.get_full_path_or_raise(FOLDERS[part], choice)


def fingerprint(path: str) -> tuple[str, int, int]:
    """Changes when a file is replaced, so that the host loads it again."""
    status = Path(path).stat()
    return path, status.st_mtime_ns, status.st_size


@contextmanager
def naming(file: str) -> Iterator[None]:
    """Turn what is wrong with the shapes in a file into a sentence about that file."""
    try:
        yield
    except KeyError as error:
        raise ValueError(
            f"`{file}` lacks {error.args[0]}; it is cut or of another model, so choose another file"
        ) from None
    except ValueError as error:
        raise ValueError(str(error) if f"`{file}`" in str(error) else f"`{file}`: {error}") from None


@dataclass(frozen=True)
class Contents:
    """One part of the cascade as read from a file, whole and fitting.

    Attributes:
        part: which.
        header: of the file or folder.
        config: sizes of the network.
        weights: under our names; views of the mapped file, so that nothing is read before it is used.
        recorded: what the file's metadata says.
    """

    part: Part
    header: Header
    config: Any
    weights: Mapping[str, Tensor]
    recorded: Recorded

    def cast(self, kept: Callable[[Tensor], torch.dtype]) -> dict[str, Tensor]:
        """The weights in the precision that ``kept`` names for each, without ever holding both whole.

        Raises:
            ValueError: a weight does not fit the precision.
        """
        if all(kept(tensor) == tensor.dtype for tensor in self.weights.values()):
            return dict(self.weights)
        cast = read_cast(self.part, self.header, kept)
        return {key: cast[key] for key in self.weights}


def read_part(path: str | Path, part: Part) -> Contents:
    """The weights of a part.

    They are compared with a network without storage, in torch's own layers: the host's layers may be born
    without weights and take any.

    Raises:
        ValueError: the file holds something else, or not all of it.
    """
    header = expect(path, part)
    recorded = Recorded.from_metadata(header.metadata, f"`{header.file}`")
    weights = plain(_mapped(part, header))
    network, config_class = NETWORKS[part]
    with naming(header.file):
        config = config_class.from_shapes(shapes(weights), header.metadata)
        with torch.device("meta"):
            expected = shapes(network(config).state_dict())
    unused = check_weights(expected, weights, header.file)
    kept = {key: tensor for key, tensor in weights.items() if key not in set(unused)}
    return Contents(part, header, config, kept, recorded)


def _mapped(part: Part, header: Header) -> dict[str, Tensor]:
    """The weights of a part under our names, not yet read.

    The host's reader is taken where it streams weights from the file to the device, and knows its own maps.
    """
    if not comfy.memory_management.aimdo_enabled and not comfy.utils.DISABLE_MMAP:
        return read_weights(part, header)
    weights: dict[str, Tensor] = {}
    for place in sorted(set(header.places.values())):
        weights |= comfy.utils.load_torch_file(str(place))
    return pick(weights, part)
