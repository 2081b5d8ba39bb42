"""Sizes of the small cascade. The networks are those of the released one; only the numbers differ."""

from __future__ import annotations

from transformers import CLIPTextConfig, CLIPTextModelWithProjection

from ..layers.trunk import Level, TrunkConfig
from ..stage_a import StageAConfig
from ..stage_b import StageBConfig
from ..stage_c import StageCConfig
from ..stage_c.coder import EncoderStage, PreviewerConfig, SemanticEncoderConfig
from .words import END_ROW, POSITIONS, TOKEN_IDS

HEAD_WIDTH = 32
TEXT_WIDTH = 128
IMAGE_WIDTH = 64
SEMANTIC_CELLS = 12
"""Stage C cells along the side of a 256-pixel picture: compression 21.33."""

ENCODER_PIXELS = 192
"""Side at which the semantic encoder sees a picture: 16 pixels a cell."""

STAGE_A = StageAConfig(widths=(32, 64), c_hidden=(64, 128), bottleneck_blocks=4, channels=4, codebook_size=0)

SEMANTIC_ENCODER = SemanticEncoderConfig(
    stages=(
        EncoderStage(True, 1, 3, 1, 16, 16, 1),
        EncoderStage(True, 2, 3, 2, 16, 32, 2),
        EncoderStage(True, 2, 3, 2, 32, 64, 2),
        EncoderStage(False, 4, 3, 2, 64, 96, 2),
        EncoderStage(False, 4, 3, 1, 96, 128, 2),
    ),
    c_last=256,
    channels=16,
)

PREVIEWER = PreviewerConfig(
    ((1, 16, 128), (3, 128, 128), (2, 128, 64), (3, 64, 64), (2, 64, 48), (3, 48, 48), (2, 48, 24),
     (3, 24, 24), (1, 24, 3))
)  # fmt: skip

STAGE_C = StageCConfig(
    trunk=TrunkConfig(
        down=(Level(128, "CTA", 1, 1, 0), Level(128, "CTA", 2, 1, 0)),
        up=(Level(128, "CTA", 2, 1, 0), Level(128, "CTA", 1, 1, 128)),
        c_cond=128, c_r=64, t_conds=("sca", "crp"), kernel_size=3, transition="pointwise",
        head_width=HEAD_WIDTH, switch_level=(False,),
    ),
    channels=16, c_text=TEXT_WIDTH, c_pooled=TEXT_WIDTH, c_image=IMAGE_WIDTH, c_clip_seq=4,
)  # fmt: skip

STAGE_B = StageBConfig(
    trunk=TrunkConfig(
        down=(Level(48, "CT", 1, 1, 0), Level(96, "CT", 2, 1, 0), Level(128, "CTA", 2, 1, 0),
              Level(128, "CTA", 1, 1, 0)),
        up=(Level(128, "CTA", 1, 1, 0), Level(128, "CTA", 2, 1, 128), Level(96, "CT", 2, 1, 96),
            Level(48, "CT", 1, 1, 48)),
        c_cond=128, c_r=64, t_conds=("sca",), kernel_size=3, transition="strided",
        head_width=HEAD_WIDTH, switch_level=(False,) * 3,
    ),
    channels=4, patch_size=2, c_pooled=TEXT_WIDTH, c_clip_seq=4, c_semantic=16, c_semantic_hidden=128,
    c_pixels=3, c_pixels_hidden=64,
)  # fmt: skip


def text_encoder() -> CLIPTextModelWithProjection:
    """A CLIP text tower over the words of the captions."""
    return CLIPTextModelWithProjection(
        CLIPTextConfig(
            vocab_size=len(TOKEN_IDS), hidden_size=TEXT_WIDTH, intermediate_size=TEXT_WIDTH * 4,
            projection_dim=TEXT_WIDTH, num_hidden_layers=2, num_attention_heads=TEXT_WIDTH // 64,
            max_position_embeddings=POSITIONS, hidden_act="gelu", eos_token_id=END_ROW,
            bos_token_id=END_ROW - 1, pad_token_id=END_ROW,
        )
    )  # fmt: skip
