"""The judge: what it is asked in training, how it reads, and what its file says."""

import random

import pytest
import torch
from comfyui_cascade.benchmarks.judge import (
    AROUND,
    PIXELS,
    THING_CHANNELS,
    Found,
    Judge,
    JudgeConfig,
    digest_of,
    feature_distance,
    load_judge,
    read,
    seen_of,
)
from comfyui_cascade.benchmarks.training import (
    FIRST_SEED,
    JudgeTask,
    LatentJudgeTask,
    detection_losses,
    right_answers,
    ship,
)
from comfyui_cascade.training.draws import Draws
from comfyui_cascade.training.examples import COLOUR_NAMES
from comfyui_cascade.training.loop import Run, train, write_files
from comfyui_cascade.training.picturebook import FRESH, GROUNDS, KINDS, SIZES, any_scene, draw
from comfyui_cascade.training.settings import Companions, Data, Schedule, Settings
from comfyui_cascade.training.workspace import Workspace
from tiny_cascade import write as write_cascade
from torch.nn import Conv2d, Linear, functional

CELLS = 16
SMALL = {"channels": 3, "stem": [[8, 2], [8, 2], [16, 2]]}


def scenes(count):
    return [any_scene(FIRST_SEED + i) for i in range(count)]


def answers_of(scenes):
    each = [right_answers(scene, draw(scene)) for scene in scenes]
    return {name: torch.stack([one[name] for one in each]) for name in each[0]}


def pictures_of(scenes):
    return torch.stack([torch.tensor(draw(scene).picture) for scene in scenes]).movedim(-1, 1) / 255


class Marking(torch.nn.Module):
    """Says that there are a big red house in cell (2, 3) and a small blue one in cell (9, 3)."""

    def forward(self, seen):
        maps = torch.full((len(seen), sum(THING_CHANNELS), CELLS, CELLS), -5.0)
        heat, kinds, colours, sizes, frames = maps.split(THING_CHANNELS, dim=1)
        frames.zero_()
        for column, colour, size in ((2, "red", "big"), (9, "blue", "small")):
            heat[:, 0, 3, column] = 5
            kinds[:, KINDS.index("house"), 3, column] = 5
            colours[:, COLOUR_NAMES.index(colour), 3, column] = 5
            sizes[:, SIZES.index(size), 3, column] = 5
            frames[:, :, 3, column] = torch.tensor([0.25, -0.5, 4, 8])
        whole = torch.zeros(len(seen), sum(map(len, AROUND.values())))
        whole[:, GROUNDS.index("sand")] = 1
        return maps, whole


class Sure(Marking):
    """Sure of the cell beside a middle as well: both probabilities are 1."""

    def forward(self, seen):
        maps, whole = super().forward(seen)
        maps[:, 0, 3, 2:4] = torch.tensor([60.0, 59.0])
        return maps, whole


def test_a_reading_names_each_peak_and_says_where_it_is():
    (reading,) = read(Marking(), torch.zeros(1, 3, PIXELS, PIXELS))
    assert reading.things == (
        Found("house", "red", "big", 2.75 / CELLS, 3 / CELLS, 4 / CELLS, 8 / CELLS),
        Found("house", "blue", "small", 9.75 / CELLS, 3 / CELLS, 4 / CELLS, 8 / CELLS),
    )
    assert reading.ground == "sand"


def test_a_sure_judge_counts_a_thing_once():
    (reading,) = read(Sure(), torch.zeros(1, 3, PIXELS, PIXELS))
    assert len(reading.things) == 2


@pytest.mark.parametrize(
    ("size", "seen"), [((256, 256), (128, 128)), ((256, 384), (128, 192)), ((96, 64), (192, 128))]
)
def test_pictures_are_judged_with_their_shorter_side_at_one_length(size, seen):
    pictures = seen_of(torch.ones(1, 3, *size))
    assert pictures.shape[-2:] == seen
    assert pictures.max() == 1


def test_answers_hold_every_thing_and_size_only_of_a_single_one():
    scene = next(s for s in map(any_scene, range(99)) if s.relation == "left of")
    right = right_answers(scene, draw(scene))
    first, second = ([KINDS.index(g.kind), COLOUR_NAMES.index(g.colour), -1] for g in scene.groups)
    assert right["named"].tolist() == [first, second, [-1, -1, -1]]
    assert right["frames"][0, 0] < right["frames"][1, 0]
    assert right["around"][0] == GROUNDS.index(scene.ground)
    single = next(s for s in map(any_scene, range(99)) if s.groups[0].count == 1 and not s.relation)
    assert right_answers(single, draw(single))["named"][0, 2] == SIZES.index(single.size)


def test_detection_loss_is_its_direct_transcription():
    generator = torch.Generator().manual_seed(0)
    maps = torch.randn(1, sum(THING_CHANNELS), CELLS, CELLS, generator=generator)
    whole = torch.randn(1, sum(map(len, AROUND.values())), generator=generator)
    column, row = 3, 5
    right = {
        "named": torch.tensor([[[2, 4, 1], [-1, -1, -1]]]),
        "frames": torch.tensor([[[3.75 / CELLS, 5.5 / CELLS, 0.25, 0.5], [0.0] * 4]]),
        "around": torch.tensor([[1, 0, 2, 1]]),
    }
    found = 0.0
    for y in range(CELLS):
        for x in range(CELLS):
            logit = maps[0, 0, y, x]
            if (x, y) == (column, row):
                found += 10 * functional.softplus(-logit)
            elif max(abs(x - column), abs(y - row)) > 1:
                found += functional.softplus(logit)
    _, kind, colour, size, frame = maps[0, :, row, column].split(THING_CHANNELS)
    ground, time, weather, style = whole[0].split([len(c) for c in AROUND.values()])
    expected = found + 0.2 * (frame - torch.tensor([0.25, 0.0, 4.0, 8.0])).abs().sum()
    for logits, label in (
        (kind, 2),
        (colour, 4),
        (size, 1),
        (ground, 1),
        (time, 0),
        (weather, 2),
        (style, 1),
    ):
        expected -= logits.log_softmax(0)[label]
    assert detection_losses(maps, whole, right).item() == pytest.approx(expected.item(), rel=1e-4)


def test_each_example_has_its_own_loss():
    right = answers_of(scenes(3))
    judge = Judge(JudgeConfig(3, ((8, 2), (8, 2), (16, 2)))).eval()
    seen = seen_of(pictures_of(scenes(3)))
    together = detection_losses(*judge(seen), right)
    alone = [
        detection_losses(*judge(seen[i : i + 1]), {name: value[i : i + 1] for name, value in right.items()})
        for i in range(3)
    ]
    torch.testing.assert_close(together, torch.cat(alone))


def test_a_judge_learns_one_batch_by_heart():
    torch.manual_seed(0)
    those = scenes(4)
    right, seen = answers_of(those), seen_of(pictures_of(those))
    judge = Judge(JudgeConfig(3, ((8, 2), (16, 2), (32, 2))))
    optimizer = torch.optim.AdamW(judge.parameters(), lr=5e-3)
    for _ in range(120):
        loss = detection_losses(*judge(seen), right).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert loss < 2
    for reading, scene in zip(read(judge, seen), those, strict=True):
        assert sorted((t.kind, t.colour) for t in reading.things) == sorted(
            (g.kind, g.colour) for g in scene.groups for _ in range(g.count)
        )


def settings_of(part, network, **companions):
    return Settings(
        part=part,
        schedule=Schedule(steps=1, batch=2, rate=1e-3),
        data=Data(picturebook=4, size=256),
        network=network,
        companions=Companions(**companions),
    )


def test_a_judge_trains_on_its_own_scenes_and_ships(tmp_path):
    run = Run(settings_of("judge", SMALL), tmp_path, tmp_path / "judge", device="cpu", say=lambda line: None)
    done = train(run, JudgeTask)
    (tmp_path / "shipped").mkdir()
    judge, metadata = load_judge(ship(done.files["judge"], tmp_path / "shipped"))
    assert judge.config == JudgeConfig(3, ((8, 2), (8, 2), (16, 2)))
    assert metadata["cascade.part"] == "judge"
    assert len(read(judge, torch.zeros(1, 3, PIXELS, PIXELS))) == 1


def test_judges_draw_no_picture_that_they_will_judge():
    assert FIRST_SEED >= 2 * FRESH


def test_a_judge_is_shown_the_same_picture_differently_each_time(tmp_path):
    task = JudgeTask(Workspace(settings_of("judge", SMALL), tmp_path, say=lambda line: None))
    example = task.fields()["example"](0, random.Random(0))
    batch = {name: torch.stack([value] * 2) for name, value in example.items()}
    (first, second), _ = task.shown(batch["seen"], batch, Draws(0, [0, 1]))
    assert (first - second).abs().mean() > 0.01
    torch.testing.assert_close(first, task.shown(batch["seen"], batch, Draws(0, [0, 1]))[0][0])


def test_things_of_a_mirrored_picture_are_looked_for_on_the_other_side(tmp_path):
    task = JudgeTask(Workspace(settings_of("judge", SMALL), tmp_path, say=lambda line: None))
    dark = torch.zeros(8, 3, PIXELS, PIXELS, dtype=torch.uint8)
    dark[..., :64] = 255  # bright on the left
    right = {"frames": torch.tensor([[[0.2, 0.6, 0.3, 0.4]]]).expand(8, 1, 4)}
    seen, shown = task.shown(dark, right, Draws(0, range(8)))
    on_the_left = seen[..., :64].mean((1, 2, 3)) > seen[..., 64:].mean((1, 2, 3))
    assert set(on_the_left.tolist()) == {True, False}
    torch.testing.assert_close(shown["frames"][:, 0, 0], torch.where(on_the_left, 0.2, 0.8))
    assert (shown["frames"][..., 1:] == right["frames"][..., 1:]).all()


def test_a_judge_of_latents_names_the_encoder_it_was_trained_for(tmp_path):
    write_cascade(tmp_path, ["semantic_encoder"])
    settings = settings_of(
        "latent_judge", {"channels": 16, "stem": [[16, 1]]}, semantic_encoder="semantic_encoder.safetensors"
    )
    task = LatentJudgeTask(Workspace(settings, tmp_path, say=lambda line: None))
    example = task.fields()["example"](0, random.Random(0))
    assert example["seen"].shape == (16, 12, 12)
    loss = task.losses(task.network, {"example": [example] * 2}, Draws(0, [0, 1]))
    assert loss.shape == (2,)
    _, metadata = load_judge(write_files(task, task.network, tmp_path, 1)["latent_judge"])
    assert metadata["cascade.semantic_encoder"] == digest_of(task.encoder)


def test_the_digest_stays_in_half_precision_and_changes_with_a_weight():
    network = Linear(3, 3)
    before = digest_of(network)
    assert digest_of(network.bfloat16()) == before
    with torch.no_grad():
        network.weight[0, 0] += 1
    assert digest_of(network) != before


def test_equal_pictures_have_no_feature_distance_and_others_have():
    judge = Judge(JudgeConfig(3, ((8, 2), (8, 2), (16, 2)))).eval()
    first, second = seen_of(pictures_of(scenes(2)))[:, None]
    assert feature_distance(judge, first, first).item() == 0
    assert 0 < feature_distance(judge, first, second).item() <= 1


def test_a_file_of_another_world_is_refused(tmp_path):
    judge = Judge(JudgeConfig(3, ((8, 2), (8, 2), (16, 2))))
    judge.things = Conv2d(16, 3, 1)
    task = JudgeTask(Workspace(settings_of("judge", SMALL), tmp_path, say=lambda line: None))
    path = write_files(task, judge, tmp_path, 1)["judge"]
    with pytest.raises(ValueError, match="train it anew"):
        load_judge(path)
    with pytest.raises(ValueError, match=r"nobody.safetensors is not there"):
        load_judge(tmp_path / "nobody.safetensors")


def test_scenes_may_be_of_held_out_combinations():
    from comfyui_cascade.training.picturebook import is_held_out

    assert any(is_held_out(scene) for scene in scenes(200))
