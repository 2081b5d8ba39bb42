"""Guidance as the host's GUIDER."""

from __future__ import annotations

from typing import Any

import comfy.samplers
import node_helpers
from torch import Tensor

from ...samplers.guidance import EMPTY, NEGATIVE, POSITIVE, TEXT, Guidance, plain
from ...samplers.schedule import logsnr_of_sigma, schedule_time


class Guider(comfy.samplers.CFGGuider):
    """Predictions of one model, combined by a ``Guidance``.

    Args:
        model: a MODEL.
        guidance: how.
        prompts: CONDITIONING by the names of predictions; without a negative one there is no guidance.
    """

    def __init__(self, model: Any, guidance: Guidance, prompts: dict[str, list]):
        super().__init__(model)
        self.guidance = guidance
        self.set_cfg(guidance.cfg)
        if guidance.cfg_image is not None:
            prompts = {**prompts, TEXT: _without_images(prompts[POSITIVE])}
        if EMPTY in prompts:
            # To Stage B, whose map is zeros without a prompt, it is one of the negatives.
            as_negative = {"prompt_type": NEGATIVE}
            prompts = {**prompts, EMPTY: node_helpers.conditioning_set_values(prompts[EMPTY], as_negative)}
        self.inner_set_conds(prompts)

    def predict_noise(
        self,
        x: Tensor,
        timestep: Tensor,
        model_options: dict[str, Any] | None = None,
        seed: int | None = None,
    ) -> Tensor:
        """The clean estimate, by the host's function, so that the patches of other nodes work here too.

        At a scale of 1 the host leaves the negative prediction out.
        """
        options, guidance = model_options or {}, self.guidance
        shift = getattr(self.inner_model.model_sampling, "shift", 1.0)
        t = schedule_time(logsnr_of_sigma(timestep[0].cpu()), shift).item()
        needed = guidance.needed(t)
        scale = guidance.scale(t)
        if len(needed) > 1 and not self._is_plain():
            options = {**options, "sampler_cfg_function": self._combine(t, needed)}
            if scale == 1:
                options["disable_cfg1_optimization"] = True
        return comfy.samplers.sampling_function(
            self.inner_model, x, timestep, self.conds.get(NEGATIVE), self.conds[POSITIVE], scale,
            model_options=options, seed=seed,
        )  # fmt: skip

    def _is_plain(self) -> bool:
        """Whether the host's own formula does, which nodes like Rescale CFG replace."""
        guidance = self.guidance
        others = guidance.rho or guidance.negative_strength is not None or guidance.cfg_image is not None
        return guidance.method is plain and not others

    def _combine(self, t: float, needed: tuple[str, ...]) -> Any:
        more = [name for name in needed if name not in (POSITIVE, NEGATIVE)]

        def combine(args: dict[str, Any]) -> Tensor:
            x, sigma, options = args["input"], args["sigma"], args["model_options"]
            noises = {POSITIVE: args["cond"], NEGATIVE: args["uncond"]}
            if more:
                prompts = [self.conds[name] for name in more]
                found = comfy.samplers.calc_cond_batch(self.inner_model, prompts, x, sigma, options)
                noises |= {name: x - clean for name, clean in zip(more, found, strict=True)}
            return self.guidance(x, t, noises)

        return combine


def _without_images(conditioning: list) -> list:
    """A CONDITIONING without its image prompts."""
    return [
        [text, {name: value for name, value in entries.items() if name != "unclip_conditioning"}]
        for text, entries in conditioning
    ]
