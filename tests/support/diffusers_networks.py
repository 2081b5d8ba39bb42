"""Stage B and Stage C of any size in diffusers' classes."""

from diffusers.models.unets.unet_stable_cascade import StableCascadeUNet
from trunk_sizes import IMAGE, POOLED, TEXT, heads

KINDS = {"C": "SDCascadeResBlock", "T": "SDCascadeTimestepBlock", "A": "SDCascadeAttnBlock"}


def trunk_arguments(size):
    # diffusers builds blocks of the kinds named for a level, "CTACT" among them, one after the other.
    return {
        "conditioning_dim": size["c_cond"],
        "block_out_channels": size["c_hidden"],
        "num_attention_heads": heads(size, none=0),
        "down_num_layers_per_block": size["blocks"][0],
        "up_num_layers_per_block": size["blocks"][1],
        "down_blocks_repeat_mappers": size["repeats"][0],
        "up_blocks_repeat_mappers": size["repeats"][1],
        "block_types_per_layer": [[KINDS[kind] for kind in unit] for unit in size["units"]],
        "timestep_conditioning_type": size["t_conds"],
        "timestep_ratio_embedding_dim": size.get("c_r", 64),
        "clip_text_pooled_in_channels": POOLED,
        "clip_seq": size.get("clip_seq", 4),
        "kernel_size": size.get("kernel_size", 3),
        "dropout": [0.0] * len(size["c_hidden"]),
    }


def prior(size):
    return StableCascadeUNet(
        in_channels=size.get("channels", 16), out_channels=size.get("channels", 16), patch_size=1,
        clip_text_in_channels=TEXT, clip_image_in_channels=IMAGE,
        switch_level=[False] * (len(size["c_hidden"]) - 1), **trunk_arguments(size),
    )  # fmt: skip


def decoder(size):
    return StableCascadeUNet(
        in_channels=4, out_channels=4, patch_size=2, effnet_in_channels=size.get("effnet", 16),
        pixel_mapper_in_channels=3, switch_level=None, **trunk_arguments(size),
    )  # fmt: skip
