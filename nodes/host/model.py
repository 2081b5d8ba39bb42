"""Stage B and Stage C as the host's MODEL.

The classes below derive from the host's own cascade models and skip their constructors: LoRA loaders ask for
those types, and nothing else of them fits other sizes.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import comfy.model_management
import comfy.model_patcher
import comfy.supported_models
import comfy.utils
import torch
from comfy.conds import CONDNoiseShape, CONDRegular
from comfy.model_base import BaseModel, ModelType, StableCascade_B, StableCascade_C
from torch import Tensor, nn

from ...checkpoints.identify import Part
from ...checkpoints.recorded import Recorded
from ...layers.blocks import WIDENING
from ...layers.walk import keys_values
from ...samplers.target import TARGETS, reread
from .. import check
from .files import Contents, noted, notes_in, read_part
from .image_prompt import ENTRY as IMAGE_PROMPTS
from .image_prompt import image_prompts
from .messages import say
from .networks import LIVE_ACTIVATIONS, LIVE_MAPS, HostStageB, HostStageC, activation_bytes
from .precision import DEFAULT, Precision, precision
from .sampling import CascadeSampling


class MapCond(CONDNoiseShape):
    """What is added to the input of Stage B, ``b h w c`` with one value for a patch of latent cells."""

    patch = 2

    def process_cond(self, batch_size: int, area: list[int] | None, **_: Any) -> MapCond:
        """The part of the map under an area of the latents, for a batch.

        Args:
            batch_size: to repeat the map to.
            area: height, width, top and left in latent cells; None for everything.
        """
        part = self.cond
        if area is not None:
            check.even_area(area)
            height, width, top, left = (side // self.patch for side in area)
            part = part[:, top : top + height, left : left + width]
        return self._copy_with(comfy.utils.repeat_to_batch_size(part, batch_size))


class KeysCond(CONDRegular):
    """Keys and values of a prompt in every attention block, ``b n k``.

    One prompt for all pictures of a batch stays one row, because they take much memory: 45 MB for the 3.6B.
    """

    def __init__(self, cond: Tensor, batch_size: int = 1):
        super().__init__(cond)
        self.batch_size = batch_size

    def process_cond(self, batch_size: int, **_: Any) -> KeysCond:
        """For a batch."""
        rows = self.cond if len(self.cond) == 1 else comfy.utils.repeat_to_batch_size(self.cond, batch_size)
        return KeysCond(rows, batch_size)

    def can_concat(self, other: KeysCond) -> bool:
        """Prompts of one length go together."""
        return self.cond.shape[1:] == other.cond.shape[1:] and self.cond.device == other.cond.device

    def concat(self, others: Sequence[KeysCond]) -> Tensor:
        """Rows that each stand for as many pictures."""
        every = [self, *others]
        if len({len(one.cond) for one in every}) == 1:
            return torch.cat([one.cond for one in every])
        return torch.cat([comfy.utils.repeat_to_batch_size(one.cond, one.batch_size) for one in every])


class _Cascade:
    """What Stage B and Stage C have in common as the host's models; ``begin`` is their constructor."""

    def begin(self, network: type[nn.Module], contents: Contents, host_config: Any) -> None:
        """Build the network, empty, and everything the host asks a model for."""
        # The host fills the table of cascade's noise levels one by one; this type's is cheap, and replaced.
        BaseModel.__init__(self, host_config, ModelType.EPS, unet_model=network)
        self.model_type = ModelType.STABLE_CASCADE
        self.model_sampling = CascadeSampling(host_config)
        self.cascade = contents.recorded
        self.notes = {contents.part.value: notes_in(contents.header)}

    def state_dict_for_saving(self, *args: Any, **kwargs: Any) -> dict[str, Tensor]:
        """See the host, whose saving nodes drop our metadata: it goes along as a tensor."""
        return super().state_dict_for_saving(*args, **kwargs) | noted(self.notes, "model.diffusion_model.")

    def _apply_model(self, x: Tensor, t: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        """The clean estimate.

        To the host every cascade predicts noise: nodes that change the schedule assume so. Where the file
        says otherwise, the prediction is recovered from the host's estimate and read for what it is.
        """
        denoised = super()._apply_model(x, t, *args, **kwargs)
        if self.cascade.prediction == "noise":
            return denoised
        return reread(denoised, x, t.view(-1, 1, 1, 1).to(x), TARGETS[self.cascade.prediction])

    def memory_required(self, input_shape: list[int], cond_shapes: Any = None) -> float:
        """Bytes of activations; where they would be much of the device, what parts of them need."""
        management = comfy.model_management
        fast = activation_bytes(self.diffusion_model.config, input_shape, self.get_dtype_inference())
        in_parts = fast * LIVE_MAPS / WIDENING / LIVE_ACTIVATIONS
        return min(fast, max(in_parts, management.get_total_memory(management.get_torch_device()) / 2))

    def _once(self, compute: Callable[..., Tensor], device: torch.device, *inputs: Tensor) -> Tensor:
        """What does not change over a sampling run, computed where and as precisely as the run computes.

        The host has the model on its device by the time it asks for conditions.
        """
        batch = max(len(tensor) for tensor in inputs)
        dtype = self.get_dtype_inference()
        repeated = (comfy.utils.repeat_to_batch_size(tensor, batch) for tensor in inputs)
        with torch.no_grad():
            return compute(*(tensor.to(device, dtype) for tensor in repeated))

    def _keys(self, tokens: Tensor, told: Mapping[str, Any]) -> dict[str, KeysCond]:
        """What steps need not compute from the tokens; none where a hook may change the weights on the way.

        Args:
            tokens: of a prompt.
            told: what the host tells ``extra_conds``.
        """
        if told.get("hooks") is not None:
            return {}
        with torch.no_grad():
            return {"keys_values": KeysCond(keys_values(self.diffusion_model, tokens))}


class CascadeC(_Cascade, StableCascade_C):
    """Stage C as the host's model."""

    def __init__(self, contents: Contents, host_config: Any):
        self.begin(HostStageC, contents, host_config)

    def extra_conds(self, **kwargs: Any) -> dict[str, CONDRegular]:
        """The prompt's tokens; the host passes all entries of one CONDITIONING and what it samples.

        They are not a cross-attention condition to the host: it would repeat the shorter of two prompts to
        the length of the longer, which changes the attention of cells to cells.
        """
        config = self.diffusion_model.config
        check.latent_channels(kwargs["noise"], config.channels, "Stage C")
        pooled = check.pooled(kwargs.get("pooled_output"), config.c_pooled, "Stage C")
        text = check.text(kwargs.get("cross_attn"), config.c_text)
        image = image_prompts(kwargs.get(IMAGE_PROMPTS), config.c_image, kwargs.get("seed"))
        tokens = self._once(self.diffusion_model.tokens, kwargs["device"], text, pooled, image)
        text = comfy.utils.repeat_to_batch_size(text.to(tokens), len(tokens))
        known = self._keys(tokens, kwargs)
        return {"tokens": CONDRegular(tokens), "text": CONDRegular(text), **known}


class CascadeB(_Cascade, StableCascade_B):
    """Stage B as the host's model."""

    def __init__(self, contents: Contents, host_config: Any):
        self.begin(HostStageB, contents, host_config)
        self.run_told: weakref.ref[Tensor] | None = None

    def extra_conds(self, **kwargs: Any) -> dict[str, CONDRegular]:
        """The prompt's tokens and the map of Stage C's latents.

        A prompt without Stage C latents is an error, except as the negative: there it means zeros, as in the
        reference.
        """
        network, noise, device = self.diffusion_model, kwargs["noise"], kwargs["device"]
        config = network.config
        check.latent_channels(noise, config.channels, "Stage B")
        check.stage_b_cells(noise, config.patch_size, len(config.trunk.down))
        pooled = check.pooled(kwargs.get("pooled_output"), config.c_pooled, "Stage B")
        prior = kwargs.get("stable_cascade_prior")
        if prior is None and kwargs.get("prompt_type") == "negative":
            prior = torch.zeros(1, config.c_semantic, 1, 1)
        else:
            check.prior(prior, noise, config.c_semantic)
            self._tell_compression(noise, prior)
        tokens = self._once(network.tokens, device, pooled)
        cells = self._once(lambda p: network.semantic_map(p, *noise.shape[-2:]), device, prior)
        known = self._keys(tokens, kwargs)
        return {"tokens": CONDRegular(tokens), "semantic_map": MapCond(cells), **known}

    def _tell_compression(self, noise: Tensor, prior: Tensor) -> None:
        """Say once for a run where its compression is unusual; all prompts of a run come with one noise."""
        if self.run_told is None or self.run_told() is not noise:
            self.run_told = weakref.ref(noise)
            compression = check.compression_of_latents(noise, prior)
            check.tell_compression(compression, self.cascade.compression, say)


class Kind(NamedTuple):
    """How one of the stages becomes a MODEL."""

    model: type[BaseModel]
    host_config: type


KINDS = {
    Part.STAGE_B: Kind(CascadeB, comfy.supported_models.Stable_Cascade_B),
    Part.STAGE_C: Kind(CascadeC, comfy.supported_models.Stable_Cascade_C),
}


def load_model(
    path: str | Path, part: Part, weight_dtype: str = DEFAULT, disable_dynamic: bool = False
) -> Any:
    """A MODEL from the file of a Stage B or Stage C, of any size.

    The network is built without storage and takes the file's own memory, which is mapped: a weight is read
    when it is first used or brought to a device. Only where the precision differs is there a copy of it.

    Args:
        path: a safetensors file, of the stage alone or with more in it, or a folder of diffusers.
        part: which stage.
        weight_dtype: one of ``precision.CHOICES``.
        disable_dynamic: what the host passes when it needs weights it can change in place.

    Raises:
        ValueError: the file holds something else, or not all of it.
    """
    contents = read_part(path, part)
    patching = comfy.model_patcher  # the host replaces the class in it when it starts
    patcher_class = patching.ModelPatcher if disable_dynamic else patching.CoreModelPatcher
    load_device = comfy.model_management.get_torch_device()
    offload_device = comfy.model_management.unet_offload_device()
    chosen = precision(weight_dtype, contents.weights, load_device)
    model = KINDS[part].model(contents, host_config(contents, chosen))
    patcher = patcher_class(model, load_device=load_device, offload_device=offload_device)
    streamed = patcher.is_dynamic()  # then the host casts what it brings to the device
    weights = contents.weights if streamed else contents.cast(chosen.kept)
    model.load_model_weights(dict(weights), "", assign=True)
    chosen.tell_host(model.diffusion_model)
    if not streamed:
        model.to(offload_device)
    patcher.cached_patcher_init = (load_model, (path, part, weight_dtype))
    return patcher


def host_config(contents: Contents, chosen: Precision) -> Any:
    """The host's configuration of a cascade model: precision, schedule, latents."""
    made = KINDS[contents.part].host_config({"config": contents.config})
    made.set_inference_dtype(chosen.weights, chosen.compute)
    made.custom_operations = chosen.layers
    if contents.part is Part.STAGE_C:
        made.latent_format.spacial_downscale_ratio = contents.recorded.compression
    preview = contents.recorded.latent_rgb
    if preview is not None:
        made.latent_format.latent_rgb_factors = [list(row) for row in preview.factors]
        made.latent_format.latent_rgb_factors_bias = list(preview.bias)
    return made


class Traits(NamedTuple):
    """What a node may ask about a MODEL, ours or the host's.

    Attributes:
        channels: of its latents.
        compression: pixels per Stage C cell along a side in training.
    """

    channels: int
    compression: float


def traits(model: Any) -> Traits:
    """See ``Traits``; a model of the host's own classes has the released values."""
    recorded = getattr(model.model, "cascade", None) or Recorded()
    return Traits(model.model.latent_format.latent_channels, recorded.compression)
