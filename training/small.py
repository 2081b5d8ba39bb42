"""The recipe of the small cascade, part by part.

Order: Stage A and the semantic encoder (with the previewer) learn from pictures, the text encoder from
captions; then Stage B learns to draw Stage A's latents from Stage C's, and Stage C to draw its own from
text. Both predict velocity: near pure noise a noise prediction has to copy its input to more digits than
the signal is worth, which a network this small never learns.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional

from ..samplers.schedule import alpha_sigma, logsnr_of_time, time_of_logsnr
from ..samplers.target import velocity
from ..stage_a import StageA
from ..stage_a.model import STAGE_B_SCALE
from ..stage_a.model import ResBlock as StageABlock
from ..stage_b import StageB
from ..stage_c import StageC
from ..stage_c.coder import Previewer, SemanticEncoder
from . import sizes
from .captions import caption
from .loop import Run, averaged, train
from .pool import Pool, open_pool
from .words import END_ROW, tokenize
from .world import COLOURS, GROUNDS, KINDS, PLACES, TIMES, Scene, training_scene

POOL_PICTURES = 10_000
COLOUR_NAMES = tuple(COLOURS)


@dataclass(frozen=True)
class Recipe:
    """One training of the small cascade.

    Attributes:
        folder: where pool, caches and checkpoints go.
        minutes: by part.
        pictures: how many to draw.
    """

    folder: Path
    minutes: dict[str, float]
    say: Callable[[str], None]
    pictures: int = POOL_PICTURES

    def run(self, name: str, rate: float, **settings: float) -> Run:
        """The run of a part."""
        return Run(name, self.folder, self.minutes[name], rate, **settings)

    @cached_property
    def pool(self) -> Pool:
        return open_pool(self.folder, self.pictures)


def _batch(step: int, size: int, count: int) -> tuple[Tensor, torch.Generator]:
    """Which pictures a step sees, and its source of randomness."""
    generator = torch.Generator().manual_seed(step)
    return torch.randint(count, (size,), generator=generator), generator


def initialise_(network: nn.Module) -> nn.Module:
    """Initial weights of Stage B and C: zero heads and time scales, small input and conditioning maps.

    Source: Stability ``modules/stage_c.py``, ``_init_weights``.
    """
    for name, module in network.named_modules():
        if isinstance(module, nn.Conv2d | nn.Linear | nn.ConvTranspose2d):
            nn.init.xavier_uniform_(module.weight)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
            if name.startswith(("clip_", "effnet_mapper", "pixels_mapper")):
                nn.init.normal_(module.weight, std=0.02 if name.startswith("clip_") else 0.1)
            if ".mapper" in name or name.startswith("clf"):
                nn.init.zeros_(module.weight)
    return network


# Stage A -----------------------------------------------------------------------------------------------


def stage_a() -> StageA:
    """A new Stage A.

    The gains of its branches start open, because a short run cannot open them from zero. Its last norm's
    gain is fixed at what makes latents divided by 0.43 have unit variance.
    """
    network = StageA(sizes.STAGE_A)
    for module in network.modules():
        if isinstance(module, StageABlock):
            module.gammas.data = torch.tensor([0.0, 0, 0.3, 0, 0, 0.3])
    norm = network.down_blocks[-1][1]
    norm.weight.data.fill_(STAGE_B_SCALE)
    norm.weight.requires_grad_(False)
    norm.bias.requires_grad_(False)
    return network


def train_stage_a(recipe: Recipe) -> nn.Module:
    """Reconstruct 64-pixel crops: absolute, squared and edge error, with a little noise on the latents."""
    network, pool = stage_a(), recipe.pool

    def crops(step: int) -> tuple[Tensor, torch.Generator]:
        index, generator = _batch(step, 16, len(pool.masks))
        left, top = torch.randint(257 - 64, (2,), generator=generator).tolist()
        crop = pool.pictures[index.numpy(), top : top + 64, left : left + 64]
        return torch.from_numpy(crop).permute(0, 3, 1, 2).float().div(255), generator

    def loss(step: int) -> Tensor:
        images, generator = crops(step)
        level = 0.15 * STAGE_B_SCALE * torch.rand(1, generator=generator)
        latents = network.encode(images)
        drawn = network.decode(latents + level * torch.randn(latents.shape, generator=generator))
        error = drawn - images
        edges = error.diff(dim=-1).abs().mean() + error.diff(dim=-2).abs().mean()
        return error.abs().mean() + 2 * error.square().mean() + 0.5 * edges

    return train(recipe.run("stage_a", 2e-3), network, loss, recipe.say)


# Semantic encoder and previewer ------------------------------------------------------------------------


class SemanticAutoencoder(nn.Module):
    """Encoder, previewer, and a reader that keeps kinds and colours legible in the latents."""

    def __init__(self):
        super().__init__()
        self.encoder = SemanticEncoder(sizes.SEMANTIC_ENCODER)
        self.previewer = Previewer(sizes.PREVIEWER)
        self.reader = nn.Sequential(
            nn.Conv2d(16, 64, 3, padding=1), nn.GELU(), nn.Conv2d(64, len(KINDS) + len(COLOURS), 1)
        )

    def forward(self, images: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
        """``b 3 192 192`` and noise for the latents → preview ``b 3 96 96``, readings ``b k 12 12``."""
        latents = self.encoder(images) + noise
        return self.previewer(latents), self.reader(latents)


def shrink(images: Tensor, side: int) -> Tensor:
    """Antialiased bilinear resize."""
    return functional.interpolate(images, (side, side), mode="bilinear", antialias=True)


def train_semantic(recipe: Recipe) -> nn.Module:
    """Reconstruct small pictures, things more than backgrounds, and read kind and colour in every cell."""
    network, pool = SemanticAutoencoder(), recipe.pool
    network.train()
    labels = torch.tensor([_labels(training_scene(i))[:2] for i in range(len(pool.masks))])

    def loss(step: int) -> Tensor:
        index, generator = _batch(step, 12, len(pool.masks))
        images = pool.images(index)
        cells = (len(index), 16, sizes.SEMANTIC_CELLS, sizes.SEMANTIC_CELLS)
        noise = (
            0.3
            * torch.rand(len(index), 1, 1, 1, generator=generator)
            * torch.randn(cells, generator=generator)
        )
        preview, readings = network(shrink(images, sizes.ENCODER_PIXELS), noise)
        error = preview - shrink(images, preview.shape[-1])
        weight = 1 + 4 * pool.mask(index, 32).repeat_interleave(3, -1).repeat_interleave(3, -2)
        inside = pool.mask(index, sizes.SEMANTIC_CELLS)[:, 0]
        reading = _reading_loss(readings, labels[index], inside)
        return (weight * (error.abs() + 2 * error.square())).mean() + 0.05 * reading

    return train(recipe.run("semantic", 2e-3), network, loss, recipe.say)


def _reading_loss(readings: Tensor, labels: Tensor, inside: Tensor) -> Tensor:
    """Cross entropy of kind and of colour, in the cells that things cover."""
    total = readings.new_zeros(())
    for part, label in zip(readings.split([len(KINDS), len(COLOURS)], dim=1), labels.unbind(1), strict=True):
        cells = functional.cross_entropy(part, label[:, None, None].expand(inside.shape), reduction="none")
        total = total + (cells * inside).sum() / inside.sum()
    return total


def _labels(scene: Scene) -> list[int]:
    return [
        KINDS.index(scene.kind), COLOUR_NAMES.index(scene.colour), scene.count - 1, PLACES.index(scene.place),
        GROUNDS.index(scene.ground), TIMES.index(scene.time),
    ]  # fmt: skip


# Text --------------------------------------------------------------------------------------------------


class TextReader(nn.Module):
    """The text encoder, and a linear reading of the scene from the pooled text."""

    def __init__(self):
        super().__init__()
        self.encoder = sizes.text_encoder()
        self.reader = nn.Linear(sizes.TEXT_WIDTH, sum(_ANSWERS))

    def forward(self, rows: Tensor) -> Tensor:
        return self.reader(encode_text(self.encoder, rows)[1])


_ANSWERS = (len(KINDS), len(COLOURS), 3, len(PLACES), len(GROUNDS), len(TIMES))


def encode_text(encoder: nn.Module, rows: Tensor) -> tuple[Tensor, Tensor]:
    """Hidden states ``b n d`` before the last norm, and pooled text ``b d``; see ``conditioning.text``."""
    from ..conditioning.text import encode

    return encode(encoder, rows, END_ROW)


def train_text(recipe: Recipe) -> nn.Module:
    """Read from the caption alone what the scene is; what a caption leaves out is learnt as its average."""
    network = TextReader()

    def loss(step: int) -> Tensor:
        index, _ = _batch(step, 64, 1_000_000)
        scenes = [training_scene(i) for i in index.tolist()]
        rows = tokenize([caption(scene, random.Random(step * 64 + i)) for i, scene in enumerate(scenes)])
        labels = torch.tensor([_labels(scene) for scene in scenes])
        answers = network(rows).split(_ANSWERS, dim=1)
        return sum(
            functional.cross_entropy(a, label) for a, label in zip(answers, labels.unbind(1), strict=True)
        )

    return train(recipe.run("text", 2e-3), network, loss, recipe.say)


# Stage B and C -----------------------------------------------------------------------------------------


@torch.inference_mode()
def cache(recipe: Recipe, name: str, encode: Callable[[Tensor], Tensor]) -> Tensor:
    """What an encoder makes of every picture of the pool, kept on disk."""
    path = recipe.folder / f"{name}_{recipe.pictures}.pt"
    if not path.exists():
        parts = [encode(recipe.pool.images(index)) for index in torch.arange(recipe.pictures).split(16)]
        beside = path.with_suffix(".part")
        torch.save(torch.cat(parts), beside)
        beside.replace(path)
        recipe.say(f"{name}: {recipe.pictures} pictures encoded")
    return torch.load(path, weights_only=True)


def semantic_latents(recipe: Recipe) -> Tensor:
    """Stage C latents of the pool, ``n 16 12 12``."""
    encoder = averaged(recipe.run("semantic", 0), SemanticAutoencoder()).encoder
    return cache(recipe, "semantic_latents", lambda x: encoder(shrink(x, sizes.ENCODER_PIXELS)))


def picture_latents(recipe: Recipe) -> Tensor:
    """Stage B latents of the pool, ``n 4 64 64``."""
    autoencoder = averaged(recipe.run("stage_a", 0), stage_a())
    return cache(recipe, "picture_latents", lambda x: autoencoder.encode(x) / STAGE_B_SCALE)


def _noisy(clean: Tensor, generator: torch.Generator, lean: float) -> tuple[Tensor, Tensor, Tensor]:
    """Noisy latents, their times and the velocity to predict.

    Times are stratified over the batch; ``lean`` below 1 draws them towards noise.
    """
    strata = (torch.arange(len(clean)) + torch.rand(len(clean), generator=generator)) / len(clean)
    logsnr = logsnr_of_time(strata**lean)
    alpha, sigma_vp = (f.view(-1, 1, 1, 1) for f in alpha_sigma(logsnr))
    noise = torch.randn(clean.shape, generator=generator)
    return alpha * clean + sigma_vp * noise, time_of_logsnr(logsnr), velocity(clean, noise, alpha, sigma_vp)


def _weighted(prediction: Tensor, target: Tensor, mask: Tensor, weight: float) -> Tensor:
    weights = 1 + (weight - 1) * mask
    return (weights * (prediction - target).square()).mean() / weights.mean()


def _pooled_captions(recipe: Recipe) -> Tensor:
    """Pooled text of one caption for each picture of the pool, one in twenty of them empty: ``n d``."""
    encoder = averaged(recipe.run("text", 0), TextReader()).encoder
    rng = random.Random(0)
    texts = [caption(training_scene(i), rng) if rng.random() > 0.05 else "" for i in range(recipe.pictures)]
    parts = [encode_text(encoder, tokenize(texts[i : i + 64]))[1] for i in range(0, len(texts), 64)]
    return torch.cat(parts)


def train_stage_b(recipe: Recipe) -> nn.Module:
    """Draw Stage A's latents from Stage C's, which get some noise so that Stage B forgives Stage C."""
    semantic, latents, pool = semantic_latents(recipe), picture_latents(recipe), recipe.pool
    network = initialise_(StageB(sizes.STAGE_B))
    pooled = _pooled_captions(recipe)

    def predict(x: Tensor, t: Tensor, pooled: Tensor, semantic: Tensor) -> Tensor:
        return network(x, t, network.tokens(pooled), network.semantic_map(semantic, *x.shape[-2:]))

    def loss(step: int) -> Tensor:
        index, generator = _batch(step, 16, recipe.pictures)
        x, t, target = _noisy(latents[index], generator, lean=0.7)
        condition = semantic[index]
        level = 0.3 * torch.rand(len(index), 1, 1, 1, generator=generator)
        condition = condition + level * torch.randn(condition.shape, generator=generator)
        condition = condition * (torch.rand(len(index), 1, 1, 1, generator=generator) > 0.05)
        return _weighted(predict(x, t, pooled[index], condition), target, pool.mask(index, 64), 5.0)

    return train(recipe.run("stage_b", 2e-3, decay=0.999), network, loss, recipe.say)


def train_stage_c(recipe: Recipe) -> nn.Module:
    """Draw Stage C latents from captions, one in fourteen of which is empty."""
    semantic, pool = semantic_latents(recipe), recipe.pool
    network = initialise_(StageC(sizes.STAGE_C))
    encoder = averaged(recipe.run("text", 0), TextReader()).encoder
    image = torch.zeros(1, 1, sizes.IMAGE_WIDTH)

    def predict(x: Tensor, t: Tensor, text: Tensor, pooled: Tensor) -> Tensor:
        return network(x, t, network.tokens(text, pooled, image.expand(len(x), -1, -1)))

    def loss(step: int) -> Tensor:
        index, generator = _batch(step, 24, recipe.pictures)
        rng = random.Random(step)
        captions = [caption(training_scene(i), rng) if rng.random() > 0.07 else "" for i in index.tolist()]
        with torch.no_grad():
            text, pooled = encode_text(encoder, tokenize(captions))
        x, t, target = _noisy(semantic[index], generator, lean=0.8)
        return _weighted(predict(x, t, text, pooled), target, pool.mask(index, 12), 3.0)

    return train(recipe.run("stage_c", 2e-3, decay=0.999), network, loss, recipe.say)


PARTS: dict[str, Callable[[Recipe], nn.Module]] = {
    "stage_a": train_stage_a,
    "semantic": train_semantic,
    "text": train_text,
    "stage_b": train_stage_b,
    "stage_c": train_stage_c,
}
"""In the order in which they have to be trained."""
