"""ControlNets in training: what they learn from, that they learn, and what comes out."""

import json

import pytest
import tiny_cascade
import tiny_controlnet
import tiny_runs
import torch
from comfyui_cascade.adapters.controlnet import ControlNet, ControlNetConfig, load_controlnet
from comfyui_cascade.adapters.hints import canny_hint
from comfyui_cascade.checkpoints.header import read_header
from comfyui_cascade.training.control import holes
from comfyui_cascade.training.draws import Draws
from comfyui_cascade.training.examples import Examples, collate
from comfyui_cascade.training.parts import task_of
from comfyui_cascade.training.settings import from_table, read_settings
from comfyui_cascade.training.small import CONTROLNETS, RECIPES
from comfyui_cascade.training.workspace import to_images

KINDS = {
    "controlnet_canny": "canny",
    "controlnet_inpaint": "inpainting",
    "controlnet_super_resolution": "super-resolution",
}


def changes(part, **more):
    """What makes a tiny recipe one of a ControlNet."""
    backbone = tiny_runs._plain(tiny_controlnet.CONFIGS[KINDS[part]].backbone)
    companions = {**tiny_runs.COMPANIONS, "stage_c": "stage_c.safetensors"}
    return {
        "network": {"backbone": backbone, "blocks": [0, 2, 3]},
        "companions": companions,
        "data": {"size": 128 if part == "controlnet_super_resolution" else 64},  # halves of 64 are encoded
        **more,
    }


def task(part, base, **more):
    return tiny_runs.task(part, base, **changes(part, **more))


def batch_of(task, positions=range(4)):
    examples = Examples(task.fields(), 0, task.work.buckets)
    return collate([examples[position, position % 12] for position in positions]), Draws(0, positions)


@pytest.mark.parametrize("part", KINDS)
def test_a_new_controlnet_changes_nothing_until_it_has_learnt(part, base):
    steered = task(part, base)
    batch, draws = batch_of(steered)
    with torch.no_grad():
        found = steered.losses(steered.network, batch, draws)
        steered.network.controlnet.forward = lambda hint: []
        expected = steered.losses(steered.network, batch, Draws(0, range(4)))
    assert torch.equal(found, expected)


@pytest.mark.parametrize("part", KINDS)
def test_a_controlnet_learns_and_stage_c_stays_as_it_is(part, base):
    made = task(part, base)
    batch, _ = batch_of(made)
    before = {key: value.clone() for key, value in made.stage_c.state_dict().items()}
    optimizer = torch.optim.Adam(made.network.parameters(), lr=3e-3)
    losses = []
    for _ in range(30):
        loss = made.losses(made.network.train(), batch, Draws(0, range(4))).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.8 * losses[0]
    for key, value in made.stage_c.state_dict().items():
        assert torch.equal(value, before[key])
    assert all(p.grad is None for p in made.stage_c.parameters())
    names = [name for name, _ in made.network.named_parameters()]
    assert names
    assert all(name.startswith("controlnet.") for name in names)


@pytest.mark.parametrize("part", KINDS)
def test_what_a_run_writes_is_a_controlnet_that_loads(part, base, tmp_path):
    done = tiny_runs.run(part, base, tmp_path / "run", **changes(part, schedule={"steps": 2}))
    path = done.files[part]
    network = load_controlnet(path)
    assert network.config.kind == KINDS[part]
    assert network.config.blocks == (0, 2, 3)
    assert network.config.c_proj == tiny_cascade.C.trunk.down[0].width
    assert read_header(path).metadata["cascade.part"] == part
    assert json.loads(read_header(path).metadata["cascade.compression"]) == tiny_cascade.COMPRESSION


def test_a_run_goes_on_from_a_controlnet_in_a_file(base, tmp_path):
    first = tiny_runs.run("controlnet_canny", base, tmp_path / "one",
                          **changes("controlnet_canny", schedule={"steps": 2}))  # fmt: skip
    again = task("controlnet_canny", base, network={}, start=str(first.files["controlnet_canny"]))
    written = load_controlnet(first.files["controlnet_canny"]).state_dict()
    for key, value in again.network.controlnet.state_dict().items():
        assert torch.equal(value, written[key])
    assert all(p.requires_grad for p in again.network.parameters())


def test_edges_are_those_of_the_pictures_whose_latents_are_drawn(base):
    made = task("controlnet_canny", base)
    batch, draws = batch_of(made)
    images = to_images(batch["picture"])
    assert torch.equal(made.hint(images, draws), canny_hint(images))


def test_a_small_pictures_latents_are_the_hint_for_the_whole(base):
    made = task("controlnet_super_resolution", base)
    images = to_images(batch_of(made)[0]["picture"])
    hint = made.hint(images, Draws(0, range(4)))
    assert hint.shape[1] == 16
    assert torch.equal(hint[..., ::2, ::2], hint[..., 1::2, 1::2])


def test_holes_are_of_every_size_and_reach_the_edges():
    masks = holes(Draws(0, range(200)), 32, 48)
    assert masks.shape == (200, 1, 32, 48)
    assert set(masks.unique().tolist()) == {0.0, 1.0}
    share = masks.mean(dim=(1, 2, 3))
    assert share.min() > 0.01
    assert share.max() < 0.99
    assert 0.2 < share.mean() < 0.6
    assert (masks[..., 0].amax(dim=(1, 2)) > 0).float().mean() > 0.3


def test_samples_show_pictures_hints_and_what_is_drawn(base):
    made = task("controlnet_inpaint", base)
    with torch.inference_mode():
        shown = made.pictures(made.network.eval())
    count, height, width, channels = shown.shape
    assert count % 3 == 0
    assert channels == 3
    assert height == width
    assert shown.isfinite().all()


@pytest.mark.parametrize(("more", "message"), [
    ({"objective": {"prediction": "velocity"}}, "stage_c.safetensors predicts noise"),
    ({"companions": {"stage_c": ""}}, "companions.stage_c"),
])  # fmt: skip
def test_settings_that_contradict_stage_c_are_refused(more, message, base):
    part = "controlnet_canny"
    merged = changes(part) | {k: {**changes(part).get(k, {}), **v} for k, v in more.items()}
    with pytest.raises(ValueError, match=message):
        tiny_runs.task(part, base, **merged)


@pytest.mark.parametrize(("network", "message"), [
    ({"c_in": 4}, "takes 1 channels, and this one takes 4"),
    ({"stride": 1}, "nothing is called stride"),
])  # fmt: skip
def test_backbones_that_do_not_fit_are_refused(network, message, base):
    table = changes("controlnet_canny")["network"]
    table["backbone"] |= network
    with pytest.raises(ValueError, match=message):
        task("controlnet_canny", base, network=table)


def test_blocks_that_stage_c_does_not_have_are_refused(base):
    table = changes("controlnet_canny")["network"] | {"blocks": [0, 9]}
    with pytest.raises(ValueError, match="to residual block 9"):
        task("controlnet_canny", base, network=table)


@pytest.mark.parametrize("name", CONTROLNETS)
def test_small_recipes_make_controlnets_that_are_small_enough_to_ship(name):
    settings = read_settings(RECIPES / f"{name}.toml")
    kind = task_of(settings.part)
    stage_c = read_settings(RECIPES / "stage_c.toml")
    levels = [level for side in ("down", "up") for level in stage_c.network["trunk"][side]]
    blocks = tuple(settings.network["blocks"])
    backbone = from_table(kind.BACKBONE, settings.network["backbone"], name)
    config = ControlNetConfig(backbone, levels[0]["width"], blocks, kind.KIND)
    with torch.device("meta"):
        count = sum(p.numel() for p in ControlNet(config).parameters())
    assert 2 * count < 4 * 2**20
    assert blocks == tuple(range(sum(level["depth"] for level in levels)))
    assert backbone.c_in == kind.CHANNELS
    assert settings.objective.prediction == stage_c.objective.prediction
    assert settings.data == stage_c.data  # whose caches serve again
