"""What a run is told, and what it refuses to be told."""

import pytest
import tiny_runs
from comfyui_cascade.training.settings import Settings, from_table, read_settings


def read(folder, **changes):
    path = folder / "run.toml"
    path.write_text(tiny_runs.toml(tiny_runs.recipe("stage_c", **changes)))
    return read_settings(path)


def test_a_file_becomes_settings(tmp_path):
    settings = read(tmp_path, schedule={"betas": [0.9, 0.99], "rate": 1})
    assert settings.part == "stage_c"
    assert settings.schedule.betas == (0.9, 0.99)
    assert settings.schedule.rate == 1.0
    assert type(settings.schedule.rate) is float
    assert settings.objective.drop_text == 0.05
    assert settings.network["channels"] == 16


@pytest.mark.parametrize(
    ("changes", "name", "near"),
    [
        ({"shedule": {"steps": 3}}, "shedule", "schedule"),
        ({"schedule": {"step": 3}}, "step", "steps"),
        ({"objective": {"droptext": 0.1}}, "droptext", "drop_text"),
        ({"data": {"foldr": "x"}}, "foldr", "folder"),
        ({"companions": {"stage_aa": "x"}}, "stage_aa", "stage_a"),
    ],
)
def test_an_unknown_name_is_refused_with_the_nearest_one(tmp_path, changes, name, near):
    with pytest.raises(ValueError, match=f"nothing is called {name}; the nearest name is {near}$"):
        read(tmp_path, **changes)


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"part": None}, "lacks part; add it"),
        ({"schedule": None}, "lacks schedule; add it"),
        ({"part": 3}, "part is 3, and str was expected"),
        ({"data": 3}, "data is 3, and a table was expected"),
        ({"schedule": {"steps": 2.5}}, "schedule: steps is 2.5, and int was expected"),
        ({"schedule": {"steps": True}}, "schedule: steps is True, and int was expected"),
        ({"schedule": {"rate": "fast"}}, "rate is 'fast', and float was expected"),
        ({"schedule": {"betas": 0.9}}, "betas is 0.9, and a list was expected"),
        ({"schedule": {"betas": [0.9]}}, "betas holds 1 values, and 2 were expected"),
        ({"schedule": {"precision": "fp16"}}, "precision is 'fp16'; choose one of no, bf16"),
        ({"objective": {"weight": "p3"}}, "weight is 'p3'; choose one of constant, p2, adaptive"),
        ({"data": {"ratios": ["wide"]}}, "ratios is 'wide', and float was expected"),
    ],
)
def test_missing_and_mistyped_values_are_named(tmp_path, changes, sentence):
    with pytest.raises(ValueError, match=r"^run\.toml.*") as error:
        read(tmp_path, **changes)
    assert sentence in str(error.value)


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"data": {"folder": "x"}}, "data names picturebook and folder; give exactly one"),
        ({"data": {"picturebook": 0}}, "data names none; give exactly one"),
        ({"schedule": {"batch": 6, "accumulate": 4}}, "a batch of 6 does not split into 4 equal parts"),
        ({"schedule": {"accumulate": 0}}, "schedule.accumulate is 0, and at least 1 was expected"),
        ({"schedule": {"steps": 0}}, "schedule.steps is 0, and at least 1"),
        ({"schedule": {"average": 1.0}}, "schedule.average is 1.0, and a share below 1"),
        ({"data": {"ratios": []}}, "data.ratios is 0, and at least 1"),
        ({"start": "stage_c.safetensors"}, "both start and network say how large the network is"),
    ],
)
def test_values_that_cannot_be_are_refused(tmp_path, changes, sentence):
    with pytest.raises(ValueError, match=r"^run\.toml: ") as error:
        read(tmp_path, **changes)
    assert sentence in str(error.value)


def test_a_file_that_is_no_toml_is_named(tmp_path):
    path = tmp_path / "run.toml"
    path.write_text("part = ")
    with pytest.raises(ValueError, match=r"run\.toml is no TOML file"):
        read_settings(path)


def test_settings_are_frozen():
    settings = from_table(Settings, tiny_runs.recipe("stage_c"), "recipe")
    with pytest.raises(AttributeError):
        settings.schedule.steps = 3
