"""Pictures larger than the networks were trained for, and steps that take less time."""

from __future__ import annotations

from . import host
from .host import io

CATEGORY = "cascade/adapt"
PIXELS_TO_A_CELL = 4


class CascadeTileDecoder(io.ComfyNode):
    """See ``host.in_windows``."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """What the node looks like."""
        return io.Schema(
            node_id="CascadeTileDecoder",
            display_name="Tile Stage B (Cascade)",
            category=CATEGORY,
            search_aliases=["tiled diffusion", "stage b tiles", "large pictures", "4k"],
            description=(
                "Lets Stage B draw in overlapping tiles, each with its part of Stage C's latents: for "
                "pictures that do not fit into memory whole. Up to that size leave it out: Stage B computes "
                "wide layers in parts by itself, with an exact result, and tiles are not exact."
            ),
            inputs=[
                io.Model.Input("stage_b", tooltip="Stage B, from Load Stage B (Cascade)."),
                io.Int.Input(
                    "tile", default=2048, min=512, max=8192, step=64, tooltip="Side of a tile in pixels."
                ),
                io.Int.Input(
                    "overlap", default=256, min=0, max=1024, step=64,
                    tooltip="Pixels by which tiles overlap and fade into each other, at least.",
                ),
            ],
            outputs=[io.Model.Output(display_name="stage_b", tooltip="Stage B that draws in tiles.")],
        )  # fmt: skip

    @classmethod
    def execute(cls, stage_b: io.Model.Type, tile: int, overlap: int) -> io.NodeOutput:
        """The MODEL."""
        if overlap >= tile:
            raise ValueError(f"tiles of {tile} pixels cannot overlap by {overlap}: choose a smaller overlap")
        return io.NodeOutput(host.in_windows(stage_b, tile // PIXELS_TO_A_CELL, overlap // PIXELS_TO_A_CELL))


class CascadeGuideLargeForms(io.ComfyNode):
    """See ``host.with_large_forms``."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """What the node looks like."""
        return io.Schema(
            node_id="CascadeGuideLargeForms",
            display_name="Guide Large Forms (Cascade)",
            category=CATEGORY,
            search_aliases=["2k", "4k", "high resolution", "ultrapixel", "hires fix", "repeated objects"],
            description=(
                "Stage C repeats objects in pictures much larger than it was trained on. Sample it at its "
                "own size first and wire the result here: its large forms lead the first part of the large "
                "run, which adds what is finer."
            ),
            inputs=[
                io.Model.Input("stage_c", tooltip="Stage C for the large run."),
                io.Latent.Input("guide", tooltip="Stage C latents of a small run, of the same proportions."),
                io.Float.Input(
                    "strength", default=1.0, min=0.0, max=1.0, step=0.05,
                    tooltip="At 1 the large forms are the small run's, at 0 it does nothing.",
                ),
                io.Float.Input(
                    "end_percent", default=0.6, min=0.0, max=1.0, step=0.05,
                    tooltip="Share of the noise schedule after which the large run is left alone.",
                ),
            ],
            outputs=[io.Model.Output(display_name="stage_c", tooltip="Stage C that follows the guide.")],
        )  # fmt: skip

    @classmethod
    def execute(
        cls, stage_c: io.Model.Type, guide: io.Latent.Type, strength: float, end_percent: float
    ) -> io.NodeOutput:
        """The MODEL."""
        latents = guide["samples"]
        wanted = host.traits(stage_c).channels
        if latents.shape[1] != wanted:
            raise ValueError(
                f"the guide has {latents.shape[1]} channels and this model's latents have {wanted}: wire the "
                "Stage C latents of a sampler here"
            )
        return io.NodeOutput(host.with_large_forms(stage_c, latents, strength, end_percent))


class CascadeReuseBlocks(io.ComfyNode):
    """See ``host.reusing``."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """What the node looks like."""
        return io.Schema(
            node_id="CascadeReuseBlocks",
            display_name="Reuse Deep Blocks (Cascade)",
            category=CATEGORY,
            search_aliases=["step cache", "deepcache", "teacache", "faster", "speed"],
            description=(
                "Computes the deepest level of Stage C, most of its work, in some steps only and reuses what "
                "it did in the others. Faster, and an approximation: the picture changes."
            ),
            inputs=[
                io.Model.Input("stage_c", tooltip="Stage C, from Load Stage C (Cascade)."),
                io.Int.Input(
                    "every", default=2, min=1, max=8,
                    tooltip="Compute the level in every so many steps; 1 computes it in all of them.",
                ),
                io.Float.Input(
                    "start_percent", default=0.1, min=0.0, max=1.0, step=0.05,
                    tooltip="Share of the noise schedule before which every step computes it.",
                ),
                io.Float.Input(
                    "end_percent", default=0.9, min=0.0, max=1.0, step=0.05,
                    tooltip="Share of the noise schedule after which every step computes it.",
                ),
            ],
            outputs=[io.Model.Output(display_name="stage_c", tooltip="Stage C that reuses deep blocks.")],
        )  # fmt: skip

    @classmethod
    def execute(
        cls, stage_c: io.Model.Type, every: int, start_percent: float, end_percent: float
    ) -> io.NodeOutput:
        """The MODEL."""
        return io.NodeOutput(host.reusing(stage_c, every, start_percent, end_percent))


class CascadeDownsampleKeys(io.ComfyNode):
    """See ``host.with_fewer_keys``."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """What the node looks like."""
        return io.Schema(
            node_id="CascadeDownsampleKeys",
            display_name="Downsample Keys (Cascade)",
            category=CATEGORY,
            search_aliases=["token merging", "tome", "token downsampling", "faster", "4k", "speed"],
            description=(
                "Lets every cell attend to averages of squares of cells. The 3.6B Stage C then takes a fifth "
                "fewer operations at 2048 pixels, and nearly half at 4096. An approximation: the picture "
                "changes."
            ),
            inputs=[
                io.Model.Input("model", tooltip="Stage C or Stage B, from its loader."),
                io.Int.Input(
                    "max_cells", default=1024, min=64, max=65536, step=64,
                    tooltip="Maps of more cells are averaged until there are no more than these to attend "
                    "to. At 1024x1024 pixels Stage C has 576 cells and Stage B 1024: nothing changes there.",
                ),
            ],
            outputs=[io.Model.Output(display_name="model", tooltip="The stage with fewer keys.")],
        )  # fmt: skip

    @classmethod
    def execute(cls, model: io.Model.Type, max_cells: int) -> io.NodeOutput:
        """The MODEL."""
        return io.NodeOutput(host.with_fewer_keys(model, max_cells))
