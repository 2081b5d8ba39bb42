"""The nodes; ComfyUI itself is touched in ``nodes/host`` alone."""

from .adapt import CascadeCreateHookLora, CascadeLoadLora
from .checkpoint import CascadeLoadCheckpoint, CascadeLoadPipeline
from .condition import CascadeDecoderConditioning
from .control import CascadeApplyControlNet, CascadeLoadControlNet
from .example import CascadeExamplePicture
from .hint import (
    CascadeDetectFaces,
    CascadeHintCanny,
    CascadeHintIdentity,
    CascadeHintInpaint,
    CascadeHintSuperResolution,
)
from .host import ComfyExtension, io
from .image import CascadeFitImage, CascadeMaskLatents
from .image_prompt import CascadeApplyImageAdapter, CascadeImagePrompt, CascadeLoadImageAdapter
from .inspect import CascadeIdentify
from .large import CascadeDownsampleKeys, CascadeGuideLargeForms, CascadeReuseBlocks, CascadeTileDecoder
from .latent import CascadeEmptyLatents, CascadeEncodeImage, CascadePreviewLatent
from .load import (
    CascadeLoadImageEncoder,
    CascadeLoadSemanticEncoder,
    CascadeLoadStageA,
    CascadeLoadStageB,
    CascadeLoadStageC,
    CascadeLoadTextEncoder,
)
from .preset import CascadeSamplingPreset
from .resolution import CascadePickResolution
from .sample import CascadeSampler
from .sampling import CascadeGuider, CascadeNoise, CascadeSamplerSelect, CascadeScheduler
from .save import CascadeSaveStage

NODE_CLASS_MAPPINGS: dict[str, type[io.ComfyNode]] = {
    node.__name__: node
    for node in [
        CascadeLoadPipeline,
        CascadeLoadStageA,
        CascadeLoadStageB,
        CascadeLoadStageC,
        CascadeLoadTextEncoder,
        CascadeLoadImageEncoder,
        CascadeLoadSemanticEncoder,
        CascadeLoadImageAdapter,
        CascadeLoadCheckpoint,
        CascadeLoadControlNet,
        CascadeLoadLora,
        CascadeCreateHookLora,
        CascadeSaveStage,
        CascadeIdentify,
        CascadeExamplePicture,
        CascadePickResolution,
        CascadeEmptyLatents,
        CascadeEncodeImage,
        CascadePreviewLatent,
        CascadeFitImage,
        CascadeMaskLatents,
        CascadeImagePrompt,
        CascadeApplyImageAdapter,
        CascadeDecoderConditioning,
        CascadeApplyControlNet,
        CascadeHintCanny,
        CascadeHintInpaint,
        CascadeHintSuperResolution,
        CascadeDetectFaces,
        CascadeHintIdentity,
        CascadeTileDecoder,
        CascadeGuideLargeForms,
        CascadeReuseBlocks,
        CascadeDownsampleKeys,
        CascadeSampler,
        CascadeScheduler,
        CascadeSamplerSelect,
        CascadeGuider,
        CascadeNoise,
        CascadeSamplingPreset,
    ]
}
"""The nodes by id. Tools that read a pack without running it look for this name and a list written out."""


class CascadeExtension(ComfyExtension):
    """What ComfyUI asks for the nodes."""

    async def get_node_list(self) -> list[type[io.ComfyNode]]:
        """Every node of the pack."""
        return [*NODE_CLASS_MAPPINGS.values()]
