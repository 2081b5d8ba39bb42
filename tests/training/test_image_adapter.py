"""Training decoupled image attention beside a Stage C that stays as it is."""

import pytest
import tiny_cascade
import tiny_runs
import torch
from comfyui_cascade.adapters.image_prompt import load_image_adapter
from comfyui_cascade.checkpoints.header import read_header
from comfyui_cascade.checkpoints.save import save_tensors
from comfyui_cascade.training.draws import Draws
from comfyui_cascade.training.examples import Examples, collate
from comfyui_cascade.training.small import export

RECIPE = {
    "companions": tiny_runs.COMPANIONS | {"stage_c": "stage_c.safetensors"},
    "network": {"tokens": 2, "c_token": 16},
    "objective": {"drop_image": 0.1},
}


@pytest.fixture
def task(base):
    return tiny_runs.task("image_adapter", base, **RECIPE)


def losses(task, network=None, step=0):
    examples = Examples(task.fields(), 0, task.work.buckets)
    batch = collate([examples[i, i] for i in range(4)])
    draws = Draws(0, range(step, step + 4))
    return task.losses(network or task.network, batch, draws)


def test_stage_c_is_not_trained(task):
    before = {name: value.clone() for name, value in task.stage_c.state_dict().items()}
    assert not any(p.requires_grad for p in task.stage_c.parameters())
    optimizer = torch.optim.SGD(task.network.parameters(), lr=1.0)
    losses(task).mean().backward()
    optimizer.step()
    assert all(torch.equal(value, before[name]) for name, value in task.stage_c.state_dict().items())


def test_adapter_learns(task):
    first = losses(task).mean()
    optimizer = torch.optim.Adam(task.network.parameters(), lr=0.02)
    for _ in range(40):
        optimizer.zero_grad()
        losses(task).mean().backward()
        optimizer.step()
    assert losses(task).mean() < 0.9 * first


def test_run_writes_a_file_that_loads(base, tmp_path):
    done = tiny_runs.run("image_adapter", base, tmp_path, **RECIPE)
    path = done.files["image_adapter"]
    adapter = load_image_adapter(path)
    assert (adapter.config.c_image, adapter.config.tokens) == (tiny_cascade.IMAGE, 2)
    assert read_header(path).metadata["cascade.part"] == "image_adapter"
    again = tiny_runs.task("image_adapter", base, **RECIPE | {"network": None, "start": str(path)})
    assert torch.equal(again.network.down["0"].to_k.weight, adapter.down["0"].to_k.weight)


def test_samples_show_pictures_and_what_is_drawn_from_them(task):
    shown = task.pictures(task.network.eval())
    assert len(shown) % 2 == 0
    assert shown.shape[-1] == 3
    assert 0 <= shown.min() <= shown.max() <= 1


def test_other_prediction_than_that_of_stage_c_is_told(base):
    with pytest.raises(ValueError, match=r"predicts noise, and objective.prediction is velocity; set it to"):
        tiny_runs.task("image_adapter", base, **RECIPE | {"objective": {"prediction": "velocity"}})


def test_missing_stage_c_is_told(base):
    with pytest.raises(ValueError, match=r"needs a stage_c; name its file in companions.stage_c"):
        tiny_runs.task("image_adapter", base, **RECIPE | {"companions": tiny_runs.COMPANIONS})


def test_export_writes_the_adapter_in_bf16(task, tmp_path):
    path = tmp_path / "runs" / "image_adapter" / "image_adapter.safetensors"
    save_tensors(path, task.network.state_dict(), {"cascade.part": "image_adapter"})
    export(tmp_path / "runs", tmp_path / "shipped")
    shipped = tmp_path / "shipped" / path.name
    assert {dtype for dtype, _ in read_header(shipped).tensors.values()} == {"BF16"}
    assert load_image_adapter(shipped).config == task.network.config
