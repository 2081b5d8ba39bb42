"""Which files a loader offers, where they are, and what is in them."""

from __future__ import annotations

import os
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
from ...checkpoints.notes import NAME, as_tensor
from ...checkpoints.open import NETWORKS, check_weights, pick, read_cast, read_weights
from ...checkpoints.recorded import Recorded, joined_metadata
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

ADAPTERS = {"lora": "loras", "controlnet": "controlnet"}
"""Model folder of the host in which the files of each kind of adapter lie."""

CHECKPOINTS = "checkpoints"
"""Model folder of the host for files that hold several parts."""

PIPELINES = "diffusers"
"""Model folder of the host for whole pipelines of diffusers, with a folder for each of their networks."""

IN_PIPELINES = {
    Part.STAGE_A: ("vqgan",),
    Part.STAGE_B: ("decoder", "decoder_lite"),
    Part.STAGE_C: ("prior", "prior_lite"),
    Part.TEXT_ENCODER: ("text_encoder",),
    Part.IMAGE_ENCODER: ("image_encoder",),
}
"""Names of each part's folder in a pipeline."""


def choices(part: Part) -> list[str]:
    """What a loader of a part offers: the embedded file, files, and folders, which end in a slash."""
    small = [SMALL] if embedded.path(part.value).is_file() else []
    folders = _network_folders(part)
    pieces = tuple(folder for folder in folders if _has_index(_folder(part, folder)))
    files = folder_paths.get_filename_list(FOLDERS[part])
    return small + [file for file in files if not Path(file).as_posix().startswith(pieces)] + folders


def _network_folders(part: Part) -> list[str]:
    """Folders that diffusers or transformers wrote, each with a configuration beside its weights."""
    files = folder_paths.get_filename_list(FOLDERS[part])
    beside = {Path(file).parent.as_posix() + "/" for file in files} - {"./"}
    found = [name for name in beside if (_folder(part, name, FOLDERS[part]) / "config.json").is_file()]
    for root in map(Path, folder_paths.get_folder_paths(PIPELINES)):
        for name in IN_PIPELINES.get(part, ()):
            folders = (config.parent for config in root.glob(f"*/{name}/config.json"))
            found += [f"{folder.relative_to(root).as_posix()}/" for folder in folders]
    return sorted(set(found))


def _folder(part: Part, choice: str, *kinds: str) -> Path:
    """The folder behind a choice, in the host's model folders; the first place if none has it."""
    inside = Path(os.path.relpath(Path("/", choice), "/"))  # as the host does: never outside of its folders
    roots = [
        root for kind in kinds or (FOLDERS[part], PIPELINES) for root in folder_paths.get_folder_paths(kind)
    ]
    places = [Path(root) / inside for root in roots]
    return next((place for place in places if place.is_dir()), places[0])


def _has_index(folder: Path) -> bool:
    return any(folder.glob("*.safetensors.index.json"))


def path_of(part: Part, choice: str) -> str:
    """The file or folder behind a choice."""
    if choice == SMALL:
        return str(embedded.path(part.value))
    if choice.endswith("/"):
        return str(_folder(part, choice))
    return folder_paths.get_full_path_or_raise(FOLDERS[part], choice)


def adapter_choices(kind: str) -> list[str]:
    """What a loader of a kind of adapter offers: those of the small cascade, and files."""
    small = [f"{SMALL}: {name}" for name in embedded.adapters(kind)]
    return small + folder_paths.get_filename_list(ADAPTERS[kind])


def path_of_adapter(kind: str, choice: str) -> str:
    """The file behind a choice."""
    small, _, name = choice.partition(": ")
    if small == SMALL:
        return str(embedded.path(f"{kind}_{name}"))
    return folder_paths.get_full_path_or_raise(ADAPTERS[kind], choice)


def checkpoint_choices() -> list[str]:
    """Files that may hold several parts."""
    return folder_paths.get_filename_list(CHECKPOINTS)


def path_of_checkpoint(choice: str) -> str:
    """The file behind a choice."""
    return folder_paths.get_full_path_or_raise(CHECKPOINTS, choice)


def fingerprint(path: str) -> tuple:
    """Changes when a file, or one in a folder, is replaced, so that the host loads it again."""
    place = Path(path)
    files = sorted(place.iterdir()) if place.is_dir() else [place]
    status = [(file.name, file.stat()) for file in files]
    return path, tuple((name, one.st_mtime_ns, one.st_size) for name, one in status)


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


def notes_in(header: Header) -> dict[str, str]:
    """The entries of ours in a file's metadata."""
    return {key: text for key, text in header.metadata.items() if key.startswith("cascade.")}


def noted(notes: Mapping[str, Mapping[str, str]], prefix: str = "") -> dict[str, Tensor]:
    """What to add to the weights of parts that another program saves; nothing where nothing was noted.

    Args:
        notes: entries of ours by part.
        prefix: of the weights' names.
    """
    joined = joined_metadata(notes)
    return {prefix + NAME: as_tensor(joined)} if joined else {}
