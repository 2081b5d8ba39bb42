"""How the small cascade's encoders learn from what scenes are."""

import random

import tiny_runs
import torch
from comfyui_cascade.training.draws import Draws
from comfyui_cascade.training.encoders import _QUESTIONS, NOT_SAID, SceneReader, answers
from comfyui_cascade.training.examples import Examples, collate
from comfyui_cascade.training.picturebook import COLOURS, KINDS, training_scene

SCENES = [training_scene(i) for i in range(300)]


def test_answers_are_numbers_of_the_choices():
    for scene in SCENES:
        found = answers(scene)
        assert found[0] == KINDS.index(scene.groups[0].kind)
        assert found[1] == list(COLOURS).index(scene.groups[0].colour)
        assert found[2] == scene.groups[0].count - 1
        assert all(NOT_SAID <= number < len(q) for number, q in zip(found, _QUESTIONS, strict=True))


def test_what_does_not_arise_is_not_asked():
    alone = [answers(scene) for scene in SCENES if len(scene.groups) == 1]
    pairs = [answers(scene) for scene in SCENES if len(scene.groups) == 2]
    assert {(row[4], row[5]) for row in alone} == {(NOT_SAID, NOT_SAID)}
    assert all(row[4] >= 0 and row[5] >= 0 for row in pairs)


def test_a_reader_sums_cross_entropies_and_skips_what_is_not_said():
    reader = SceneReader(6)
    right = torch.tensor([answers(scene) for scene in SCENES[:5]])
    embedding = torch.randn(5, 6, generator=torch.Generator().manual_seed(0))
    logits = reader.answers(embedding).split([len(q) for q in _QUESTIONS], dim=1)
    expected = [
        sum(-part[i].log_softmax(0)[n] for part, n in zip(logits, row, strict=True) if n != NOT_SAID)
        for i, row in enumerate(right.tolist())
    ]
    torch.testing.assert_close(reader(embedding, right), torch.stack(expected))


def test_the_text_encoder_sees_another_scene_at_every_position(base):
    task = tiny_runs.task("text_encoder", base)
    examples = Examples(task.fields(), 0, task.work.buckets)
    scenes = {examples[position, 0]["scene"].seed for position in range(20)}
    assert len(scenes) == 20


def test_a_semantic_encoders_loss_counts_things_more(base):
    losses = {}
    for weight in (1.0, 9.0):
        torch.manual_seed(0)
        task = tiny_runs.task("semantic_encoder", base, objective={"region_weight": weight})
        examples = Examples(task.fields(), 0, task.work.buckets)
        batch = collate([examples[i, i] for i in range(3)])
        losses[weight] = task.losses(task.network.eval(), batch, Draws(0, range(3)))
    assert losses[1.0].shape == (3,)
    assert not torch.allclose(losses[1.0], losses[9.0])


def test_captions_of_the_text_encoder_are_words_of_its_table(base):
    task = tiny_runs.task("text_encoder", base)
    for i in range(50):
        caption = task.work.source.caption(i % 12, random.Random(i))
        assert not task.work.tokens.encode(caption, task.work._ids_of).unknown
