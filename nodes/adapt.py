"""What changes a stage after it is loaded."""

from __future__ import annotations

from typing import Any

from .host import adapter_choices, fingerprint, io, path_of_adapter
from .host.catalogue import shown
from .host.lora import apply_lora, hook_lora

CATEGORY = "cascade/adapt"


def pick_lora() -> Any:
    """The widget that picks a LoRA."""
    return io.Combo.Input(
        "file",
        options=adapter_choices("lora"),
        tooltip="A LoRA as safetensors, from models/loras, by any trainer: Stability's, OneTrainer, kohya, "
        "diffusers, PEFT or LyCORIS. It is told by its contents.",
    )


def pick_strength(name: str, what: str) -> Any:
    """The widget for how much a LoRA changes."""
    return io.Float.Input(
        name,
        default=1.0,
        min=-100.0,
        max=100.0,
        step=0.01,
        tooltip=f"How much the LoRA changes {what}: 1 as it was trained, 0 nothing at all, below 0 the "
        "opposite.",
    )


class CascadeLoadLora(io.ComfyNode):
    """A LoRA of any dialect on a MODEL and a CLIP."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="CascadeLoadLora",
            display_name="Load LoRA (Cascade)",
            category=CATEGORY,
            search_aliases=["lora", "locon", "loha", "lokr", "dora", "style", "load lora"],
            description="Changes Stage C or Stage B, and the text encoder, by a LoRA of any trainer; several "
            "in a row add up. Words that the LoRA teaches can be used in prompts.",
            inputs=[
                io.Model.Input("model", tooltip="Stage C, or Stage B for a LoRA that was trained on it."),
                io.Clip.Input(
                    "clip",
                    optional=True,
                    tooltip="The text encoder. Left out, what the LoRA teaches it is left out as well.",
                ),
                pick_lora(),
                pick_strength("strength_model", "the model"),
                pick_strength("strength_clip", "the text encoder and the words it learnt"),
                io.String.Input(
                    "words",
                    default="",
                    multiline=True,
                    optional=True,
                    tooltip="For a LoRA of Stability's trainer, whose file does not name its words: one on "
                    "each line with the word it was made from, such as: [fernando] = dog. Empty for any "
                    "other.",
                ),
            ],
            outputs=[
                io.Model.Output(display_name="model", tooltip="The model with the LoRA."),
                io.Clip.Output(display_name="clip", tooltip="The text encoder with the LoRA and its words."),
                io.String.Output(
                    display_name="words", tooltip="Words that prompts may use now, with commas between them."
                ),
            ],
        )

    @classmethod
    def execute(
        cls,
        model: Any,
        file: str,
        strength_model: float,
        strength_clip: float,
        clip: Any = None,
        words: str = "",
    ) -> io.NodeOutput:
        """Both with the LoRA, and its words."""
        applied = apply_lora(model, clip, path_of_adapter("lora", file), strength_model, strength_clip, words)
        listed = ", ".join(applied.words)
        text = f"{applied.told}\nwords: {listed}" if listed else applied.told
        return io.NodeOutput(applied.model, applied.clip, listed, ui=shown(text))

    @classmethod
    def fingerprint_inputs(cls, file: str, **_: Any) -> tuple:
        """Changes when the file is replaced."""
        return fingerprint(path_of_adapter("lora", file))


class CascadeCreateHookLora(io.ComfyNode):
    """A LoRA of any dialect as the host's hook."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="CascadeCreateHookLora",
            display_name="Create LoRA Hook (Cascade)",
            category=CATEGORY,
            search_aliases=["hook", "schedule lora", "lora keyframe", "create hook lora"],
            description="A LoRA of any trainer as a hook, to turn it on and off during sampling with Set "
            "Hook Keyframes, or to use it for one prompt or one part of the picture with Cond Set Props.",
            inputs=[
                io.Model.Input("model", tooltip="The model that will be sampled; it is not changed."),
                io.Clip.Input("clip", optional=True, tooltip="The text encoder, if its part is wanted too."),
                pick_lora(),
                pick_strength("strength_model", "the model"),
                pick_strength("strength_clip", "the text encoder"),
                io.Hooks.Input(
                    "prev_hooks", optional=True, tooltip="Hooks that are to work together with this one."
                ),
            ],
            outputs=[
                io.Hooks.Output(display_name="hooks", tooltip="For Set Hook Keyframes or Cond Set Props.")
            ],
        )

    @classmethod
    def execute(
        cls,
        model: Any,
        file: str,
        strength_model: float,
        strength_clip: float,
        clip: Any = None,
        prev_hooks: Any = None,
    ) -> io.NodeOutput:
        """The hook, with the others."""
        hooks = hook_lora(model, clip, path_of_adapter("lora", file), strength_model, strength_clip)
        return io.NodeOutput(prev_hooks.clone_and_combine(hooks) if prev_hooks else hooks)

    @classmethod
    def fingerprint_inputs(cls, file: str, **_: Any) -> tuple:
        """Changes when the file is replaced."""
        return fingerprint(path_of_adapter("lora", file))
