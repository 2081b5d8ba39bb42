"""The table of official files: true of the manifests, and the same in loaders, pages and workflows."""

import json
import re

import pytest
import torch
from comfy_host import ROOT
from manifests import manifest

from development import weights

TABLE = weights.Catalogue.read(ROOT / "weights" / "official.json")

MANIFESTS = {
    "stage_c_lite_bf16.safetensors": ("stage_c_lite", 2),
    "stage_c_bf16.safetensors": ("stage_c", 2),
    "stage_b_lite_bf16.safetensors": ("stage_b_lite", 2),
    "stage_b_bf16.safetensors": ("stage_b", 2),
    "stage_a.safetensors": ("stage_a", 4),
    "stable_cascade_clip_g.safetensors": ("text_encoder_clip_g", 2),
    "effnet_encoder.safetensors": ("effnet_encoder", 4),
    "previewer.safetensors": ("previewer", 4),
    "stable_cascade_clip_l.safetensors": ("image_encoder_clip_l_vision", 2),
}


def elements(shape):
    return int(torch.Size(shape).numel())


@pytest.mark.parametrize("file", TABLE.files, ids=lambda file: file.name)
def test_size_in_the_table_is_that_of_the_tensors_and_a_header(file):
    name, bytes_each = MANIFESTS[file.name]
    tensors = manifest(name)
    counters = [key for key in tensors if key.endswith("num_batches_tracked")]
    stored = sum(bytes_each * elements(tensors[key]) for key in tensors.keys() - counters) + 8 * len(counters)
    if file.size is None:
        assert file.parameters == sum(map(elements, tensors.values()))
    else:
        assert 0 < file.size - stored < 150 * len(tensors) + 20_000  # a thumbnail is in the metadata


def test_every_set_has_one_file_of_each_part():
    for name in ("lite", "full"):
        parts = [file.part for file in TABLE.of(name)]
        assert len(parts) == len(set(parts)) == 7


@pytest.mark.parametrize("file", TABLE.files, ids=lambda file: file.name)
def test_file_is_known_by_its_hash_at_a_fixed_revision_or_by_its_parameters(file):
    if file.sha256:
        assert re.fullmatch(r"[0-9a-f]{64}", file.sha256)
        assert re.search(r"/resolve/[0-9a-f]{40}/", file.url)
        assert file.size
    else:
        assert file.parameters


def test_files_go_where_the_loaders_look():
    source = (ROOT / "nodes" / "host" / "files.py").read_text()
    folders = dict(re.findall(r'Part\.(\w+): "(\w+)",', source))
    assert {file.part: file.directory for file in TABLE.files} == {
        part.lower(): folder for part, folder in folders.items()
    }


def test_readme_s_commands_bring_the_same_files():
    lines = (ROOT / "README.md").read_text()
    (base,) = re.findall(r"^URL=(\S+)$", lines, re.MULTILINE)
    commands = re.findall(
        r"^\$GET --url (\S+) --relative-path models/(\S+) --filename (\S+)$", lines, re.MULTILINE
    )
    brought = {(url.replace("$URL", base), directory, name) for url, directory, name in commands}
    assert brought == {(file.url, file.directory, file.name) for file in TABLE.of("full")}


@pytest.mark.parametrize("file", TABLE.files, ids=lambda file: file.name)
def test_page_about_the_weights_has_the_table(file):
    (row,) = re.findall(
        rf"^\| `{re.escape(file.name)}` .*$", (ROOT / "docs" / "weights.md").read_text(), re.M
    )
    assert f"`{file.directory}`" in row
    assert f"({file.url})" in row
    assert (file.sha256 or f"{file.parameters:,} parameters") in row
    assert file.size is None or f"{file.size:,}" in row


# Workflows

LOADS = {
    "CascadeLoadStageA": ("stage_a",),
    "CascadeLoadStageB": ("stage_b",),
    "CascadeLoadStageC": ("stage_c",),
    "CascadeLoadTextEncoder": ("text_encoder",),
    "CascadeLoadImageEncoder": ("image_encoder",),
    "CascadeLoadSemanticEncoder": ("semantic_encoder", "previewer"),
    "CascadeLoadPipeline": ("stage_a", "stage_b", "stage_c", "text_encoder", "semantic_encoder", "previewer"),
}


def models(parts):
    """What ComfyUI's page has to know of the files of these parts."""
    return [
        {"name": file.name, "url": file.url, "directory": file.directory}
        | ({"hash": file.sha256, "hash_type": "SHA256"} if file.sha256 else {})
        for file in TABLE.files
        if file.part in parts
    ]


@pytest.mark.parametrize(
    "path", sorted((ROOT / "workflows").glob("*.json")), ids=lambda path: path.stem
)  # fmt: skip
def test_loaders_in_workflows_know_where_the_official_files_are(path):
    nodes = json.loads(path.read_text())["nodes"]
    loaders = [node for node in nodes if node["type"] in LOADS]
    assert loaders or any(node["type"] == "CascadeLoadCheckpoint" for node in nodes)
    for node in loaders:
        assert node["properties"]["models"] == models(LOADS[node["type"]])


def test_official_workflow_picks_files_of_the_full_set():
    workflow = json.loads((ROOT / "workflows" / "text_to_image_official.json").read_text())
    full = {file.part: file.name for file in TABLE.of("full")}
    for node in workflow["nodes"]:
        for part in LOADS.get(node["type"], ()):
            assert full[part] in node["widgets_values"]
