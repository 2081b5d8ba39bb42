"""ControlNets and image adapters without ComfyUI, against the graph."""

from dataclasses import replace
from types import SimpleNamespace

import pytest
import tiny_controlnet
import torch
from comfyui_cascade.adapters.image_prompt import new_image_adapter
from comfyui_cascade.pipeline import Control, load, load_controlnet
from pictures_by_nodes import SETTINGS, SIZE, picture
from random_weights import difference, randomise
from safetensors.torch import save_file
from tiny_cascade import COND, IMAGE, C


@pytest.fixture(scope="module")
def cascade(tiny_files):
    return load(files=tiny_files)


@pytest.fixture(scope="module")
def controlnets(comfy_nodes, tmp_path_factory):
    """Of each tiny kind the host's, and ours."""
    from comfyui_cascade.nodes import host

    folder = tmp_path_factory.mktemp("controlnets")
    files = {kind: tiny_controlnet.write(folder, kind) for kind in tiny_controlnet.CONFIGS}
    return {kind: (host.open_controlnet(file), load_controlnet(file)) for kind, file in files.items()}


@pytest.fixture
def hinted(pack, tiny):
    """What the graph makes of a picture for a kind: the hint, and both latents where it gives them."""

    def run(kind, image, mask=None):
        image = image.movedim(1, -1)
        if kind == "canny":
            thresholds = {"low_threshold": 100.0, "high_threshold": 200.0, "side": 224}
            return pack["CascadeHintCanny"](image=image, **thresholds)[0], None
        if kind == "inpainting":
            borders = dict.fromkeys(("left", "top", "right", "bottom"), 0)
            return pack["CascadeHintInpaint"](image=image, threshold=0.5, mask=mask, **borders)[0], None
        if kind == "super-resolution":
            hint, _, *latents = pack["CascadeHintSuperResolution"](
                image=image, semantic_encoder=tiny.coder, scale=2, compression=0.0
            ).result
            return hint, latents
        return image, None

    return run


def hole(width=140, height=130):
    mask = torch.zeros(1, height, width)
    mask[:, 20:70, 40:110] = 1
    return mask


@pytest.mark.parametrize("kind", ["canny", "inpainting", "super-resolution", "colours"])
def test_steered_pictures_are_the_graphs(graph, cascade, controlnets, hinted, kind):
    theirs, ours = controlnets[kind]
    mask = hole() if kind == "inpainting" else None
    hint, latents = hinted(kind, picture(), mask)
    # Super-resolution says itself how large pictures become.
    given = {"settings": SETTINGS, "size": None if latents else SIZE}
    steered = [cascade.control(ours, picture(), 0.7, mask=mask)]
    drawn = cascade.generate("a red cat", "a house", controls=steered, **given)
    expected = graph("a red cat", SETTINGS, "a house", latents=latents, controls=[(theirs, hint, 0.7)])
    assert drawn.shape == ((1, 3, 264, 280) if latents else (1, 3, 96, 128))
    assert torch.equal(drawn, expected)
    free = cascade.generate("a red cat", "a house", controls=[replace(steered[0], strength=0.0)], **given)
    assert not torch.equal(drawn, free)


def test_several_controlnets_on_prompts_of_different_lengths_are_the_graphs(
    graph, cascade, controlnets, hinted
):
    kinds, strengths = ("canny", "colours", "super-resolution"), (0.7, -0.4, 1.0)
    chosen = list(zip(kinds, strengths, strict=True))
    ours = [cascade.control(controlnets[kind][1], picture(), strength) for kind, strength in chosen]
    theirs = [(controlnets[kind][0], hinted(kind, picture())[0], strength) for kind, strength in chosen]
    long = "red cat, blue house, " * 4
    drawn = cascade.generate(long, size=SIZE, count=2, settings=SETTINGS, controls=ours)
    assert torch.equal(drawn, graph(long, SETTINGS, count=2, controls=theirs))


def test_hint_that_is_ready_is_followed_as_the_graph_follows_it(graph, cascade, controlnets):
    theirs, ours = controlnets["canny"]
    drawn = cascade.generate("a cat", size=SIZE, settings=SETTINGS, controls=[Control(ours, picture())])
    assert torch.equal(drawn, graph("a cat", SETTINGS, controls=[(theirs, picture().movedim(1, -1), 1.0)]))


def test_each_picture_of_a_batch_follows_a_hint_of_its_own(cascade, controlnets):
    ours, settings = controlnets["colours"][1], replace(SETTINGS, noise="picture")
    hints = torch.cat([picture(0), picture(1)])
    given = {"size": SIZE, "settings": settings}
    both = cascade.draw("a cat", count=2, controls=[Control(ours, hints)], **given)
    first = cascade.draw("a cat", controls=[Control(ours, hints[:1])], **given)
    assert difference(both[:1], first) < 1e-4
    assert difference(both[1:], first) > 0.1
    with pytest.raises(ValueError, match="a ControlNet has 2 hints for 3 pictures"):
        cascade.draw("a cat", count=3, controls=[Control(ours, hints)], **given)


@pytest.mark.parametrize(
    ("kind", "mask", "sentence"),
    [
        ("inpainting", None, "fills a hole, and no mask says where"),
        ("inpainting", hole(64, 64), "picture is 140x130 pixels and its mask 64x64"),
        ("canny", hole(), "this one is of another kind"),
        ("identity", None, "which only ComfyUI's graph finds"),
    ],
)
def test_pictures_that_a_controlnet_cannot_follow_are_refused(cascade, controlnets, kind, mask, sentence):
    with pytest.raises(ValueError, match=sentence):
        cascade.control(controlnets[kind][1], picture(), mask=mask)


@pytest.fixture
def adapter_file(tmp_path):
    network = randomise(new_image_adapter(C.trunk, IMAGE, tokens=3, c_token=COND))
    save_file(network.state_dict(), tmp_path / "adapter.safetensors", {"cascade.part": "image_adapter"})
    return tmp_path / "adapter.safetensors"


def test_pictures_in_the_style_of_others_are_the_graphs(pack, tiny, tiny_files, graph, adapter_file):
    from comfyui_cascade.nodes.host.image_adapter import open_image_adapter

    ours = load(files=tiny_files | {"image_adapter": adapter_file})
    styles = [(picture(0, 100, 90), 0.6), (picture(1, 100, 90), -0.3)]
    models = SimpleNamespace(**vars(tiny))
    for image, scale in styles:
        models.stage_c = pack["CascadeApplyImageAdapter"](
            model=models.stage_c, image_adapter=open_image_adapter(str(adapter_file)), scale=scale,
            clip_vision=tiny.clip_vision, image=image.movedim(1, -1), start_percent=0.0, end_percent=1.0,
            crop="center",
        )[0]  # fmt: skip
    theirs = graph("a cat", SETTINGS, "a house", models=models)
    drawn = ours.generate("a cat", "a house", size=SIZE, settings=SETTINGS, styles=styles)
    # As with image prompts, not to the bit.
    torch.testing.assert_close(drawn, theirs, rtol=0, atol=1e-5 * theirs.abs().max().item())
    assert not torch.allclose(drawn, ours.generate("a cat", "a house", size=SIZE, settings=SETTINGS))
