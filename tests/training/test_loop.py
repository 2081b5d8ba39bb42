"""The loop: what runs give, and that how they are split or stopped changes nothing."""

import json
import random
import time

import pytest
import tiny_runs
import torch
from comfyui_cascade.checkpoints.header import read_header
from comfyui_cascade.checkpoints.identify import Part
from comfyui_cascade.checkpoints.open import load_part
from comfyui_cascade.checkpoints.recorded import Recorded
from comfyui_cascade.training.loop import check_sharding, rate_at, sheet
from comfyui_cascade.training.settings import Schedule
from PIL import Image
from safetensors.torch import load_file
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator


def weights(folder, part="stage_c"):
    return load_file(folder / f"{part}.safetensors")


def assert_equal(found, expected, tolerance=0.0):
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        torch.testing.assert_close(
            found[name], value, rtol=0, atol=tolerance, msg=lambda m, n=name: f"{n}: {m}"
        )


# Learning rate -------------------------------------------------------------------------------------------


def test_the_rate_rises_stays_and_falls():
    schedule = Schedule(steps=100, batch=1, rate=2.0, warmup=10, cooldown=40)
    rates = [rate_at(step, schedule) for step in range(100)]
    assert rates[0] == pytest.approx(0.2)
    assert rates[9:60] == [2.0] * 51
    assert rates[80] == pytest.approx(1.0)
    assert rates[-1] < 0.01
    assert rates[10:] == sorted(rates[10:], reverse=True)


def test_the_references_rate_is_constant_after_its_warm_up():
    schedule = Schedule(steps=5, batch=1, rate=1e-4, warmup=1)
    assert [rate_at(step, schedule) for step in range(5)] == [1e-4] * 5


# What comes out ------------------------------------------------------------------------------------------

FILES = {
    "stage_a": ["stage_a"],
    "stage_b": ["stage_b"],
    "stage_c": ["stage_c"],
    "semantic_encoder": ["semantic_encoder", "previewer"],
    "previewer": ["previewer"],
    "text_encoder": ["text_encoder"],
    "image_encoder": ["image_encoder"],
}


@pytest.mark.parametrize("part", FILES)
def test_a_run_writes_files_that_open_a_log_and_samples(part, base, tmp_path):
    changes = {"objective": {"prediction": "velocity"}} if part in ("stage_b", "stage_c") else {}
    done = tiny_runs.run(
        part,
        base,
        tmp_path,
        schedule={"steps": 4},
        log={"every": 2, "samples": 4, "checkpoint": 3},
        **changes,
    )
    assert done.finished
    assert done.step == 4
    assert list(done.files) == FILES[part]
    for name, path in done.files.items():
        network = load_part(path, Part(name))
        assert all(value.isfinite().all() for value in network.state_dict().values())
        metadata = read_header(path).metadata
        recorded = Recorded.from_metadata(metadata)
        assert recorded.part == name
        assert recorded.compression == pytest.approx(256 / 12)
        assert metadata["cascade.steps"] == "4"
        if name in ("stage_b", "stage_c"):
            assert recorded.prediction == "velocity"
            assert recorded.latent_rgb is not None
        if name in ("stage_b", "stage_c", "text_encoder", "image_encoder"):
            assert recorded.head_dim == 16
        if name == "text_encoder":
            assert len(recorded.token_ids) == 150
        if name == "semantic_encoder":
            assert recorded.strides == (2, 2, 2, 2)
    log = EventAccumulator(str(tmp_path / "log"))
    log.Reload()
    assert [event.step for event in log.Scalars("loss")] == [2, 4]
    assert log.Scalars("learning rate")[0].value == pytest.approx(1e-3)
    assert sorted(path.name for path in (tmp_path / "checkpoints").iterdir()) == ["000000003", "000000004"]
    samples = list((tmp_path / "samples").iterdir()) if (tmp_path / "samples").exists() else []
    if part in ("text_encoder", "image_encoder"):
        assert not samples
    else:
        assert [path.name for path in samples] == ["000000004.png"]
        with Image.open(samples[0]) as image:
            assert len(image.getcolors(10**6)) > 10


def test_the_network_learns_and_its_average_is_written(base, tmp_path):
    start = tiny_runs.task("stage_c", base).network.stage_c.state_dict()
    tiny_runs.run("stage_c", base, tmp_path / "averaged", schedule={"steps": 4, "average": 0.9})
    tiny_runs.run("stage_c", base, tmp_path / "last", schedule={"steps": 4, "average": 0.0})
    averaged, last = weights(tmp_path / "averaged"), weights(tmp_path / "last")
    name = "down_blocks.0.0.channelwise.0.weight"
    assert not torch.equal(averaged[name], last[name])
    checkpoint = load_file(tmp_path / "averaged" / "checkpoints" / "000000004" / "network.safetensors")
    assert_equal({k.removeprefix("stage_c."): v for k, v in checkpoint.items()}, last)
    assert start.keys() == last.keys()


def test_a_run_that_starts_from_a_file_keeps_what_the_file_says(base, tmp_path):
    done = tiny_runs.run(
        "stage_c", base, tmp_path, network=None, start="stage_c.safetensors", recorded=None,
        schedule={"steps": 2, "rate": 1e-6},
    )  # fmt: skip
    recorded = Recorded.from_metadata(read_header(done.files["stage_c"]).metadata)
    assert recorded.head_dim == 16
    assert recorded.compression == pytest.approx(256 / 12)
    before = load_part(base / "stage_c.safetensors", Part.STAGE_C).state_dict()
    assert_equal(weights(tmp_path), before, tolerance=1e-4)
    assert not torch.equal(weights(tmp_path)["clf.1.weight"], before["clf.1.weight"])


def test_an_encoder_that_trains_along_is_written_as_its_own_kind(base, tmp_path):
    objective = {"train_encoder": True}
    b = tiny_runs.run("stage_b", base, tmp_path / "b", schedule={"steps": 2}, objective=objective)
    c = tiny_runs.run("stage_c", base, tmp_path / "c", schedule={"steps": 2}, objective=objective)
    before = load_part(base / "semantic_encoder.safetensors", Part.SEMANTIC_ENCODER).state_dict()
    after = load_part(b.files["semantic_encoder"], Part.SEMANTIC_ENCODER).state_dict()
    assert not torch.equal(after["mapper.0.weight"], before["mapper.0.weight"])
    load_part(c.files["text_encoder"], Part.TEXT_ENCODER)
    old, new = (
        Recorded.from_metadata(read_header(path).metadata)
        for path in (base / "text_encoder.safetensors", c.files["text_encoder"])
    )
    assert new.token_ids == old.token_ids
    assert new.head_dim == old.head_dim


def test_a_loss_that_is_no_number_stops_the_run_before_a_checkpoint(base, tmp_path):
    with pytest.raises(ValueError, match=r"the loss of step \d+ is nan; lower schedule\.rate"):
        tiny_runs.run("stage_c", base, tmp_path, schedule={"rate": 1e30, "clip": 1e30})
    kept = tmp_path / "checkpoints"
    for place in kept.iterdir() if kept.exists() else []:
        assert all(value.isfinite().all() for value in load_file(place / "network.safetensors").values())


def test_runs_of_one_process_may_differ_in_precision(base, tmp_path):
    for precision in ("no", "bf16", "no"):
        folder = tmp_path / f"{precision}{len(list(tmp_path.iterdir()))}"
        tiny_runs.run("stage_c", base, folder, schedule={"steps": 2, "precision": precision})
        assert all(value.dtype == torch.float32 for value in weights(folder).values())
    half, full = weights(tmp_path / "bf161"), weights(tmp_path / "no0")
    assert not torch.equal(half["clf.1.weight"], full["clf.1.weight"])
    assert_equal(weights(tmp_path / "no2"), full)
    assert_equal(half, full, tolerance=5e-3)


def test_sharded_weights_have_no_average_and_need_the_second_fsdp():
    with pytest.raises(ValueError, match=r"sharded over the processes .* set schedule\.average to 0"):
        check_sharding(Schedule(steps=1, batch=1, average=0.9), True)
    with pytest.raises(ValueError, match="set fsdp_version to 2"):
        check_sharding(Schedule(steps=1, batch=1, average=0.0), False)
    check_sharding(Schedule(steps=1, batch=1, average=0.0), True)


# Splitting a step ----------------------------------------------------------------------------------------

TRAINED_ALIKE = [
    ("stage_c", {"objective": {"weight": "adaptive", "drop_image": 0.5}}),
    (
        "stage_c",
        {"objective": {"stratified": True}, "data": {"size": 128, "ratios": [1.0, 2.0], "multiple": 32}},
    ),
    ("stage_b", {"objective": {"window_share": 0.5, "weight": "adaptive"}, "data": {"size": 128}}),
    ("stage_b", {"data": {"latent_cache": False, "size": 128}}),
]


@pytest.mark.parametrize(("part", "changes"), TRAINED_ALIKE)
def test_accumulated_parts_equal_the_whole_batch(part, changes, base, tmp_path):
    schedule = {"steps": 3, "batch": 4, "average": 0.5, "rate": 1e-3}
    for parts in (1, 2, 4):
        tiny_runs.run(part, base, tmp_path / str(parts), schedule=schedule | {"accumulate": parts}, **changes)
    whole = weights(tmp_path / "1", part)
    # AdamW divides by the gradient's size, so rounding counts where there is hardly a gradient.
    for parts in (2, 4):
        assert_equal(weights(tmp_path / str(parts), part), whole, tolerance=3e-5)


@pytest.mark.parametrize(("part", "changes"), [TRAINED_ALIKE[0], TRAINED_ALIKE[2]])
def test_two_processes_equal_one(part, changes, base, tmp_path, children):
    changes = changes | {"schedule": {"steps": 3, "batch": 4, "average": 0.5, "accumulate": 2}}
    tiny_runs.run(part, base, tmp_path / "one", **changes)
    runs, recipe = runs_in(tmp_path, base), recipe_file(tmp_path, part, changes)
    command = ["run", recipe, "--base", runs, "--device", "cpu"]
    for limit in (["--minutes", "0"], []):  # one step, and those that are left
        status, said = children.start([*command, *limit], tmp_path / "said", processes=2).wait()
        assert status == 0, said
    assert_equal(weights(runs / "recipe", part), weights(tmp_path / "one", part), tolerance=3e-5)
    adaptive = [
        json.loads((folder / "checkpoints" / "000000003" / "progress.json").read_text())["level_weights"]
        for folder in (tmp_path / "one", runs / "recipe")
    ]
    assert adaptive[1] == pytest.approx(adaptive[0], rel=1e-4)
    assert min(adaptive[0]) < 1 or max(adaptive[0]) > 1


# Going on ------------------------------------------------------------------------------------------------


def test_a_run_that_stops_for_time_goes_on_to_the_same_weights(base, tmp_path):
    changes = {"schedule": {"steps": 5, "dropout": 0.2}, "objective": {"weight": "adaptive"}}
    tiny_runs.run("stage_c", base, tmp_path / "through", **changes)
    stopped = [tiny_runs.run("stage_c", base, tmp_path / "stopped", minutes=0.0, **changes) for _ in range(5)]
    assert [(done.step, done.finished) for done in stopped] == [(i, i == 5) for i in range(1, 6)]
    through, stopped = (tmp_path / name / "stage_c.safetensors" for name in ("through", "stopped"))
    assert through.read_bytes() == stopped.read_bytes()


def test_a_finished_run_is_left_as_it_is(base, tmp_path):
    tiny_runs.run("stage_c", base, tmp_path, schedule={"steps": 2})
    before = (tmp_path / "stage_c.safetensors").read_bytes()
    done = tiny_runs.run("stage_c", base, tmp_path, schedule={"steps": 2})
    assert (done.step, done.finished, done.loss) == (2, True, None)
    assert (tmp_path / "stage_c.safetensors").read_bytes() == before


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"schedule": {"seed": 1}}, "written with seed 0 and batches of 4, and the settings say 1 and 4"),
        ({"schedule": {"batch": 2}}, "the settings say 0 and 2"),
        ({"data": {"picturebook": 11}}, "written when there were 12 pictures, and there are 11"),
    ],
)
def test_a_run_whose_order_would_change_is_not_gone_on_with(changes, sentence, base, tmp_path):
    tiny_runs.run("stage_c", base, tmp_path, minutes=0.0)
    with pytest.raises(ValueError, match=sentence):
        tiny_runs.run("stage_c", base, tmp_path, **changes)


def recipe_file(tmp_path, part, changes):
    path = tmp_path / "recipe.toml"
    path.write_text(tiny_runs.toml(tiny_runs.recipe(part, **changes)))
    return path


def runs_in(tmp_path, base):
    """A folder of runs of its own, with the companions and caches that are there."""
    runs = tmp_path / "base"
    runs.mkdir()
    for file in (*base.glob("*.safetensors"), base / "cache"):
        (runs / file.name).symlink_to(file)
    return runs


def checkpoints(folder):
    place = folder / "checkpoints"
    return sorted(p.name for p in place.iterdir() if p.suffix != ".part") if place.exists() else []


KILLED = [
    ("stage_c", {"schedule": {"dropout": 0.3}, "objective": {"weight": "adaptive", "offset_noise": 0.1}}),
    ("stage_b", {"data": {"size": 128}, "objective": {"window_share": 0.5, "weight": "adaptive"}}),
    ("stage_a", {"data": {"crop": 16}}),
]


@pytest.mark.parametrize(("part", "changes"), KILLED, ids=["stage_c", "stage_b", "stage_a"])
def test_a_run_killed_at_any_moment_ends_with_the_same_bytes(part, changes, base, tmp_path, children):
    """SIGKILL, twice, while steps are taken or files written; then the same command until it ends."""
    changes = changes | {"log": {"checkpoint": 2, "every": 2}}
    changes["schedule"] = changes.get("schedule", {}) | {"steps": 40}
    recipe, rng = recipe_file(tmp_path, part, changes), random.Random(part)
    tiny_runs.run(part, base, tmp_path / "through", **changes)
    runs = runs_in(tmp_path, base)
    command = ["run", recipe, "--base", runs, "--device", "cpu"]
    for _ in range(2):
        before = checkpoints(runs / "recipe")
        child = children.start(command, tmp_path / "said")
        deadline = time.monotonic() + 120
        while checkpoints(runs / "recipe") == before and time.monotonic() < deadline:
            time.sleep(0.005)
        time.sleep(rng.random() * 0.2)
        child.kill()
        status, _ = child.wait()
        assert status in (-9, 0)  # 0 if it ended first
    status, said = children.start(command, tmp_path / "said").wait()
    assert status == 0, said
    assert "going on from step" in said
    through, killed = (folder / f"{part}.safetensors" for folder in (tmp_path / "through", runs / "recipe"))
    assert through.read_bytes() == killed.read_bytes()
    assert checkpoints(runs / "recipe")[-1] == "000000040"
    assert not list((runs / "recipe").rglob("*.part"))


def test_a_full_disk_leaves_the_last_checkpoint_and_the_run_goes_on_later(base, tmp_path, children):
    changes = {"schedule": {"steps": 6}, "log": {"checkpoint": 3}}
    recipe = recipe_file(tmp_path, "stage_c", changes)
    tiny_runs.run("stage_c", base, tmp_path / "through", **changes)
    runs = runs_in(tmp_path, base)
    command = ["run", recipe, "--base", runs, "--device", "cpu"]
    status, _ = children.start([*command, "--minutes", "0"], tmp_path / "said").wait()
    assert status == 0
    size = (runs / "recipe" / "checkpoints" / "000000001" / "optimizer.safetensors").stat().st_size
    status, said = children.start(command, tmp_path / "said", largest_file=size // 2).wait()
    assert status == 1
    (line,) = [line for line in said.splitlines() if line.startswith("error: ")]
    assert "the checkpoint of step 3 could not be written" in line
    assert "the checkpoint of step 1 is whole, so free some space and start the run again" in line
    assert [path.name for path in (runs / "recipe" / "checkpoints").iterdir()] == ["000000001"]
    status, said = children.start(command, tmp_path / "said").wait()
    assert status == 0, said
    through, full = (folder / "stage_c.safetensors" for folder in (tmp_path / "through", runs / "recipe"))
    assert through.read_bytes() == full.read_bytes()


# Samples -------------------------------------------------------------------------------------------------


def test_a_sheet_puts_pictures_side_by_side():
    pictures = torch.stack([torch.full((2, 3, 3), value) for value in (0.0, 0.5, 1.0)])
    page = sheet(pictures, 2)
    assert page.size == (6, 4)
    assert [page.getpixel(place)[0] for place in ((0, 0), (3, 0), (0, 2), (3, 2))] == [0, 128, 255, 0]


def test_a_checkpoint_records_what_decides_the_order(base, tmp_path):
    tiny_runs.run("stage_c", base, tmp_path, schedule={"steps": 2, "seed": 3})
    progress = json.loads((tmp_path / "checkpoints" / "000000002" / "progress.json").read_text())
    assert {name: progress[name] for name in ("step", "seed", "batch", "pictures", "examples")} == {
        "step": 2, "seed": 3, "batch": 4, "pictures": 12, "examples": 8,
    }  # fmt: skip
