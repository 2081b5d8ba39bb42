"""Small Stage B and C in many shapes, and inputs for them.

A size is named as Stability names it. ``head_dim`` is what a file's metadata would say.
"""

import torch

STAGE_C = {
    "released form": {
        "c_hidden": (32, 32), "blocks": ((1, 2), (2, 1)), "repeats": ((1, 1), (1, 1)),
        "units": ("CTA", "CTA"), "c_cond": 32, "head_dim": 16, "t_conds": ("sca", "crp"),
    },
    "two widths, repeats": {
        "c_hidden": (32, 64), "blocks": ((2, 1), (3, 2)), "repeats": ((2, 1), (3, 2)),
        "units": ("CTA", "CTA"), "c_cond": 48, "head_dim": 32, "t_conds": ("sca",), "c_r": 32,
    },
    "three levels": {
        "c_hidden": (16, 48, 32), "blocks": ((2, 1, 2), (1, 2, 3)), "repeats": ((1, 2, 1), (1, 1, 2)),
        "units": ("CT", "CTA", "CTACT"), "c_cond": 24, "head_dim": 8, "t_conds": (), "clip_seq": 2,
        "kernel_size": 5,
    },
    "four levels": {
        "c_hidden": (8, 16, 24, 32), "blocks": ((1, 1, 1, 1), (1, 1, 1, 1)), "repeats": ((1,) * 4, (1,) * 4),
        "units": ("CTA", "CTA", "CT", "CTA"), "c_cond": 16, "head_dim": 8, "t_conds": ("sca", "crp"),
        "channels": 5, "clip_seq": 3,
    },
}  # fmt: skip

STAGE_B = {
    "released form": {
        "c_hidden": (16, 32, 64, 64), "blocks": ((1, 2, 3, 1), (1, 3, 2, 1)),
        "repeats": ((1,) * 4, (3, 3, 2, 2)), "units": ("CT", "CT", "CTA", "CTA"), "c_cond": 80,
        "head_dim": 32, "t_conds": ("sca",),
    },
    "lite form": {
        "c_hidden": (24, 40, 72, 72), "blocks": ((2, 1, 2, 1), (1, 2, 1, 2)), "repeats": ((1,) * 4, (2,) * 4),
        "units": ("CT", "CT", "CTA", "CTA"), "c_cond": 80, "head_dim": 8, "t_conds": ("sca",),
    },
    "two levels": {
        "c_hidden": (32, 48), "blocks": ((1, 2), (2, 1)), "repeats": ((2, 1), (1, 2)),
        "units": ("CTA", "CTA"), "c_cond": 32, "head_dim": 16, "t_conds": (), "clip_seq": 2, "c_r": 32,
    },
    "three levels": {
        "c_hidden": (16, 16, 48), "blocks": ((1, 1, 2), (2, 1, 1)), "repeats": ((1, 3, 1), (2, 1, 1)),
        "units": ("CT", "CTA", "CTA"), "c_cond": 20, "head_dim": 16, "t_conds": ("sca", "crp"), "effnet": 8,
    },
}  # fmt: skip

TEXT, POOLED, IMAGE = 20, 28, 12
"""Features of a text token, of the pooled text and of an image embedding in these sizes."""


def heads(size, none):
    """Attention heads of each level; ``none`` where a level has no attention."""
    return [
        width // size["head_dim"] if "A" in unit else none
        for width, unit in zip(size["c_hidden"], size["units"], strict=True)
    ]


def residual_blocks(size):
    """How many residual blocks run in one pass, repeats counted."""
    depths = [*size["blocks"][0], *size["blocks"][1]]
    repeats = [*size["repeats"][0], *size["repeats"][1]]
    units = [*size["units"], *reversed(size["units"])]
    return sum(d * r * u.count("C") for d, r, u in zip(depths, repeats, units, strict=True))


def stage_c_inputs(size, batch=2, height=17, width=31, images=1):
    """Noisy latents, times, hidden text, pooled text and image embeddings."""
    generator = torch.Generator().manual_seed(1)

    def unit(*shape):
        return torch.randn(shape, generator=generator)

    times = torch.tensor([0.99358, 0.37, 0.0021])[:batch]
    latents = unit(batch, size.get("channels", 16), height, width)
    return latents, times, unit(batch, 9, TEXT), unit(batch, 1, POOLED), unit(batch, images, IMAGE)


def stage_b_inputs(size, batch=2, height=26, width=38):
    """Noisy latents, times, pooled text and Stage C latents."""
    generator = torch.Generator().manual_seed(2)

    def unit(*shape):
        return torch.randn(shape, generator=generator)

    times = torch.tensor([0.99358, 0.37, 0.0021])[:batch]
    return (
        unit(batch, 4, height, width),
        times,
        unit(batch, 1, POOLED),
        unit(batch, size.get("effnet", 16), 5, 7),
    )
