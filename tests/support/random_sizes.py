"""Hypothesis strategies: every part of the cascade in random sizes, as weights under our names."""

import itertools
import json

import torch
from comfyui_cascade.checkpoints.identify import Part
from comfyui_cascade.checkpoints.open import NETWORKS
from comfyui_cascade.conditioning.image import ImageEncoderConfig
from comfyui_cascade.conditioning.text import TextEncoderConfig
from comfyui_cascade.layers.trunk import Level, TrunkConfig
from comfyui_cascade.stage_a import StageAConfig
from comfyui_cascade.stage_b import StageBConfig
from comfyui_cascade.stage_c import StageCConfig
from comfyui_cascade.stage_c.coder import EncoderStage, PreviewerConfig, SemanticEncoderConfig
from hypothesis import strategies as st

HEAD = 4
small = st.integers(1, 6)
widths = st.integers(1, 3).map(lambda n: HEAD * n)
kernels = st.sampled_from([3, 5])
eights = st.sampled_from([8, 16])
"""Channels that torchvision's EfficientNet does not round."""


@st.composite
def trunks(draw, transition):
    count = draw(st.integers(2, 3))  # of one level nothing tells how the next would be reached
    sizes = [draw(widths) for _ in range(count)]
    units = [*(draw(st.sampled_from(["CT", "CTA"])) for _ in range(count - 1)), "CTA"]
    pairs = list(zip(sizes, units, strict=True))
    down = tuple(
        Level(width, unit, draw(st.integers(1, 2)), draw(st.integers(1, 2)), 0) for width, unit in pairs
    )
    up = tuple(
        Level(width, unit, draw(st.integers(1, 2)), draw(st.integers(1, 2)), width if i else 0)
        for i, (width, unit) in enumerate(reversed(pairs))
    )
    return TrunkConfig(
        down=down,
        up=up,
        c_cond=draw(widths),
        c_r=2 * draw(small),
        t_conds=draw(st.sampled_from([(), ("sca",), ("sca", "crp")])),
        kernel_size=draw(kernels),
        transition=transition,
        head_width=HEAD,
        switch_level=(False,) * (count - 1),
    )


stages_c = st.builds(
    StageCConfig,
    trunk=trunks("pointwise"), channels=small, c_text=small, c_pooled=small, c_image=small, c_clip_seq=small,
)  # fmt: skip

stages_b = st.builds(
    StageBConfig,
    trunk=trunks("strided"), channels=small, patch_size=st.just(2), c_pooled=small, c_clip_seq=small,
    c_semantic=small, c_semantic_hidden=small, c_pixels=small, c_pixels_hidden=small,
)  # fmt: skip


@st.composite
def stages_a(draw):
    count = draw(st.integers(1, 3))
    return StageAConfig(
        widths=tuple(draw(small) for _ in range(count)),
        c_hidden=tuple(draw(small) for _ in range(count)),
        bottleneck_blocks=draw(st.integers(1, 3)),
        channels=draw(small),
        codebook_size=draw(st.integers(0, 5)),
        kernel_size=draw(kernels),
    )


@st.composite
def previewers(draw):
    channels = [draw(small) for _ in range(draw(st.integers(2, 5)))] + [3]
    pairs = itertools.pairwise(channels)
    return PreviewerConfig(tuple((draw(st.sampled_from([1, 2, 3])), c_in, c_out) for c_in, c_out in pairs))


@st.composite
def semantic_encoders(draw):
    c_in, stages = draw(eights), []
    for _ in range(draw(st.integers(1, 3))):
        c_out = draw(eights)
        ratio = draw(st.sampled_from([1, 2]))
        stages.append(
            EncoderStage(True, ratio, 3, draw(st.integers(1, 2)), c_in, c_out, draw(st.integers(1, 2)))
        )
        c_in = c_out
    return SemanticEncoderConfig(tuple(stages), draw(small), draw(small), draw(st.integers(1, 2)))


text_encoders = st.builds(
    TextEncoderConfig,
    width=st.just(2 * HEAD), depth=st.integers(1, 2), c_hidden=small, heads=st.just(2), positions=small,
    vocabulary=st.integers(4, 9), c_pooled=small,
)  # fmt: skip

image_encoders = st.builds(
    ImageEncoderConfig,
    width=st.just(2 * HEAD), depth=st.integers(1, 2), c_hidden=small, heads=st.just(2),
    patch_size=st.just(2), image_size=st.just(6), channels=small,
)  # fmt: skip

CONFIGS = {
    Part.STAGE_A: stages_a(),
    Part.STAGE_B: stages_b,
    Part.STAGE_C: stages_c,
    Part.SEMANTIC_ENCODER: semantic_encoders(),
    Part.PREVIEWER: previewers(),
    Part.TEXT_ENCODER: text_encoders,
    Part.IMAGE_ENCODER: image_encoders,
}


@st.composite
def parts(draw, kinds=tuple(CONFIGS)):
    """A part, its configuration, random weights under our names, and the metadata it needs."""
    part = draw(st.sampled_from(kinds))
    config = draw(CONFIGS[part])
    with torch.device("meta"):
        expected = NETWORKS[part][0](config).state_dict()
    generator = torch.Generator().manual_seed(draw(st.integers(0, 2**31)))
    weights = {
        key: torch.randn(value.shape, generator=generator) if value.is_floating_point() else torch.tensor(7)
        for key, value in expected.items()
        if not key.endswith("position_ids")
    }
    metadata = {"cascade.part": part.value, "cascade.head_dim": str(HEAD)}
    if part is Part.SEMANTIC_ENCODER:
        strides = [config.stem_stride, *(stage.stride for stage in config.stages)]
        metadata["cascade.strides"] = json.dumps(strides)
    return part, config, weights, metadata
