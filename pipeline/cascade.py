"""The whole cascade, from a prompt to pictures, as the graph draws it and without ComfyUI."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from ..checkpoints.identify import NAMES, Part
from ..conditioning.image import combined
from ..latents.fit import apply, plan
from ..latents.geometry import stage_b_size, stage_c_size
from ..latents.mask import feathered, over_cells
from ..layers.walk import keys_values
from ..samplers.schedule import STAGE_B_SHIFT, STAGE_C_SHIFT
from ..stage_a.model import STAGE_B_SCALE
from .denoise import Prompt, Stage, draw
from .parts import PRECISIONS, Parts
from .picture import for_clip, put_back, stretched
from .settings import Settings
from .text import Text, read

SIZE = (256, 256)
"""Of the small cascade's pictures, width and height."""

MULTIPLE = 64
"""Pixels; pictures to start from are cut to multiples of it, which both stages like."""

FEATHER = 8
"""Pixels over which a mask falls off."""

Progress = Callable[[str, int, int], None]
"""Told a stage's name, the number of a step that is done, from 1, and how many there are."""

DEFAULTS = Settings()


def load(
    *,
    files: Mapping[str, str | Path] | None = None,
    loras: Sequence[tuple[str | Path, float]] = (),
    tokenizer: str | Path | None = None,
    device: str = "cpu",
    precision: str | None = None,
) -> Cascade:
    """A cascade; the small one that ships where no files are given.

    Args:
        files: paths by part: ``stage_a``, ``stage_b``, ``stage_c``, ``text_encoder``, ``image_encoder``,
            ``semantic_encoder``, ``previewer``; parts that are not named are those that ship.
        loras: files with strengths; 1 is as trained.
        tokenizer: a folder with CLIP's vocabulary, for a text encoder that knows all of it; the folder
            ``tokenizer`` beside its file by default.
        device: as torch calls it.
        precision: what Stage B and C compute in: fp32, bf16 or fp16; None for fp32 on a CPU and bf16
            elsewhere.

    Raises:
        ValueError: a file is missing or holds something else, or the parts do not fit each other.
    """
    given = {_part(name): Path(path) for name, path in (files or {}).items()}
    where = _device(device)
    chosen = precision or ("fp32" if where.type == "cpu" else "bf16")
    if chosen not in PRECISIONS:
        raise ValueError(f"there is no precision {chosen!r}; choose {', '.join(PRECISIONS)}")
    for path, strength in loras:
        if not Path(path).is_file():
            raise ValueError(f"there is no `{path}` to read a LoRA of strength {strength:g} from")
    parts = Parts(
        given, where, chosen, [(Path(path), strength) for path, strength in loras],
        Path(tokenizer) if tokenizer else None,
    )  # fmt: skip
    parts.check()
    return Cascade(parts)


def _part(name: str) -> Part:
    known = [part.value for part in NAMES if part.value in _FILES]
    if name not in known:
        raise ValueError(f"a cascade has no part {name!r}; it has {', '.join(known)}")
    return Part(name)


_FILES = {
    "stage_a", "stage_b", "stage_c", "text_encoder", "image_encoder", "semantic_encoder", "previewer",
}  # fmt: skip


def _device(name: str) -> torch.device:
    try:
        device = torch.device(name)
        torch.zeros(1, device=device)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).partition("\n")[0]
        raise ValueError(f"torch has no device {name!r} here ({reason}); cpu always works") from None
    return device


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
    def encode(self, picture: Tensor) -> Tensor:
        """Stage C's latents of a picture ``b 3 h w``, which is stretched to whole cells."""
        height, width = picture.shape[-2:]
        network = self.parts.network(Part.SEMANTIC_ENCODER)
        cells = stage_c_size(width, height, self.parts.recorded(Part.SEMANTIC_ENCODER).compression)
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
        progress: Progress | None = None,
    ) -> Tensor:
        """What Stage C draws: latents ``b 16 h w``.

        Args:
            prompt, negative: what pictures show and what they do not.
            size: of the pictures, ``(w, h)`` in pixels.
            count: of pictures.
            settings: how they are drawn.
            latents: to start from, as ``encode`` gives them; None for nothing.
            mask: what of them is drawn anew, ``1 h w``; None for all.
            images: image prompts as ``embed`` gives them, with weights.
            progress: told of every step.

        Raises:
            ValueError: the size is too small, or the prompt asks for what only ComfyUI has.
        """
        network, like = self.parts.network(Part.STAGE_C), self._compute
        if latents is None:
            cells = stage_c_size(*size, self.parts.compression)
            latents = torch.zeros(1, network.config.channels, cells[1], cells[0])
        shown = torch.zeros(1, network.config.c_image)
        if images:
            shown = combined(*map(list, zip(*images, strict=True)), "concatenate")

        def conditions(text: str | Text, image: Tensor) -> Prompt:
            known = self._known(text)
            with torch.inference_mode():
                tokens = network.tokens(like(known.hidden), like(known.pooled), like(image[None]))
                return tokens, keys_values(network, tokens)

        return draw(
            self._stage(Part.STAGE_C, network, STAGE_C_SHIFT, 1.0), settings.stage_c, settings,
            conditions(prompt, shown), conditions(negative, torch.zeros_like(shown)),
            latents.expand(count, -1, -1, -1),
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
        network, like = self.parts.network(Part.STAGE_B), self._compute
        if latents is None:
            width, height = stage_b_size(*size)
            latents = torch.zeros(1, network.config.channels, height, width)

        def conditions(text: str | Text, semantic: Tensor) -> Prompt:
            with torch.inference_mode():
                cells = network.semantic_map(like(semantic), *latents.shape[-2:])
                tokens = network.tokens(like(self._known(text).pooled))
                return tokens, cells, keys_values(network, tokens)

        nothing = torch.zeros(1, network.config.c_semantic, 1, 1)
        return draw(
            self._stage(Part.STAGE_B, network, STAGE_B_SHIFT, 1.0 / STAGE_B_SCALE), settings.stage_b,
            settings, conditions(prompt, stage_c), conditions(negative, nothing),
            latents.expand(len(stage_c), -1, -1, -1),
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
        progress: Progress | None = None,
    ) -> Tensor:
        """Pictures ``b 3 h w``, those of the graph to the bit: close to [0, 1] and not cut off there.

        Args:
            prompt, negative, count, settings, progress: see ``draw``.
            size: of the pictures, ``(w, h)``; the size of ``picture`` if there is one, else ``SIZE``.
            picture: to start from, ``1 3 h w``; cut to the size. ``settings.stage_c.denoise`` says how much
                of it is drawn anew. Its details are kept where there is a mask, or where
                ``settings.stage_b.denoise`` is below 1.
            mask: where it is drawn anew, ``1 h w`` of the picture's size; the rest stays to the bit.
            feather: pixels over which the mask falls off.
            images: pictures ``1 3 h w`` to show Stage C beside the prompt, with weights; 1 is as trained.

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
        shown = [(self.embed(image), weight) for image, weight in images if weight]
        drawn = self.draw(
            positive, other, size=size or SIZE, count=count, settings=settings, latents=stage_c, mask=soft,
            images=shown, progress=progress,
        )  # fmt: skip
        details = self.draw_details(
            drawn, positive, other, size=size or SIZE, settings=settings, latents=stage_b, mask=soft,
            progress=progress,
        )  # fmt: skip
        pictures = self.decode(details)
        if picture is not None and soft is not None:
            pictures = put_back(pictures, picture, soft)
        return pictures

    # What the stages are given -------------------------------------------------------------------------

    def _known(self, text: str | Text) -> Text:
        return self.text(text) if isinstance(text, str) else text

    def _compute(self, tensor: Tensor) -> Tensor:
        return tensor.to(self.parts.device, self.parts.computes)

    def _stage(self, part: Part, network: Callable[..., Tensor], shift: float, scale: float) -> Stage:
        """The last of what a prompt becomes are its keys and values."""

        def predict(x: Tensor, t: Tensor, *prompt: Tensor) -> Tensor:
            return network(x, t, *prompt[:-1], keys_values=prompt[-1])

        parts = self.parts
        return Stage(predict, parts.target(part), shift, scale, parts.device, parts.computes)


def fitted(
    picture: Tensor, mask: Tensor | None, size: tuple[int, int] | None
) -> tuple[Tensor, Tensor | None]:
    """A picture and its mask, cut to a size that both stages can draw.

    Args:
        picture: ``1 3 h w``.
        mask: ``1 h w``.
        size: ``(w, h)``; None for the next multiples of ``MULTIPLE`` below the picture's.

    Raises:
        ValueError: the mask is of another size than the picture, or the picture is too small.
    """
    given = (picture.shape[-1], picture.shape[-2])
    if mask is not None and mask.shape[-2:] != picture.shape[-2:]:
        raise ValueError(
            f"the picture is {given[0]}x{given[1]} pixels and the mask {mask.shape[-1]}x{mask.shape[-2]}: "
            "make the mask on the picture"
        )
    multiple = 8 if size else MULTIPLE
    fit = plan(given, size or (0, 0), "crop", multiple=multiple)
    cut = partial(apply, fit)
    return cut(picture), None if mask is None else cut(mask[:, None])[:, 0]


def _told(stage: str, progress: Progress | None) -> Callable[[int, int, Tensor], None]:
    def told(step: int, steps: int, estimate: Tensor) -> None:
        if progress:
            progress(stage, step + 1, steps)

    return told
