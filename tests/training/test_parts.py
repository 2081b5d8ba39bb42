"""What each part is trained to do: its loss against the reference's, and that it can be learnt."""

import pytest
import reference_loss
import tiny_runs
import torch
from comfyui_cascade.checkpoints.identify import Part
from comfyui_cascade.stage_a.model import STAGE_B_SCALE
from comfyui_cascade.training.draws import Draws
from comfyui_cascade.training.examples import Examples, collate, regions
from comfyui_cascade.training.objective import pyramid_noise
from comfyui_cascade.training.parts import PARTS, task_of
from comfyui_cascade.training.workspace import shrink, to_images
from random_weights import randomise

POSITIONS = range(8, 11)


def batch_of(task, positions=POSITIONS):
    examples = Examples(task.fields(), 0, task.work.buckets)
    return collate([examples[position, position % 12] for position in positions])


def reference_losses(task, network, batch, clean, noise, times):
    """Weighted losses by the reference's formulas, and the noise levels and unweighted losses beside them.

    ``network`` takes noisy latents and times.
    """
    objective = task.objective
    levels = [reference_loss.logsnr(r, objective.shift) for r in times.tolist()]
    x = torch.stack([
        a * one + b * other
        for (a, b), one, other in zip(map(reference_loss.factors, levels), clean, noise, strict=True)
    ])  # fmt: skip
    told = torch.tensor([reference_loss.told_time(level) for level in levels])
    predictions = network(x, told)
    places = regions(batch["things"], *clean.shape[-2:])
    losses = []
    for i, level in enumerate(levels):
        right = reference_loss.target(objective.prediction, clean[i], noise[i], level)
        errors = (predictions[i] - right).square().mean(dim=0).flatten().tolist()
        losses.append(
            reference_loss.region_mean(errors, places[i].flatten().tolist(), objective.region_weight)
        )
    return levels, losses


def weights_of(objective, levels, adaptive):
    choices = {"constant": lambda level: 1.0, "p2": reference_loss.p2, "adaptive": adaptive.weight}
    return [choices[objective.weight](level) for level in levels]


@pytest.mark.parametrize(
    ("prediction", "weight", "shift", "region_weight"),
    [("noise", "p2", 1.0, 1.0), ("velocity", "constant", 1.0, 4.0), ("clean", "adaptive", 2.0, 1.0)],
)
def test_stage_c_has_the_references_loss(base, prediction, weight, shift, region_weight):
    objective = {
        "prediction": prediction, "weight": weight, "shift": shift, "region_weight": region_weight,
        "drop_image": 0.5,
    }  # fmt: skip
    task = tiny_runs.task("stage_c", base, objective=objective)
    stage = randomise(task.network.stage_c, 5)
    adaptive = reference_loss.Adaptive()
    for first in (8, 12):  # adaptive weights have learnt something at the second
        positions = range(first, first + 3)
        batch, draws = batch_of(task, positions), Draws(0, positions)
        clean = batch["semantic"]
        times = ((1 - draws.uniform(1).flatten()) + 0.001).clamp(0.001, 1)
        noise = draws.normal(*clean.shape[1:])
        kept = (draws.uniform(1, 1) >= 0.5).float()
        with torch.no_grad():
            encoder = task.work.companion(Part.TEXT_ENCODER)
            text, pooled = task.work.encode_rows(encoder, task.work.rows(batch["caption"]))
            tokens = stage.tokens(text, pooled, batch["embedding"][:, None] * kept)
            levels, losses = reference_losses(
                task, lambda x, t, tokens=tokens: stage(x, t, tokens), batch, clean, noise, times
            )
            found = task.losses(task.network, batch, Draws(0, positions))
        expected = [w * v for w, v in zip(weights_of(task.objective, levels, adaptive), losses, strict=True)]
        torch.testing.assert_close(found, torch.tensor(expected), rtol=2e-3, atol=1e-5)
        (seen,) = task.seen
        task.weights.update(*seen)
        task.seen.clear()
        adaptive.update(levels, losses)


@pytest.mark.parametrize(("prediction", "weight"), [("noise", "adaptive"), ("velocity", "p2")])
def test_stage_b_has_the_references_loss(base, prediction, weight):
    objective = {
        "prediction": prediction, "weight": weight, "pyramid_noise": True, "drop_semantic": 0.5,
        "semantic_noise": 0.3,
    }  # fmt: skip
    task = tiny_runs.task("stage_b", base, objective=objective)
    stage = randomise(task.network.stage_b, 5)
    batch, draws = batch_of(task), Draws(0, POSITIONS)
    clean, semantic = batch["latents"], batch["semantic"]
    times = ((1 - draws.uniform(1).flatten()) + 0.001).clamp(0.001, 1)
    noise = pyramid_noise(draws, *clean.shape[1:])
    kept = (draws.uniform(1, 1, 1) >= 0.5).float()
    blurred = semantic + 0.3 * draws.uniform(1, 1, 1) * draws.normal(*semantic.shape[1:])
    with torch.no_grad():
        _, pooled = task.work.encode_rows(
            task.work.companion(Part.TEXT_ENCODER), task.work.rows(batch["caption"])
        )
        tokens, given = stage.tokens(pooled), stage.semantic_map(blurred * kept, 16, 16)
        levels, losses = reference_losses(
            task, lambda x, t: stage(x, t, tokens, given), batch, clean, noise, times
        )
        found = task.losses(task.network, batch, Draws(0, POSITIONS))
    weights = weights_of(task.objective, levels, reference_loss.Adaptive())
    expected = [w * v for w, v in zip(weights, losses, strict=True)]
    torch.testing.assert_close(found, torch.tensor(expected), rtol=2e-3, atol=1e-5)


def test_windows_that_cover_a_picture_have_the_pictures_predictions(base):
    task = tiny_runs.task("stage_b", base, data={"size": 128}, objective={"window_share": 1.0})
    batch = batch_of(task)
    losses = task.losses(task.network, batch, Draws(0, POSITIONS))
    (levels, each) = task.seen[0]
    assert levels.shape == each.shape == (12,)
    weights = 1 / (1 + levels.exp())
    torch.testing.assert_close(losses, (each * weights).view(3, 4).mean(dim=1))


@pytest.mark.parametrize("share", [0.2, 0.9])
def test_a_share_of_the_image_embeddings_is_dropped(base, share):
    task = tiny_runs.task("stage_c", base, objective={"drop_image": share})
    embeddings = {"embedding": torch.ones(3000, 768)}
    given = task._image(embeddings, Draws(0, range(3000)))
    assert given.shape == (3000, 1, 768)
    dropped = (given == 0).flatten(1).all(dim=1)
    assert ((given == 1).flatten(1).all(dim=1) | dropped).all()
    assert dropped.float().mean().item() == pytest.approx(share, abs=0.03)


def test_without_an_image_encoder_every_image_prompt_is_zeros(base):
    task = tiny_runs.task("stage_c", base, companions={"image_encoder": ""})
    assert not task._image({}, Draws(0, range(3))).any()
    assert "embedding" not in task.fields()


@pytest.mark.parametrize("share", [0.0, 0.4, 1.0])
def test_a_share_of_stage_cs_latents_is_dropped_in_training_stage_b(base, share):
    task = tiny_runs.task("stage_b", base, objective={"drop_semantic": share})
    kept = []

    class Listening(torch.nn.Module):
        def forward(self, x, t, pooled, semantic, keep, noise, windows):
            kept.append(keep)
            return torch.zeros_like(x)

    batch = batch_of(task, range(8))
    for first in range(0, 800, 8):
        task.losses(Listening(), batch, Draws(0, range(first, first + 8)))
    assert 1 - torch.cat(kept).mean().item() == pytest.approx(share, abs=0.06)


# Overfitting ---------------------------------------------------------------------------------------------

SURE = {"drop_text": 0.0, "drop_image": 0.0, "drop_semantic": 0.0, "weight": "constant"}


@pytest.mark.parametrize(
    ("part", "steps", "left", "changes"),
    [
        ("stage_a", 200, 0.06, {"data": {"crop": 16}}),
        ("stage_a", 250, 0.08, {"data": {"crop": 16},
                                "network": tiny_runs.NETWORKS["stage_a"] | {"codebook_size": 32}}),
        ("semantic_encoder", 80, 0.07, {}),
        ("previewer", 150, 0.08, {}),
        ("text_encoder", 30, 0.01, {}),
        ("image_encoder", 40, 0.01, {}),
        ("stage_b", 200, 0.06, {"objective": SURE | {"weight": "p2"}}),
        ("stage_c", 60, 0.02, {"objective": SURE}),
    ],
    ids=["stage_a", "stage_a with a codebook", "semantic_encoder", "previewer", "text_encoder",
         "image_encoder", "stage_b", "stage_c"],
)  # fmt: skip
def test_one_batch_is_learnt_by_heart(base, part, steps, left, changes):
    torch.manual_seed(0)
    task = tiny_runs.task(part, base, **changes)
    batch = batch_of(task, range(2))
    trained = [p for p in task.network.train().parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=1e-2, betas=(0.9, 0.99), weight_decay=0)
    losses = []
    for step in range(steps):
        optimizer.param_groups[0]["lr"] = 1e-2 * min(1, (step + 1) / 10, 2 * (steps - step) / steps)
        loss = task.losses(task.network, batch, Draws(0, batch["position"])).mean()
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(trained, 1.0)
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < left * losses[0], f"{losses[0]} -> {losses[-1]}"


# Encoders that train along, live latents -----------------------------------------------------------------


def gradients(task, encoder, positions=POSITIONS):
    randomise(task.network, 1).train()
    task.losses(task.network, batch_of(task, positions), Draws(0, positions)).mean().backward()
    return [p.grad is not None and bool(p.grad.any()) for p in encoder.parameters()]


@pytest.mark.parametrize("latent_cache", [True, False])
def test_the_semantic_encoder_may_train_along_with_stage_b(base, latent_cache):
    task = tiny_runs.task(
        "stage_b", base, data={"latent_cache": latent_cache}, objective={"train_encoder": True}
    )
    assert all(gradients(task, task.network.encoder))
    files = task.files(task.network)
    assert set(files) == {"stage_b", "semantic_encoder"}
    assert files["semantic_encoder"][1]["cascade.strides"] == "[2, 2, 2, 2]"


def test_the_text_encoder_may_train_along_with_stage_c(base):
    task = tiny_runs.task("stage_c", base, objective={"train_encoder": True})
    assert all(gradients(task, task.network.encoder))
    assert set(task.files(task.network)) == {"stage_c", "text_encoder"}


def test_encoders_that_do_not_train_along_get_no_gradients(base):
    task = tiny_runs.task("stage_b", base, data={"latent_cache": False})
    assert not any(gradients(task, task.frozen_encoder))
    assert not any(p.requires_grad for p in task.text_encoder.parameters())
    assert set(task.files(task.network)) == {"stage_b"}


def test_a_text_encoder_cannot_train_along_on_cached_captions(base):
    with pytest.raises(ValueError, match=r"set data.captions = 0"):
        tiny_runs.task("stage_c", base, data={"captions": 2}, objective={"train_encoder": True})


def test_live_latents_are_the_encoders(base):
    live = tiny_runs.task("stage_c", base, data={"latent_cache": False})
    cached = tiny_runs.task("stage_c", base)
    torch.testing.assert_close(
        live._clean(batch_of(live)), batch_of(cached)["semantic"], rtol=2e-3, atol=2e-3
    )
    live, cached = (
        tiny_runs.task("stage_b", base, data={"latent_cache": cached}) for cached in (False, True)
    )
    torch.testing.assert_close(live._clean(batch_of(live)), batch_of(cached)["latents"], rtol=2e-3, atol=2e-3)


def test_live_pictures_of_stage_b_shrink_by_one_factor_a_step_within_its_range(base):
    task = tiny_runs.task(
        "stage_b", base, data={"latent_cache": False, "size": 128}, objective={"semantic_scale": [0.5, 1.0]}
    )
    images = torch.rand(2, 3, 128, 128)
    sides = set()
    for step in range(60):
        small = [task._reduced(images, Draws(0, [4 * step + i, 4 * step + i + 1]), 16) for i in (0, 2)]
        assert small[0].shape == small[1].shape  # both parts of a step
        sides.add(small[0].shape[-1])
    assert sides == {64, 80, 96, 112}
    batch = batch_of(task)
    semantic, cells = task._semantic(batch, Draws(0, POSITIONS))
    assert semantic.shape[1:] == cells
    assert 4 <= cells[1] <= 8


def test_cached_captions_train_as_live_ones_do(base):
    task = tiny_runs.task("stage_c", base, data={"captions": 2}, objective={"drop_text": 0.0})
    batch = batch_of(task)
    text, pooled = batch["features"]
    assert text.shape == (3, 16, 32)
    assert pooled.shape == (3, 32)
    assert task.losses(task.network, batch, Draws(0, POSITIONS)).shape == (3,)
    b = tiny_runs.task("stage_b", base, data={"captions": 2})
    assert b.losses(b.network, batch_of(b), Draws(0, POSITIONS)).shape == (3,)


def test_stage_as_codebook_learns_and_is_used(base):
    network = tiny_runs.NETWORKS["stage_a"] | {"codebook_size": 8}
    task = tiny_runs.task("stage_a", base, network=network, data={"crop": 16})
    stage = task.network.stage_a
    images = to_images(batch_of(task)["picture"])
    drawn, loss = task.network(images, torch.zeros(3, 4, 4, 4))
    book = stage.vquantizer["codebook"].weight
    flat = stage.encode(images).movedim(1, -1).reshape(-1, 4)
    nearest = (flat[:, None] - book[None]).square().sum(-1).argmin(1)
    expected = 1.25 * (flat - book[nearest]).square().view(3, -1).mean(1)
    torch.testing.assert_close(loss, expected)
    rounded = book[nearest].view(3, 4, 4, 4).movedim(-1, 1)
    torch.testing.assert_close(drawn, stage.decode(rounded), atol=1e-5, rtol=1e-4)
    task.losses(task.network, batch_of(task), Draws(0, POSITIONS)).mean().backward()
    assert book.grad.any()
    assert stage.in_block[1].weight.grad.any()


def test_a_linear_preview_is_the_least_squares_fit(base):
    task = tiny_runs.task("stage_c", base)
    factors = torch.randn(3, 16, generator=torch.Generator().manual_seed(0))

    def latents(i, rng):  # of which the colours are a linear function
        small = shrink(to_images(task.work.picture(i))[None], 3, 3)[0] * 2 - 1
        return torch.einsum("rc,rhw->chw", torch.linalg.pinv(factors).T, small - 0.25)

    found = task.linear_preview(latents)
    rows = torch.cat([latents(i, None).flatten(1).T for i in range(12)])
    colours = rows @ torch.tensor(found["factors"]) + torch.tensor(found["bias"])
    expected = [
        shrink(to_images(task.work.picture(i))[None], 3, 3)[0].flatten(1).T * 2 - 1 for i in range(12)
    ]
    torch.testing.assert_close(colours, torch.cat(expected), atol=2e-3, rtol=0)


# Refusals ------------------------------------------------------------------------------------------------


def test_an_unknown_part_is_refused_with_the_nearest_name():
    with pytest.raises(ValueError, match=r"no part is called stage_cc; the nearest name is stage_c$"):
        task_of("stage_cc")
    assert all(task_of(name) is task for name, task in PARTS.items())


FOLDER = {"picturebook": 0, "folder": "."}


@pytest.mark.parametrize("part", ["text_encoder", "image_encoder"])
def test_encoders_of_the_picture_book_cannot_be_trained_on_other_pictures(base, part):
    with pytest.raises(ValueError, match="only the picture-book world tells"):
        tiny_runs.task(part, base, data=FOLDER)


def test_reading_needs_the_picture_book(base):
    with pytest.raises(ValueError, match=r"objective\.reading needs to know what is where"):
        tiny_runs.task("stage_c", base, data=FOLDER, objective={"reading": 0.1})


def test_another_prediction_than_the_files_is_refused(base):
    with pytest.raises(ValueError, match=r"predicts noise, and objective\.prediction is velocity"):
        tiny_runs.task(
            "stage_c", base, network=None, start="stage_c.safetensors", objective={"prediction": "velocity"}
        )


def test_a_semantic_encoder_needs_to_know_its_compression(base):
    with pytest.raises(ValueError, match=r"needs recorded\.compression"):
        tiny_runs.task("semantic_encoder", base, recorded=None)


def test_scale_between_stage_a_and_b_is_the_released_one():
    assert STAGE_B_SCALE == 0.43
