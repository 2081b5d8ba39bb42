"""LoRA files as each trainer writes them, at the sizes of the tiny cascade, and what they should change.

Names are those of the manifests, for the blocks that the tiny networks have. Every maker returns ``(tensors,
deltas)``; a delta is computed here from the formula of its kind and belongs to one of our weights.
"""

import re
from functools import cache

import torch
from comfyui_cascade.checkpoints.layout import shapes
from comfyui_cascade.conditioning.text import text_encoder
from comfyui_cascade.stage_b import StageB
from comfyui_cascade.stage_c import StageC
from tiny_cascade import TEXT_ENCODER, B, C

RANK = 4
WIDTH = C.trunk.down[0].width


@cache
def _shapes(network_class, config):
    with torch.device("meta"):
        return shapes(network_class(config).state_dict())


def stage_c_shapes():
    return _shapes(StageC, C)


def stage_b_shapes():
    return _shapes(StageB, B)


def text_shapes():
    return _shapes(text_encoder, TEXT_ENCODER)


class Draw:
    """Random tensors that change weights by about as much as they hold."""

    def __init__(self, seed=0):
        self.generator = torch.Generator().manual_seed(seed)

    def __call__(self, *shape):
        return 0.3 * torch.randn(shape, generator=self.generator)


def low_rank(draw, rows, columns, rank=RANK):
    return draw(rows, rank), draw(rank, columns)


def paths_of(every, pattern):
    """Paths of weights with at least two axes that match a pattern."""
    return [
        name.removesuffix(".weight")
        for name, shape in every.items()
        if re.search(pattern, name) and name.endswith(".weight") and len(shape) > 1
    ]


ATTENTION = r"\.attn\.(to_[qkv]|out_proj)\."


def named(
    prefix, spell, alpha=2.0, every=None, pattern=ATTENTION, up=".lora_up.weight", down=".lora_down.weight"
):
    """A LoRA with named modules; ``alpha`` None writes none."""
    draw, every = Draw(1), every or stage_c_shapes()
    tensors, deltas = {}, {}
    for path in paths_of(every, pattern):
        shape = every[f"{path}.weight"]
        b, a = low_rank(draw, shape[0], shape[1])
        name = prefix + spell(path)
        kernel = (1, 1) if len(shape) == 4 else ()
        tensors[name + up], tensors[name + down] = b.reshape(*b.shape, *kernel), a.reshape(*a.shape, *kernel)
        if alpha is not None:
            tensors[name + ".alpha"] = torch.tensor(alpha)
        scale = 1.0 if alpha is None else alpha / RANK
        deltas[path] = (b @ a * scale).reshape(shape)
    return tensors, deltas


def flat(path):
    return path.replace(".", "_")


def diffusers(path):
    for ours, theirs in (("to_q", "to_q"), ("to_k", "to_k"), ("to_v", "to_v"), ("out_proj", "to_out.0")):
        path = path.replace(f".attention.attn.{ours}", f".attention.{theirs}")
    return path


def in_proj(path):
    """OneTrainer's spelling since July 2026."""
    for i, layer in enumerate(("to_q", "to_k", "to_v")):
        path = path.replace(f".attn.{layer}", f".attn.in_proj.{i}")
    return path


PEFT = {"up": ".lora_B.weight", "down": ".lora_A.weight", "alpha": None}


def onetrainer():
    return named("lora_prior_unet_", flat)


def onetrainer_first_week():
    return named("lora_prior_prior_", lambda path: flat(diffusers(path)))


def onetrainer_kohya():
    return named("lora_unet_", lambda path: flat(in_proj(path)))


def onetrainer_original():
    tensors, deltas = named("", in_proj, alpha=1.0, up=".lora_B.weight", down=".lora_A.weight")
    return tensors, deltas


def kohya():
    """Every linear layer and every convolution of one cell, as the branch has it."""
    pattern = r"attn\.|mapper|channelwise|embedding|clf|scalers"
    return named("lora_unet_", flat, pattern=pattern)


def kohya_old():
    def spelt(path):
        return flat(path).replace("attn_out_proj", "attn_to_out")

    return named("lora_unet_", spelt)


def comfyui():
    return named("diffusion_model.", str, up=".lora_up.weight", down=".lora_down.weight")


def peft():
    return named("", diffusers, **PEFT)


def peft_model():
    return named("base_model.model.", diffusers, **PEFT)


def diffusers_prior():
    return named("prior.", diffusers, **PEFT)


def diffusers_old():
    return named("unet.", diffusers, alpha=None, up=".lora.up.weight", down=".lora.down.weight")


def diffusers_processors():
    def spelt(path):
        return re.sub(r"attention\.(to_\w+?)(\.0)?$", r"attention.processor.\1", diffusers(path))

    return named("", spelt, alpha=None, up="_lora.up.weight", down="_lora.down.weight")


def stability(shape=None):
    """Matrices in the order of the modules: of each attention the output's first."""
    draw, every = Draw(2), shape or stage_c_shapes()
    tensors, deltas, count = {}, {}, 0
    for path in paths_of(every, r"\.attn\.out_proj\."):
        stem = path.removesuffix("out_proj")
        width = every[f"{path}.weight"][0]
        for paths in ([path], [f"{stem}to_{one}" for one in "qkv"]):
            up, down = low_rank(draw, width * len(paths), width)
            tensors |= {f"weights.{count}.lora_up": up, f"weights.{count}.lora_down": down}
            for one, delta in zip(paths, (up @ down / RANK).chunk(len(paths)), strict=True):
                deltas[one] = delta
            count += 1
    return tensors, deltas


def stability_wide():
    """Filters .attn, kv_mapper and .depthwise: a depthwise kernel changes by the same in all of its cells."""
    draw, every = Draw(3), stage_c_shapes()
    tensors, deltas, count = {}, {}, 0
    for path in paths_of(every, r"attn\.out_proj|kv_mapper|depthwise"):
        stem = path.removesuffix("out_proj")
        groups = [[path]] + ([[f"{stem}to_{one}" for one in "qkv"]] if stem != path else [])
        for paths in groups:
            shape = every[f"{path}.weight"]
            up, down = low_rank(draw, shape[0] * len(paths), shape[1])
            tensors |= {f"weights.{count}.lora_up": up, f"weights.{count}.lora_down": down}
            for one, delta in zip(paths, (up @ down / RANK).chunk(len(paths)), strict=True):
                deltas[one] = delta.reshape(*delta.shape, *(1 for _ in shape[2:])).expand(shape)
            count += 1
    return tensors, deltas


def fused():
    """Kohya's way for trainers that keep query, key and value in one."""
    draw, every = Draw(4), stage_c_shapes()
    tensors, deltas = {}, {}
    for path in paths_of(every, r"\.attn\.to_q\."):
        stem = path.removesuffix("to_q")
        up, down = low_rank(draw, 3 * WIDTH, WIDTH)
        name = f"lora_unet_{flat(stem)}in_proj"
        tensors |= {f"{name}.lora_up.weight": up, f"{name}.lora_down.weight": down}
        for one, delta in zip("qkv", (up @ down).chunk(3), strict=True):
            deltas[f"{stem}to_{one}"] = delta
    return tensors, deltas


def loha():
    draw, every = Draw(5), stage_c_shapes()
    tensors, deltas = {}, {}
    for path in paths_of(every, ATTENTION):
        (a1, b1), (a2, b2) = low_rank(draw, WIDTH, WIDTH), low_rank(draw, WIDTH, WIDTH)
        name = f"lora_unet_{flat(path)}"
        parts = {"hada_w1_a": a1, "hada_w1_b": b1, "hada_w2_a": a2, "hada_w2_b": b2}
        tensors |= {f"{name}.{key}": value for key, value in parts.items()} | {
            f"{name}.alpha": torch.tensor(2.0)
        }
        deltas[path] = (a1 @ b1) * (a2 @ b2) * (2.0 / RANK)
    return tensors, deltas


def lokr():
    draw, every = Draw(6), stage_c_shapes()
    tensors, deltas = {}, {}
    for path in paths_of(every, ATTENTION):
        w1, (a, b) = draw(4, 4), low_rank(draw, WIDTH // 4, WIDTH // 4)
        name = f"lora_prior_unet_{flat(path)}"
        parts = {"lokr_w1": w1, "lokr_w2_a": a, "lokr_w2_b": b, "alpha": torch.tensor(2.0)}
        tensors |= {f"{name}.{key}": value for key, value in parts.items()}
        deltas[path] = torch.kron(w1, a @ b) * (2.0 / RANK)
    return tensors, deltas


def lokr_fused(rows=6):
    """Of query, key and value in one; with 6 rows in the first factor they part, with 4 they must be made."""
    draw, every = Draw(7), stage_c_shapes()
    tensors, deltas = {}, {}
    for path in paths_of(every, r"\.attn\.to_q\."):
        stem = path.removesuffix("to_q")
        w1, w2 = draw(rows, 4), draw(3 * WIDTH // rows, WIDTH // 4)
        name = f"diffusion_model.{stem}in_proj"
        tensors |= {f"{name}.lokr_w1": w1, f"{name}.lokr_w2": w2}
        for one, delta in zip("qkv", torch.kron(w1, w2).chunk(3), strict=True):
            deltas[f"{stem}to_{one}"] = delta
    return tensors, deltas


def locon():
    """A convolution of one cell, with Tucker's middle."""
    draw = Draw(8)
    up, mid, down = draw(WIDTH, RANK, 1, 1), draw(RANK, RANK, 1, 1), draw(RANK, 16, 1, 1)
    name = "lora_unet_embedding_1"
    tensors = {f"{name}.lora_up.weight": up, f"{name}.lora_mid.weight": mid, f"{name}.lora_down.weight": down}
    product = up[:, :, 0, 0] @ mid[:, :, 0, 0] @ down[:, :, 0, 0]
    return tensors, {"embedding.1": product[:, :, None, None]}


def difference():
    draw, every = Draw(9), stage_c_shapes()
    wanted = ["clf.1", "clip_txt_mapper", "down_blocks.0.0.depthwise"]
    tensors, deltas = {}, {}
    for path in wanted:
        deltas[path] = draw(*every[f"{path}.weight"])
        tensors[f"diffusion_model.{path}.diff"] = deltas[path]
    deltas["clf.1.bias"] = tensors["diffusion_model.clf.1.diff_b"] = draw(*every["clf.1.bias"])
    gamma = "down_blocks.0.0.channelwise.2.gamma"
    deltas[gamma] = tensors[f"diffusion_model.{gamma}.diff"] = draw(*every[gamma])
    return tensors, deltas


def difference_fused():
    draw, every = Draw(10), stage_c_shapes()
    stem = paths_of(every, r"\.attn\.to_q\.")[0].removesuffix("to_q")
    whole, bias = draw(3 * WIDTH, WIDTH), draw(3 * WIDTH)
    tensors = {f"diffusion_model.{stem}in_proj.diff": whole, f"diffusion_model.{stem}in_proj.diff_b": bias}
    deltas = {f"{stem}to_{one}": part for one, part in zip("qkv", whole.chunk(3), strict=True)}
    return tensors, deltas | {
        f"{stem}to_{o}.bias": part for o, part in zip("qkv", bias.chunk(3), strict=True)
    }


def stage_b():
    return named(
        "lora_prior_unet_", flat, every=stage_b_shapes(), pattern=r"attn\.|effnet_mapper\.0|channelwise"
    )


def stage_b_diffusers():
    return named("decoder.", diffusers, every=stage_b_shapes(), pattern=r"attn\.|effnet_mapper\.0", **PEFT)


DIALECTS = {
    maker.__name__: maker
    for maker in (
        stability, stability_wide, onetrainer, onetrainer_first_week, onetrainer_kohya, onetrainer_original,
        kohya, kohya_old, comfyui, peft, peft_model, diffusers_prior, diffusers_old, diffusers_processors,
        fused, loha, lokr, lokr_fused, locon, difference, difference_fused,
    )
}  # fmt: skip
"""Makers for Stage C."""


def text(prefix="lora_prior_te_"):
    """Changes of the tiny text encoder."""
    return named(prefix, flat, every=text_shapes(), pattern=r"self_attn|mlp|text_projection")
