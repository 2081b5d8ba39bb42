"""Teaching Stage C to draw in few steps: the loss against the algorithm's, and what it comes to."""

import json

import pytest
import reference_loss
import tiny_cascade
import tiny_runs
import torch
from comfyui_cascade.checkpoints.header import read_header
from comfyui_cascade.checkpoints.identify import Part
from comfyui_cascade.checkpoints.open import load_part
from comfyui_cascade.samplers.sample import sample
from comfyui_cascade.samplers.solvers import SOLVERS
from comfyui_cascade.samplers.target import TARGETS
from comfyui_cascade.training.draws import Draws
from comfyui_cascade.training.examples import Examples, collate, regions
from random_weights import randomise

POSITIONS = range(8, 11)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A tiny cascade whose Stage C predicts velocity."""
    folder = tmp_path_factory.mktemp("distillation")
    tiny_cascade.write(folder, prediction="velocity")
    return folder


def changes(objective=None, **distillation):
    """A recipe's, for a distillation of the folder's Stage C."""
    return {
        "network": None,
        "start": "stage_c.safetensors",
        "companions": {**tiny_runs.COMPANIONS, "image_encoder": ""},
        "objective": {"prediction": "velocity", "weight": "constant", "shift": 2.0, "drop_text": 0.0}
        | (objective or {}),
        "distillation": distillation,
    }


def task_in(folder, objective=None, **distillation):
    return tiny_runs.task("stage_c_lcm", folder, **changes(objective, **distillation))


def batch_of(task, positions=POSITIONS):
    examples = Examples(task.fields(), 0, task.work.buckets)
    return collate([examples[position, position % 12] for position in positions])


def prompts(task, stage, batch):
    """Tokens of a batch's captions, and of as many empty ones."""
    work = task.work
    image = torch.zeros(len(batch["caption"]), 1, tiny_cascade.IMAGE)
    captions = batch["caption"], [""] * len(batch["caption"])
    return [stage.tokens(*work.encode_rows(task.text_encoder, work.rows(texts)), image) for texts in captions]


@torch.no_grad()
def test_loss_is_the_algorithms(folder):
    times, cfg, huber = 6, 3.0, 0.1
    task = task_in(folder, {"region_weight": 2.0}, times=times, cfg=cfg, huber=huber)
    student, teacher = randomise(task.network.stage_c, 5), task.teacher
    batch, draws = batch_of(task), Draws(0, POSITIONS)
    found = task.losses(task.network, batch, Draws(0, POSITIONS))
    clean = batch["semantic"]
    drawn = ((1 - draws.uniform(1).flatten()) + 0.001).clamp(0.001, 1)
    noise = draws.normal(*clean.shape[1:])
    with_text, empty = prompts(task, teacher, batch)
    own, _ = prompts(task, student, batch)
    for i, one in enumerate(drawn.tolist()):
        place = -int(-one * times // 1)
        now, then = (reference_loss.logsnr(n / times, 2.0) for n in (place, place - 1))
        (a, b), (next_a, next_b) = reference_loss.factors(now), reference_loss.factors(then)
        x = a * clean[i : i + 1] + b * noise[i : i + 1]
        told = torch.tensor([reference_loss.told_time(now)])
        v, v_empty = teacher(x, told, with_text[i : i + 1]), teacher(x, told, empty[i : i + 1])
        v = v_empty + cfg * (v - v_empty)
        guided, epsilon = a * x - b * v, b * x + a * v
        moved = next_a * guided + next_b * epsilon
        told_next = torch.tensor([reference_loss.told_time(then)])
        ahead = next_a * moved - next_b * student(moved, told_next, own[i : i + 1])
        error = (a * x - b * student(x, told, own[i : i + 1])) - (guided if place == 1 else ahead)
        cells = regions(batch["things"], *clean.shape[-2:])[i].flatten().tolist()
        squares = error.square().mean(dim=1).flatten().tolist()
        mean = reference_loss.region_mean(squares, cells, 2.0)
        assert found[i].item() == pytest.approx((mean + huber**2) ** 0.5 - huber, rel=2e-3)


def test_a_teacher_without_guidance_has_nothing_to_teach_about_the_last_step(folder):
    task = task_in(folder, times=1, cfg=1.0)
    with torch.no_grad():
        assert task.losses(task.network, batch_of(task), Draws(0, POSITIONS)).max() < 1e-4


def test_the_student_comes_in_one_step_to_where_the_guided_teacher_comes_in_two(folder):
    task = task_in(folder, times=2, cfg=2.0)
    stage, teacher = task.network.stage_c, task.teacher
    positions = range(4)
    batch = batch_of(task, positions)
    with torch.no_grad():
        with_text, empty = prompts(task, teacher, batch)
    x = torch.stack([Draws(0, [place]).normal(16, 3, 3)[0] for place in positions])

    @torch.no_grad()
    def draw(network, tokens, without, **settings):
        return sample(
            lambda x, t: network(x, t, tokens), x, generator=torch.Generator(), shift=2.0,
            unconditional=without and (lambda x, t: network(x, t, empty)), target=TARGETS["velocity"],
            solver=SOLVERS["DDIM"], **settings,
        )  # fmt: skip

    goal = draw(teacher, with_text, True, steps=2, cfg=2.0)

    def distance():
        with torch.no_grad():
            tokens, _ = prompts(task, stage, batch)
        return (draw(stage, tokens, None, steps=1) - goal).square().mean().item()

    before = distance()
    optimizer = torch.optim.AdamW(task.network.parameters(), lr=5e-3, weight_decay=0)
    for step in range(100):
        optimizer.param_groups[0]["lr"] = 5e-3 * min(1, 2 * (100 - step) / 100)
        # Other noise and times at each step: the same pictures at later positions.
        place = 4 * step
        loss = task.losses(task.network, batch, Draws(0, range(place, place + 4))).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert distance() < 0.6 * before, f"{before} -> {distance()}"


def test_the_file_says_which_guidance_is_in_it_and_is_a_stage_c(folder, tmp_path):
    done = tiny_runs.run("stage_c_lcm", folder, tmp_path, **changes(times=4, cfg=2.5))
    assert set(done.files) == {"stage_c"}
    metadata = read_header(done.files["stage_c"]).metadata
    assert json.loads(metadata["cascade.guidance"]) == 2.5
    assert metadata["cascade.prediction"] == "velocity"
    load_part(done.files["stage_c"], Part.STAGE_C)


def test_a_distilled_lora_leaves_the_rest_of_the_network_alone(folder, tmp_path):
    lora = {"rank": 4, "alpha": 4.0, "targets": [".attn."]}
    task = tiny_runs.task("lora_lcm", folder, **changes(times=4), lora=lora)
    learning = [name for name, weight in task.network.named_parameters() if weight.requires_grad]
    assert learning
    assert all(".lora_up." in name or ".lora_down." in name for name in learning)
    assert not any(weight.requires_grad for weight in task.teacher.parameters())
    done = tiny_runs.run("lora_lcm", folder, tmp_path, **changes(times=4), lora=lora)
    metadata = read_header(done.files["lora_lcm"]).metadata
    assert json.loads(metadata["cascade.guidance"]) == 4.0
    assert metadata["ss_network_dim"] == "4"


def test_a_distillation_without_a_teacher_is_refused(folder):
    with pytest.raises(ValueError, match="name the file of the Stage C whose steps"):
        tiny_runs.task("stage_c_lcm", folder, **{**changes(), "start": None})
    with pytest.raises(ValueError, match=r"set objective.train_encoder to false"):
        task_in(folder, {"train_encoder": True})
