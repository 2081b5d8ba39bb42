"""The small graph of each node's help page, from which both of its pictures are made."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

Graph = Mapping[str, dict[str, Any]]
"""In ComfyUI's API form; widgets that are not given have their defaults."""

Changes = Mapping[str, Any]
"""Values by ``node.input``; None leaves an input free."""

BOAT, HOUSE = "a red boat on the sea at sunset", "a blue house on the snow at night"
BALLOONS = "two pink balloons over the grass at sunset"
MUSHROOM = "a red mushroom on the grass by day"
FIRST, PICTURE, TEXT = ("decode", 0), ("picture", 0), "text"
CHECKPOINT = "small_cascade_stage_c.safetensors"
"""An all-in-one file that is made for the pictures from the small cascade's parts."""


@dataclass(frozen=True)
class Panel:
    """One of the pictures that stand side by side in a strip.

    Attributes:
        source: node and output of an IMAGE; or a node and "images" or "text", for what it shows on itself.
        changes: to the graph.
        label: what stands below it. Names of inputs and their values, which no language changes.
    """

    source: tuple[str, int | str] = FIRST
    changes: Changes | None = None
    label: str = ""


@dataclass(frozen=True)
class Example:
    """A node at work.

    Attributes:
        graph: with the node in it once.
        panels: of the picture of its effect; none where that is computed from made-up values.
        needs: files of the small cascade beside its parts; without them there is no picture of the effect.
    """

    graph: Graph
    panels: tuple[Panel, ...] = ()
    needs: tuple[str, ...] = ()


def node(kind: str, **inputs: Any) -> dict[str, Any]:
    """A node in ComfyUI's API form."""
    return {"class_type": kind, "inputs": inputs}


def panels(name: str, *values: Any, source: tuple[str, int | str] = FIRST) -> tuple[Panel, ...]:
    """One panel for each value of an input, ``node.input``."""
    return tuple(Panel(source, {name: value}, _label(name, value)) for value in values)


def _label(name: str, value: Any) -> str:
    """A word speaks for itself, a number does not."""
    return value if isinstance(value, str) else f"{name.partition('.')[2]} {value:g}"


def changed(graph: Graph, changes: Changes | None) -> Graph:
    """A copy of a graph with other values."""
    made = {name: {**entry, "inputs": dict(entry["inputs"])} for name, entry in graph.items()}
    for place, value in (changes or {}).items():
        name, _, entry = place.partition(".")
        made[name]["inputs"][entry] = value
        if value is None:
            del made[name]["inputs"][entry]
    return made


def neighbours(graph: Graph, kind: str) -> Graph:
    """The one node of a kind, what feeds it, and what it feeds."""
    (name,) = (name for name, entry in graph.items() if entry["class_type"] == kind)
    shown = {name, *feeds(graph, name), *(other for other in graph if name in feeds(graph, other))}
    return {
        other: {
            **entry,
            "inputs": {
                key: value
                for key, value in entry["inputs"].items()
                if not isinstance(value, list) or (value[0] in shown and name in (other, value[0]))
            },
        }
        for other, entry in graph.items()
        if other in shown
    }


def feeds(graph: Graph, name: str) -> list[str]:
    """Names of the nodes wired into one, in the order of its inputs."""
    return list(
        dict.fromkeys(value[0] for value in graph[name]["inputs"].values() if isinstance(value, list))
    )


# What most graphs have in common ---------------------------------------------------------------------------

PROMPTS = {
    "load": node("CascadeLoadPipeline"),
    "prompt": node("CLIPTextEncode", text=BOAT, clip=["load", 3]),
    "negative": node("CLIPTextEncode", text="", clip=["load", 3]),
}
SAMPLER = node(
    "CascadeSampler",
    stage_c=["load", 0],
    stage_b=["load", 1],
    positive=["prompt", 0],
    negative=["negative", 0],
    stage_c_latent=["latents", 0],
    stage_b_latent=["latents", 1],
    seed=1,
    sampler_c="euler",
    sampler_b="euler",
)
END = {"sample": SAMPLER, "decode": node("VAEDecode", samples=["sample", 0], vae=["load", 2])}
LATENTS = {"latents": node("CascadeEmptyLatents", width=256, height=256, stage_c=["load", 0])}
SCENE = {"picture": node("CascadeExamplePicture", picture="house")}
ENCODED = {
    "latents": node(
        "CascadeEncodeImage", image=["picture", 0], semantic_encoder=["load", 4], stage_a=["load", 2]
    )
}
WHOLE = {**PROMPTS, **LATENTS, **END}


def sampler(model: list, latents: list, positive: str = "prompt", **settings: Any) -> dict[str, Any]:
    """A KSampler for Stage C, or with other settings for Stage B."""
    settings = {"seed": 1, "steps": 20, "cfg": 4.0, "sampler_name": "euler", "scheduler": "simple"} | settings
    return node(
        "KSampler",
        model=model,
        positive=[positive, 0],
        negative=["negative", 0],
        latent_image=latents,
        **settings,
    )


STEPWISE = {
    "stage_c": node("CascadeLoadStageC"),
    "stage_b": node("CascadeLoadStageB"),
    "stage_a": node("CascadeLoadStageA"),
    "text": node("CascadeLoadTextEncoder"),
    "coder": node("CascadeLoadSemanticEncoder"),
    "prompt": node("CLIPTextEncode", text=BOAT, clip=["text", 0]),
    "negative": node("CLIPTextEncode", text="", clip=["text", 0]),
    "latents": node("CascadeEmptyLatents", width=256, height=256, stage_c=["stage_c", 0]),
    "sample_c": sampler(["stage_c", 0], ["latents", 0]),
    "preview": node("CascadePreviewLatent", stage_c=["sample_c", 0], semantic_encoder=["coder", 0]),
    "condition": node("CascadeDecoderConditioning", conditioning=["prompt", 0], stage_c=["sample_c", 0]),
    "sample_b": sampler(["stage_b", 0], ["latents", 1], "condition", steps=10, cfg=1.0),
    "decode": node("VAEDecode", samples=["sample_b", 0], vae=["stage_a", 0]),
}
"""Each part by its own node."""

PREVIEW = ("preview", 0)
CUSTOM = {
    **PROMPTS,
    **LATENTS,
    "noise": node("CascadeNoise", noise_seed=1),
    "guider": node("CascadeGuider", model=["load", 0], positive=["prompt", 0], negative=["negative", 0]),
    "sampler": node("CascadeSamplerSelect", sampler="DDIM"),
    "scheduler": node("CascadeScheduler", model=["load", 0]),
    "sample_c": node(
        "SamplerCustomAdvanced",
        noise=["noise", 0],
        guider=["guider", 0],
        sampler=["sampler", 0],
        sigmas=["scheduler", 0],
        latent_image=["latents", 0],
    ),
    "preview": node("CascadePreviewLatent", stage_c=["sample_c", 0], semantic_encoder=["load", 4]),
    "condition": node("CascadeDecoderConditioning", conditioning=["prompt", 0], stage_c=["sample_c", 0]),
    "sample_b": sampler(["load", 1], ["latents", 1], "condition", steps=10, cfg=1.0),
    "decode": node("VAEDecode", samples=["sample_b", 0], vae=["load", 2]),
}
"""Stage C by the nodes of custom sampling."""


def between(graph: Graph, name: str, entry: dict[str, Any], **places: list) -> Graph:
    """A graph with one more node, and the inputs ``node__input`` wired to its outputs."""
    return {**changed(graph, {place.replace("__", "."): link for place, link in places.items()}), name: entry}


def hole(graph: Graph) -> Graph:
    """A graph with a mask of 256x256 pixels whose right half is 1."""
    return {
        **graph,
        "rest": node("SolidMask", value=0.0, width=256, height=256),
        "square": node("SolidMask", value=1.0, width=112, height=160),
        "mask": node(
            "MaskComposite", destination=["rest", 0], source=["square", 0], x=136, y=72, operation="add"
        ),
        "shown": node("MaskToImage", mask=["mask", 0]),
    }
