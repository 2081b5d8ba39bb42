"""The whole cascade, from a prompt to pictures, as the graph draws it and without ComfyUI."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ..adapters.controlnet import ControlNet
from ..checkpoints.identify import Part
from ..latents.geometry import compression_of_small, stage_b_size, stage_c_size
from ..latents.mask import feathered, over_cells
from . import stages
from .control import Control, follow
from .denoise import draw
from .parts import Parts
from .picture import fitted, for_clip, put_back, stretched
from .settings import Settings
from .text import Text, read

SIZE = (256, 256)
"""Of the small cascade's pictures, width and height."""

FEATHER = 8
"""Pixels over which a mask falls off."""

Progress = Callable[[str, int, int, Tensor], None]
"""Told a stage's name, the number of a step that is done, from 1, how many there are, and the step's estimate
of the latents that come out in the end."""

DEFAULTS = Settings()


@dataclass(frozen=True)
class Cascade:
    """Every part of a cascade; make one with ``load``."""

    parts: Parts

    # Prompts -------------------------------------------------------------------------------------------

    def text(self, prompt: str) -> Text:
        """What both stages need of a prompt, and the words of it that are not known."""
        parts = self.parts
        return read(parts.network(Part.TEXT_ENCODER), parts.tokens, parts.ids_of, prompt)

    @torch.inference_mode()
    def embed(self, picture: Tensor) -> Tensor:
        """A picture ``b 3 h w`` as an image prompt, ``b c``."""
        config = self.parts.config(Part.IMAGE_ENCODER)
        pixels = for_clip(picture, config).to(self.parts.device)
        return self.parts.network(Part.IMAGE_ENCODER)(pixel_values=pixels).image_embeds.cpu()

    # Pictures and latents ------------------------------------------------------------------------------

    @torch.inference_mode()
    def encode(self, picture: Tensor, compression: float | None = None) -> Tensor:
        """Stage C's latents of a picture ``b 3 h w``, which is stretched to whole cells.

        Args:
            picture: of any size from 64 pixels.
            compression: pixels to a cell along a side; None for what the encoder was trained at.
        """
        height, width = picture.shape[-2:]
        network = self.parts.network(Part.SEMANTIC_ENCODER)
        trained = self.parts.recorded(Part.SEMANTIC_ENCODER).compression
        cells = stage_c_size(width, height, compression or trained)
        pixels = stretched(picture, *(side * network.config.downscale for side in cells))
        return network(pixels.to(self.parts.device)).cpu()

    @torch.inference_mode()
    def encode_details(self, picture: Tensor) -> Tensor:
        """Stage B's latents of a picture ``b 3 h w``, by Stage A."""
        height, width = picture.shape[-2:]
        pixels = stretched(picture, *(side * 4 for side in stage_b_size(width, height)))
        return self.parts.network(Part.STAGE_A).encode(pixels.to(self.parts.device)).cpu()

    @torch.inference_mode()
    def preview(self, stage_c: Tensor) -> Tensor:
        """Stage C's latents as small pictures ``b 3 h w``, by the previewer alone."""
        return self.parts.network(Part.PREVIEWER)(stage_c.to(self.parts.device)).cpu().clamp(0, 1)

    def control(
        self, network: ControlNet, picture: Tensor, strength: float = 1.0, *, mask: Tensor | None = None
    ) -> Control:
        """A ControlNet that follows a picture, by the hint that the graph makes for its kind.

        Canny follows the picture's edges, inpainting the picture with a white hole, super-resolution Stage
        C's latents of the picture, for one of twice its size; a kind that is not known the picture itself.

        Args:
            network: of ``load_controlnet``.
            picture: ``1 3 h w``.
            strength: 1 is as trained.
            mask: the hole, ``1 h w`` of the picture's size, for inpainting alone.

        Raises:
            ValueError: there is no mask for inpainting, or one for another kind, or of another size; or the
                ControlNet follows faces, which are found in the graph only.
        """
        return follow(network, picture, strength, mask, self._encode_small)

    def _encode_small(self, picture: Tensor) -> Tensor:
        trained = self.parts.recorded(Part.SEMANTIC_ENCODER).compression
        downscale = self.parts.config(Part.SEMANTIC_ENCODER).downscale
        return self.encode(picture, compression_of_small(trained, downscale))

    # Drawing -------------------------------------------------------------------------------------------

    def draw(
        self,
        prompt: str | Text,
        negative: str | Text = "",
        *,
        size: tuple[int, int] = SIZE,
        count: int = 1,
        settings: Settings = DEFAULTS,
        latents: Tensor | None = None,
        mask: Tensor | None = None,
        images: Sequence[tuple[Tensor, float]] = (),
        styles: Sequence[tuple[Tensor, float]] = (),
        controls: Sequence[Control] = (),
        progress: Progress | None = None,
    ) -> Tensor:
        """What Stage C draws: latents ``b 16 h w``.

        Args:
            prompt, negative: what pictures show and what they do not; ``text.rows_of`` for one for each.
            size: of the pictures, ``(w, h)`` in pixels.
            count: of pictures.
            settings: how they are drawn.
            latents: to start from, as ``encode`` gives them; None for nothing.
            mask: what of them is drawn anew, ``1 h w``; None for all.
            images: image prompts as ``embed`` gives them, with weights.
            styles: pictures for the image adapter as ``embed`` gives them, with scales.
            controls: ControlNets, what they add being summed.
            progress: told of every step.

        Raises:
            ValueError: the size is too small, the prompt asks for what only ComfyUI has, or a ControlNet or
                the image adapter was made for another Stage C.
        """
        if latents is None:
            cells = stage_c_size(*size, self.parts.compression)
            latents = torch.zeros(1, self.parts.config(Part.STAGE_C).channels, cells[1], cells[0])
        for control in controls:
            if len(control.hint) not in (1, count):
                raise ValueError(
                    f"a ControlNet has {len(control.hint)} hints for {count} pictures: give one for all of "
                    "them, or one for each"
                )
        stage = stages.stage_c(
            self.parts, self._known(prompt), self._known(negative), latents.shape[-2:], images=images,
            styles=styles, controls=controls,
        )  # fmt: skip
        return draw(
            stage, settings.stage_c, settings, latents.expand(count, -1, -1, -1),
            None if mask is None else over_cells(mask, *latents.shape[-2:]), _told("Stage C", progress),
        )  # fmt: skip

    def draw_details(
        self,
        stage_c: Tensor,
        prompt: str | Text = "",
        negative: str | Text = "",
        *,
        size: tuple[int, int] = SIZE,
        settings: Settings = DEFAULTS,
        latents: Tensor | None = None,
        mask: Tensor | None = None,
        progress: Progress | None = None,
    ) -> Tensor:
        """What Stage B makes of Stage C's latents: latents ``b 4 h w``; see ``draw``."""
        if latents is None:
            width, height = stage_b_size(*size)
            latents = torch.zeros(1, self.parts.config(Part.STAGE_B).channels, height, width)
        stage = stages.stage_b(
            self.parts, stage_c, self._known(prompt), self._known(negative), latents.shape[-2:]
        )
        return draw(
            stage, settings.stage_b, settings, latents.expand(len(stage_c), -1, -1, -1),
            None if mask is None else over_cells(mask, *latents.shape[-2:]), _told("Stage B", progress),
        )  # fmt: skip

    @torch.inference_mode()
    def decode(self, stage_b: Tensor) -> Tensor:
        """Pictures ``b 3 h w`` of Stage B's latents, by Stage A; close to [0, 1]."""
        return self.parts.network(Part.STAGE_A).decode(stage_b.to(self.parts.device)).cpu()

    def generate(
        self,
        prompt: str,
        negative: str = "",
        *,
        size: tuple[int, int] | None = None,
        count: int = 1,
        settings: Settings = DEFAULTS,
        picture: Tensor | None = None,
        mask: Tensor | None = None,
        feather: int = FEATHER,
        images: Sequence[tuple[Tensor, float]] = (),
        styles: Sequence[tuple[Tensor, float]] = (),
        controls: Sequence[Control] = (),
        progress: Progress | None = None,
    ) -> Tensor:
        """Pictures ``b 3 h w``, those of the graph to the bit: close to [0, 1] and not cut off there.

        Args:
            prompt, negative, count, settings, progress: see ``draw``.
            size: of the pictures, ``(w, h)``; the size of ``picture`` if there is one, or twice that of the
                picture which super-resolution follows, else ``SIZE``.
            picture: to start from, ``1 3 h w``; cut to the size. ``settings.stage_c.denoise`` says how much
                of it is drawn anew. Its details are kept where there is a mask, or where
                ``settings.stage_b.denoise`` is below 1.
            mask: where it is drawn anew, ``1 h w`` of the picture's size; the rest stays to the bit.
            feather: pixels over which the mask falls off.
            images: pictures ``1 3 h w`` to show Stage C beside the prompt, with weights; 1 is as trained.
            styles: pictures ``1 3 h w`` that the image adapter shows it, with scales; 1 is as trained.
            controls: ControlNets of Stage C, each with what it follows; see ``control``.

        Raises:
            ValueError: see ``draw``; or there is a mask and no picture, or of another size.
        """
        positive, other = self.text(prompt), self.text(negative)
        stage_c = stage_b = soft = None
        if picture is not None:
            picture, mask = fitted(picture, mask, size)
            size = (picture.shape[-1], picture.shape[-2])
            stage_c = self.encode(picture)
            if mask is not None or settings.stage_b.denoise < 1:
                stage_b = self.encode_details(picture)
            soft = None if mask is None else feathered(mask, feather)
        elif mask is not None:
            raise ValueError("there is a mask and no picture; give the picture that it covers a part of")
        elif size is None:
            larger = next((control for control in controls if control.size), None)
            if larger:  # the hint has a cell for each of the latents' cells
                size, stage_c = larger.size, torch.zeros_like(larger.hint)
        drawn = self.draw(
            positive, other, size=size or SIZE, count=count, settings=settings, latents=stage_c, mask=soft,
            images=self._embedded(images), styles=self._embedded(styles), controls=controls,
            progress=progress,
        )  # fmt: skip
        details = self.draw_details(
            drawn, positive, other, size=size or SIZE, settings=settings, latents=stage_b, mask=soft,
            progress=progress,
        )  # fmt: skip
        pictures = self.decode(details)
        if picture is not None and soft is not None:
            pictures = put_back(pictures, picture, soft)
        return pictures

    def _known(self, text: str | Text) -> Text:
        return self.text(text) if isinstance(text, str) else text

    def _embedded(self, pictures: Sequence[tuple[Tensor, float]]) -> list[tuple[Tensor, float]]:
        return [(self.embed(picture), weight) for picture, weight in pictures if weight]


def _told(stage: str, progress: Progress | None) -> Callable[[int, int, Tensor], None] | None:
    if progress is None:
        return None  # so that no step waits for its estimate to be copied
    return lambda step, steps, estimate: progress(stage, step + 1, steps, estimate)
