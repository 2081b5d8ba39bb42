"""Released sizes with random weights, as networks of ours, of ComfyUI's and of diffusers' around one memory.

The benchmarks of time and memory run them on the same inputs and compare what comes out.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from comfyui_cascade.checkpoints.layout import Layout, from_native
from comfyui_cascade.checkpoints.open import build
from comfyui_cascade.latents.geometry import stage_b_size, stage_c_size
from comfyui_cascade.layers.ops import TORCH
from comfyui_cascade.layers.trunk import Level, TrunkConfig
from comfyui_cascade.layers.walk import keys_values
from comfyui_cascade.stage_a import StageA, StageAConfig
from comfyui_cascade.stage_b import StageB, StageBConfig
from comfyui_cascade.stage_c import StageC, StageCConfig
from torch import Tensor, nn

RIVALS = ("native", "diffusers")
"""ComfyUI's own networks and those of diffusers."""

COMPILED = "compiled"
"""Ours, each kind of block compiled by torch for pictures of every size."""

Call = Callable[[], Tensor]
"""One step of a stage on fixed inputs."""


def _trunk(
    transition: Any, widths: tuple[int, ...], units: tuple[str, ...], down: tuple[int, ...],
    repeats: tuple[int, ...], c_cond: int, t_conds: tuple[str, ...],
) -> TrunkConfig:  # fmt: skip
    levels = list(zip(widths, units, down, repeats, strict=True))
    return TrunkConfig(
        down=tuple(Level(width, unit, depth, 1, 0) for width, unit, depth, _ in levels),
        up=tuple(
            Level(width, unit, depth, repeat, width if i else 0)
            for i, (width, unit, depth, repeat) in enumerate(reversed(levels))
        ),
        c_cond=c_cond, c_r=64, t_conds=t_conds, kernel_size=3, transition=transition,
        switch_level=(False,) * (len(widths) - 1),
    )  # fmt: skip


def _stage_c(width: int, depths: tuple[int, int]) -> StageCConfig:
    trunk = _trunk("pointwise", (width, width), ("CTA", "CTA"), depths, (1, 1), width, ("sca", "crp"))
    return StageCConfig(trunk, 16, 1280, 1280, 768, 4)


def _stage_b(widths: tuple[int, ...], depths: tuple[int, ...], repeats: tuple[int, ...]) -> StageBConfig:
    trunk = _trunk("strided", widths, ("CT", "CT", "CTA", "CTA"), depths, repeats, 1280, ("sca",))
    wide = 4 * widths[0]
    return StageBConfig(trunk, 4, 2, 1280, 4, 16, wide, 3, wide)


SIZES: Mapping[str, Any] = {
    "stage_c": _stage_c(1536, (4, 12)),
    "stage_c_3.6b": _stage_c(2048, (8, 24)),
    "stage_b": _stage_b((320, 576, 1152, 1152), (2, 4, 14, 4), (2, 2, 2, 2)),
    "stage_b_1.5b": _stage_b((320, 640, 1280, 1280), (2, 6, 28, 6), (2, 2, 3, 3)),
    "stage_a": StageAConfig((192, 384), (768, 1536), 12, 4, 8192),
    "stage_a_encode": StageAConfig((192, 384), (768, 1536), 12, 4, 8192),
    "tiny_c": _stage_c(64, (1, 1)),
    "tiny_b": _stage_b((64, 64, 64, 64), (1, 1, 1, 1), (1, 1, 2, 2)),
    "tiny_a": StageAConfig((16, 32), (64, 128), 2, 4, 16),
    "tiny_a_encode": StageAConfig((16, 32), (64, 128), 2, 4, 16),
}
"""Published sizes by name, and tiny ones to try a benchmark with."""

CLASSES = {StageCConfig: StageC, StageBConfig: StageB, StageAConfig: StageA}


def comfyui() -> None:
    """Make ``import comfy`` work."""
    sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests" / "support"))
    from comfy_host import comfy_library

    comfy_library()


def random_weights(config: Any, dtype: torch.dtype, device: str) -> dict[str, Tensor]:
    """Weights that keep activations near 1, all different from zero."""
    with torch.device("meta"):
        empty = CLASSES[type(config)](config).state_dict()
    generator = torch.Generator(device).manual_seed(0)
    made: dict[str, Tensor] = {}
    for name, like in empty.items():
        if not like.is_floating_point():
            made[name] = like.new_zeros(like.shape, device=device)
            continue
        value = torch.randn(like.shape, generator=generator, device=device, dtype=dtype)
        if name.endswith("running_var"):
            value = value.abs() + 0.5
        elif like.ndim > 1 and not name.endswith(("gamma", "beta")):
            value /= max(1, like[0].numel()) ** 0.5
        else:
            value *= 0.3
        made[name] = value
    return made


@dataclass(frozen=True)
class Stage:
    """One stage at a published size, on one device and in one precision.

    Attributes:
        name: one of ``SIZES``.
        pixels: side of the picture.
        batch: 2 is a pair of positive and negative prompts.
    """

    name: str
    pixels: int
    batch: int
    dtype: torch.dtype
    device: str
    weights: dict[str, Tensor]

    @property
    def config(self) -> Any:
        """Sizes of the network."""
        return SIZES[self.name]

    def _unit(self, *shape: int) -> Tensor:
        generator = torch.Generator(self.device).manual_seed(sum(shape))
        return torch.randn(shape, generator=generator, device=self.device, dtype=self.dtype)

    def inputs(self) -> tuple[Tensor, ...]:
        """What a step is given; see the networks."""
        n, side = self.batch, self.pixels
        t = torch.full((n,), 0.7, device=self.device)
        if isinstance(self.config, StageCConfig):
            width, height = stage_c_size(side, side)
            text = self._unit(n, 77, 1280), self._unit(n, 1, 1280), self._unit(n, 1, 768)
            return self._unit(n, 16, height, width), t, *text
        width, height = stage_b_size(side, side)
        if isinstance(self.config, StageBConfig):
            columns, rows = stage_c_size(side, side)
            return (
                self._unit(n, 4, height, width),
                t,
                self._unit(n, 1, 1280),
                self._unit(n, 16, rows, columns),
            )
        if self.name.endswith("encode"):
            return (self._unit(n, 3, side, side),)
        return (self._unit(n, 4, height, width),)

    def network(self) -> nn.Module:
        """Ours, around the weights."""
        return build(CLASSES[type(self.config)], self.config, self.weights, TORCH).eval()

    def ours(self, **settings: Any) -> Call:
        """A step of ours; what a run computes once is computed before."""
        return self._step(self.network(), **settings)

    def _step(self, network: nn.Module, **settings: Any) -> Call:
        inputs = self.inputs()
        if isinstance(network, StageC | StageB):
            x, t, *prompt = inputs
            if isinstance(network, StageC):
                tokens, cells = network.tokens(*prompt), ()
            else:
                tokens, cells = network.tokens(prompt[0]), (network.semantic_map(prompt[1], *x.shape[-2:]),)
            known = keys_values(network, tokens)
            return lambda: network(x, t, tokens, *cells, keys_values=known, **settings)
        run = network.encode if self.name.endswith("encode") else network.decode
        return lambda: run(inputs[0])

    def compiled(self) -> Call:
        """A step of ours with its blocks compiled, those of Stage B and C alone; the first call compiles."""
        network = self.network()
        if isinstance(network, StageA):
            return self._step(network)
        for blocks in (*network.down_blocks, *network.up_blocks):
            for i, block in enumerate(blocks):
                blocks[i] = torch.compile(block, dynamic=True)
        return self._step(network)

    def native(self) -> Call:
        """A step of ComfyUI's network."""
        comfyui()
        network = _empty(lambda: _native(self.config, self.dtype), self.weights)
        inputs = self.inputs()
        if isinstance(self.config, StageBConfig):
            x, t, pooled, semantic = inputs
            return lambda: network(x, t, semantic, pooled)
        if isinstance(self.config, StageCConfig):
            return lambda: network(*inputs)
        run = network.encode if self.name.endswith("encode") else network.decode
        return lambda: run(inputs[0])

    def diffusers(self) -> Call:
        """A step of diffusers' network, whose time is embedded in the precision of the network."""
        renamed = {
            name: value if len(value) == 1 else [torch.cat(value)]
            for name, value in from_native(self.weights, Layout.DIFFUSERS).items()
        }
        weights = {name: value[0] for name, value in renamed.items()}
        if isinstance(self.config, StageAConfig):
            weights = {
                key.replace("vquantizer.codebook.", "vquantizer.embedding."): value
                for key, value in self.weights.items()
            }
        network = _empty(lambda: _of_diffusers(self.config), weights)
        inputs = self.inputs()
        if isinstance(self.config, StageCConfig):
            x, t, text, pooled, image = inputs
            return lambda: network(x, t, clip_text_pooled=pooled, clip_text=text, clip_img=image).sample
        if isinstance(self.config, StageBConfig):
            x, t, pooled, semantic = inputs
            return lambda: network(x, t, clip_text_pooled=pooled, effnet=semantic).sample
        if self.name.endswith("encode"):
            return lambda: network.encode(inputs[0]).latents
        return lambda: network.decode(inputs[0]).sample

    def calls(self, against: tuple[str, ...]) -> dict[str, Call]:
        """A step of each program, ours first."""
        return {"ours": self.ours(), **{name: getattr(self, name)() for name in against}}


def stage(name: str, pixels: int, batch: int, dtype: torch.dtype, device: str) -> Stage:
    """A stage with random weights."""
    return Stage(name, pixels, batch, dtype, device, random_weights(SIZES[name], dtype, device))


def _empty(make: Callable[[], nn.Module], weights: dict[str, Tensor]) -> nn.Module:
    """A network that was made without storage, around weights."""
    with torch.device("meta"):
        network = make()
    missing, unexpected = network.load_state_dict(weights, strict=False, assign=True)
    if missing or unexpected:
        raise SystemExit(f"the networks differ: {missing[:3]} missing, {unexpected[:3]} left over")
    return network.eval().requires_grad_(False)


def _native(config: Any, dtype: torch.dtype) -> nn.Module:
    import comfy.ops

    if isinstance(config, StageAConfig):
        from comfy.ldm.cascade.stage_a import StageA as Native

        return Native(
            levels=len(config.widths), bottleneck_blocks=config.bottleneck_blocks,
            c_hidden=config.widths[-1], codebook_size=config.codebook_size,
        )  # fmt: skip
    trunk = config.trunk
    shared = {
        "c_cond": trunk.c_cond,
        "c_hidden": [level.width for level in trunk.down],
        "nhead": [level.width // 64 if "A" in level.unit else -1 for level in trunk.down],
        "blocks": [[level.depth for level in side] for side in (trunk.down, trunk.up)],
        "block_repeat": [[level.repeats for level in side] for side in (trunk.down, trunk.up)],
        "level_config": [level.unit for level in trunk.down],
        "dropout": [0.0] * len(trunk.down),
        "dtype": dtype,
        "operations": comfy.ops.disable_weight_init,
    }
    if isinstance(config, StageBConfig):
        from comfy.ldm.cascade.stage_b import StageB as Native

        return Native(t_conds=["sca"], **shared)
    from comfy.ldm.cascade.stage_c import StageC as Native

    return Native(t_conds=["sca", "crp"], **shared)


_KINDS = {"C": "SDCascadeResBlock", "T": "SDCascadeTimestepBlock", "A": "SDCascadeAttnBlock"}


def _of_diffusers(config: Any) -> nn.Module:
    from diffusers.models.unets.unet_stable_cascade import StableCascadeUNet
    from diffusers.pipelines.deprecated.wuerstchen.modeling_paella_vq_model import PaellaVQModel

    if isinstance(config, StageAConfig):
        return PaellaVQModel(
            bottleneck_blocks=config.bottleneck_blocks, embed_dim=config.widths[-1],
            num_vq_embeddings=config.codebook_size, levels=len(config.widths),
        )  # fmt: skip
    trunk = config.trunk
    shared = {
        "conditioning_dim": trunk.c_cond,
        "block_out_channels": [level.width for level in trunk.down],
        "num_attention_heads": [level.width // 64 if "A" in level.unit else 0 for level in trunk.down],
        "down_num_layers_per_block": [level.depth for level in trunk.down],
        "up_num_layers_per_block": [level.depth for level in trunk.up],
        "down_blocks_repeat_mappers": [level.repeats for level in trunk.down],
        "up_blocks_repeat_mappers": [level.repeats for level in trunk.up],
        "block_types_per_layer": [[_KINDS[kind] for kind in level.unit] for level in trunk.down],
        "timestep_conditioning_type": trunk.t_conds,
        "clip_text_pooled_in_channels": config.c_pooled,
        "dropout": [0.0] * len(trunk.down),
        "in_channels": config.channels,
        "out_channels": config.channels,
    }
    if isinstance(config, StageBConfig):
        return StableCascadeUNet(
            patch_size=2, effnet_in_channels=16, pixel_mapper_in_channels=3, switch_level=None, **shared
        )
    return StableCascadeUNet(
        patch_size=1, clip_text_in_channels=1280, clip_image_in_channels=768, switch_level=[False], **shared
    )
