"""ControlNets and their hints on a real server."""

import numpy as np
import pytest
import tiny_controlnet
import torch
from PIL import Image


@pytest.fixture(scope="module")
def controlled(tiny_server, tmp_path_factory):
    """The server, with ControlNets in its folder and a picture with an alpha channel."""
    folder = tiny_server.models_dir / "controlnet"
    folder.mkdir(parents=True, exist_ok=True)
    for kind in ("canny", "inpainting"):
        tiny_controlnet.write(folder, kind)
    pixels = np.zeros((96, 128, 4), dtype=np.uint8)
    pixels[20:60, 30:90, :3] = (250, 120, 30)
    pixels[..., 3] = 255
    pixels[40:70, 40:80, 3] = 0  # Load Image gives the transparent part as its mask
    tiny_server.upload("holed.png", Image.fromarray(pixels))
    return tiny_server


def applied(graph, cascade, node, **inputs):
    return graph.add(
        node, positive=cascade.positive, negative=cascade.negative, strength=0.8, start_percent=0.0,
        end_percent=1.0, **inputs,
    )  # fmt: skip


def test_our_node_and_the_hosts_apply_a_controlnet_alike(controlled, graph, cascade, ksampler, run):
    image = graph.add("LoadImage", image="holed.png")
    canny = graph.add("CascadeLoadControlNet", file="canny.safetensors")[0]
    edges = graph.add(
        "CascadeHintCanny", image=image[0], low_threshold=100.0, high_threshold=200.0, side=224
    )[0]
    ours = applied(graph, cascade, "CascadeApplyControlNet", control_net=canny, hint=edges, apply_to="both")
    theirs = applied(graph, cascade, "ControlNetApplyAdvanced", control_net=canny, image=edges)
    both = [ksampler(cascade.stage_c, steered[0], steered[1], cascade.empty_c) for steered in (ours, theirs)]
    free = ksampler(cascade.stage_c, cascade.positive, cascade.negative, cascade.empty_c)
    ours, theirs, free = run(*both, free)
    assert torch.equal(ours, theirs)
    assert not torch.equal(ours, free)


def test_inpainting_hint_is_shown_and_followed_within_a_mask(controlled, graph, cascade, ksampler, run):
    image = graph.add("LoadImage", image="holed.png")
    hint = graph.add(
        "CascadeHintInpaint", image=image[0], mask=image[1], threshold=0.5, left=0, top=0, right=0, bottom=0
    )
    control = graph.add("CascadeLoadControlNet", file="inpainting.safetensors", blocks="2")[0]
    steered = applied(
        graph, cascade, "CascadeApplyControlNet", control_net=control, hint=hint[0], apply_to="positive",
        mask=hint[3],
    )  # fmt: skip
    for shown in (hint[0], hint[1]):
        graph.add("SaveImage", images=shown, filename_prefix="hint")
    (latents,) = run(ksampler(cascade.stage_c, steered[0], steered[1], cascade.empty_c))
    assert latents.isfinite().all()
    pictures = sorted((controlled.base / "output").glob("hint*.png"))[-2:]
    assert {Image.open(path).size for path in pictures} == {(128, 96)}
