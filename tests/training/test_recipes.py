"""The recipes that come with the pack."""

import json
from pathlib import Path

import pytest
import torch
from comfyui_cascade.checkpoints.identify import Part
from comfyui_cascade.checkpoints.open import NETWORKS
from comfyui_cascade.training import picturebook
from comfyui_cascade.training.parts import PARTS
from comfyui_cascade.training.settings import from_table, read_settings
from comfyui_cascade.training.small import ORDER, RECIPES, STAGES

EVERY = sorted(RECIPES.parent.rglob("*.toml"))
SMALL = sorted(RECIPES.glob("*.toml"))
RELEASED = [path for path in EVERY if path not in SMALL]
OFFICIAL = json.loads((RECIPES.parents[2] / "weights" / "official.json").read_text())["files"]


def names(paths):
    return [path.stem for path in paths]


@pytest.mark.parametrize("path", EVERY, ids=names(EVERY))
def test_recipe_reads_and_names_a_part(path):
    settings = read_settings(path)
    assert settings.part in PARTS
    assert settings.network or settings.start


@pytest.mark.parametrize("path", EVERY, ids=names(EVERY))
def test_recipe_says_what_it_is_for_in_its_first_line(path):
    assert path.read_text().startswith("# ")


def built(part, sizes):
    network_class, config_class = NETWORKS[part]
    with torch.device("meta"):
        return network_class(from_table(config_class, sizes, part.value))


NEW = [RECIPES / f"{name}.toml" for name in ORDER if not read_settings(RECIPES / f"{name}.toml").start]


@pytest.mark.parametrize("path", NEW, ids=names(NEW))
def test_sizes_in_a_small_recipe_build_a_network(path):
    settings = read_settings(path)
    tables = settings.network
    if settings.part == "semantic_encoder":
        encoder, previewer = (
            built(Part(n), tables[n.split("_")[-1]]) for n in ("semantic_encoder", "previewer")
        )
        latents = encoder.config.channels
        assert previewer.config.convolutions[0][1] == latents
    else:
        network = built(Part(settings.part), tables)
        assert sum(p.numel() for p in network.parameters()) > 1e4
    if settings.part == "text_encoder":
        assert tables["vocabulary"] == len(picturebook.TOKEN_IDS)
        assert tables["positions"] == picturebook.POSITIONS


def test_small_recipes_fit_together():
    sizes = {path.stem: read_settings(path).network for path in SMALL}
    c, b, text = sizes["stage_c"], sizes["stage_b"], sizes["text_encoder"]
    assert c["c_text"] == text["width"]
    assert c["c_pooled"] == b["c_pooled"] == text["c_pooled"]
    assert c["c_image"] == sizes["image_encoder"]["channels"]
    assert c["channels"] == b["c_semantic"] == sizes["semantic_encoder"]["encoder"]["channels"]
    assert b["channels"] == sizes["stage_a"]["channels"]


def test_every_small_run_comes_after_those_whose_files_it_uses():
    done = set()
    for name in ORDER:
        settings = read_settings(RECIPES / f"{name}.toml")
        companions = settings.companions
        for file in (settings.start, companions.stage_a, companions.stage_c, companions.semantic_encoder,
                     companions.text_encoder, companions.image_encoder, companions.previewer):  # fmt: skip
            assert not file or Path(file).parts[0] in done
        done.add(name)


def test_every_stage_of_the_command_line_has_recipes():
    for runs in STAGES.values():
        assert set(runs) <= set(names(SMALL))


@pytest.mark.parametrize("path", RELEASED, ids=names(RELEASED))
def test_recipes_for_the_released_sizes_name_official_files(path):
    settings = read_settings(path)
    official = {entry["name"] for entry in OFFICIAL}
    companions = settings.companions
    files = [settings.start, companions.stage_a, companions.semantic_encoder, companions.text_encoder,
             companions.image_encoder, companions.previewer]  # fmt: skip
    assert {Path(file).name for file in files if file} <= official
    assert settings.start
    assert settings.schedule.precision == "bf16"
    assert settings.schedule.rate == 1e-4
