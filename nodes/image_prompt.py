"""Pictures as prompts: beside the text in a CONDITIONING, and as attention of their own in a MODEL."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from ..conditioning.image import TOGETHER
from . import check
from .host import fingerprint, io
from .host.image_adapter import (
    FOLDER,
    image_adapter_choices,
    open_image_adapter,
    path_of_image_adapter,
    with_image_adapter,
)
from .host.image_prompt import (
    empty_prompt,
    encode_images,
    not_wired,
    with_as_many_zeros,
    with_image_prompts,
)

MOST_IMAGES = 16

NO_NEGATIVE = (
    "the negative output of Image Prompt (Cascade) is used, but nothing was wired to make it of: wire the "
    "negative prompt into it, or the CLIP of Load Text Encoder (Cascade) for an empty one"
)

ImageAdapterSocket = io.Custom("CASCADE_IMAGE_ADAPTER")


def _images(tooltip: str) -> Any:
    template = io.Autogrow.TemplatePrefix(
        io.Image.Input("image", tooltip="A picture of any size, or a batch of them."),
        prefix="image", min=1, max=MOST_IMAGES,
    )  # fmt: skip
    return io.Autogrow.Input("images", template=template, tooltip=tooltip)


def _crop() -> Any:
    return io.Combo.Input(
        "crop",
        options=["center", "none"],
        advanced=True,
        tooltip="`center` shows the encoder the middle square of each picture, as the reference does; `none` "
        "stretches it to a square.",
    )


class CascadeImagePrompt(io.ComfyNode):
    """Pictures beside the text of a prompt."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="CascadeImagePrompt",
            display_name="Image Prompt (Cascade)",
            category="cascade/condition",
            search_aliases=["unclip", "unCLIPConditioning", "clip vision", "image variation", "variations"],
            description="Shows Stage C one or more pictures beside the text, or instead of it, for "
            "variations and mixtures of them. What it makes is what CLIP Vision Encode and "
            "unCLIPConditioning make.",
            inputs=[
                io.ClipVision.Input(
                    "clip_vision", tooltip="The image encoder of Load Image Encoder (Cascade)."
                ),
                _images("Pictures to show; a new socket appears with every one that is wired."),
                io.String.Input(
                    "weights",
                    default="1",
                    tooltip="How strongly each picture counts: one number for all, or one for each with "
                    "commas between. 1 is as trained, 0 leaves a picture out, below 0 leads away from it.",
                ),
                io.Combo.Input(
                    "together",
                    options=list(TOGETHER),
                    tooltip="`concatenate` shows every picture in its own tokens, `average` one mean of "
                    "them: the first mixes what is in them, the second what they are like.",
                ),
                io.Float.Input(
                    "noise",
                    default=0.0,
                    min=0.0,
                    max=1.0,
                    step=0.01,
                    tooltip="Share of noise in the pictures' embeddings, from the sampler's seed: more "
                    "leaves more to chance. The noise_augmentation of unCLIPConditioning.",
                ),
                _crop(),
                io.Conditioning.Input(
                    "conditioning",
                    optional=True,
                    tooltip="The text, and pictures that it already has; without it an empty text.",
                ),
                io.Conditioning.Input(
                    "negative",
                    optional=True,
                    tooltip="The negative prompt, to get as many pictures of nothing; with one picture it "
                    "needs none.",
                ),
                io.Clip.Input(
                    "clip", optional=True, tooltip="Encodes the empty text where no conditioning is wired."
                ),
            ],
            outputs=[
                io.Conditioning.Output(
                    display_name="conditioning", tooltip="The positive of both stages' samplers."
                ),
                io.Conditioning.Output(
                    display_name="negative", tooltip="The negative of both stages' samplers."
                ),
            ],
        )

    @classmethod
    def execute(
        cls,
        clip_vision: Any,
        images: dict[str, Tensor],
        weights: str,
        together: str,
        noise: float,
        crop: str,
        conditioning: list | None = None,
        negative: list | None = None,
        clip: Any = None,
    ) -> io.NodeOutput:
        """Both prompts, the positive with the pictures."""
        shown = [image for image in images.values() if image is not None]
        factors = check.numbers(weights, len(shown), "weights")
        positive = _text(conditioning, clip)
        outputs = [encode_images(clip_vision, image, crop == "center") for image in shown]
        positive = with_image_prompts(positive, outputs, factors, together, noise)
        if negative is None and clip is None:
            return io.NodeOutput(positive, not_wired(NO_NEGATIVE))
        negative = empty_prompt(clip) if negative is None else negative
        return io.NodeOutput(positive, with_as_many_zeros(negative, positive))


def _text(conditioning: list | None, clip: Any) -> list:
    """The text; an empty one where none is wired."""
    if conditioning is not None:
        return conditioning
    if clip is None:
        raise ValueError(
            "Image Prompt (Cascade) was given neither a conditioning nor a clip, and Stage C needs a text, "
            "if only an empty one: wire the CLIP of Load Text Encoder (Cascade), or an encoded prompt"
        )
    return empty_prompt(clip)


class CascadeLoadImageAdapter(io.ComfyNode):
    """An image adapter from a file."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="CascadeLoadImageAdapter",
            display_name="Load Image Adapter (Cascade)",
            category="cascade/load",
            search_aliases=["ip adapter", "ipadapter", "image prompt"],
            description="Loads an image adapter, with which Stage C looks at pictures beside its prompt.",
            inputs=[
                io.Combo.Input(
                    "file",
                    options=image_adapter_choices(),
                    tooltip=f"An adapter as safetensors, from models/{FOLDER}, trained on the Stage C that "
                    "it is used with.",
                )
            ],
            outputs=[
                ImageAdapterSocket.Output(
                    display_name="image_adapter", tooltip="For Apply Image Adapter (Cascade)."
                )
            ],
        )

    @classmethod
    def execute(cls, file: str) -> io.NodeOutput:
        """The adapter."""
        return io.NodeOutput(open_image_adapter(path_of_image_adapter(file)))

    @classmethod
    def fingerprint_inputs(cls, file: str) -> tuple:
        """Changes when the file is replaced."""
        return fingerprint(path_of_image_adapter(file))


class CascadeApplyImageAdapter(io.ComfyNode):
    """Stage C that also looks at pictures."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="CascadeApplyImageAdapter",
            display_name="Apply Image Adapter (Cascade)",
            category="cascade/adapt",
            search_aliases=["ip adapter", "ipadapter", "style transfer", "image prompt"],
            description="Lets Stage C look at pictures beside its prompt, as strongly, as long and where it "
            "is told; several of these nodes add up.",
            inputs=[
                io.Model.Input("model", tooltip="The MODEL of Load Stage C (Cascade)."),
                ImageAdapterSocket.Input("image_adapter", tooltip="Of Load Image Adapter (Cascade)."),
                io.ClipVision.Input(
                    "clip_vision", tooltip="The image encoder that the adapter was trained with."
                ),
                io.Image.Input("image", tooltip="A picture of any size; all of a batch are seen together."),
                io.Float.Input(
                    "scale",
                    default=1.0,
                    min=-5.0,
                    max=5.0,
                    step=0.05,
                    tooltip="How strongly the pictures count: 1 is as trained, 0 changes nothing.",
                ),
                io.Float.Input(
                    "start_percent",
                    default=0.0,
                    min=0.0,
                    max=1.0,
                    step=0.01,
                    tooltip="Share of the sampling after which they begin to count.",
                ),
                io.Float.Input(
                    "end_percent",
                    default=1.0,
                    min=0.0,
                    max=1.0,
                    step=0.01,
                    tooltip="Share of the sampling after which they count no more.",
                ),
                _crop(),
                io.Mask.Input(
                    "region",
                    optional=True,
                    tooltip="Where they count, 1 for fully, of any size; without it everywhere.",
                ),
            ],
            outputs=[io.Model.Output(display_name="model", tooltip="For Stage C's sampler.")],
        )

    @classmethod
    def execute(
        cls,
        model: Any,
        image_adapter: Any,
        clip_vision: Any,
        image: Tensor,
        scale: float,
        start_percent: float,
        end_percent: float,
        crop: str,
        region: Tensor | None = None,
    ) -> io.NodeOutput:
        """The model with the pictures' attention."""
        embeds = encode_images(clip_vision, image, crop == "center").image_embeds
        if region is not None:
            region = region.reshape(-1, *region.shape[-2:])
        percents = (start_percent, end_percent)
        return io.NodeOutput(with_image_adapter(model, image_adapter, embeds, scale, percents, region))
