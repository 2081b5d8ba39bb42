"""What the page sees while a picture is drawn, and what the picture remembers of how it was."""

import io
import json

import numpy as np
from comfy_host import ROOT
from PIL import Image

from development.workflow import find_node


def test_ksampler_shows_steps_and_previews_of_both_stages(graph, cascade, ksampler, listener):
    c = ksampler(cascade.stage_c, cascade.positive, cascade.negative, cascade.empty_c, seed=21, steps=3)
    positive = graph.add("CascadeDecoderConditioning", conditioning=cascade.positive, stage_c=c)[0]
    b = ksampler(cascade.stage_b, positive, cascade.negative, cascade.empty_b, seed=21, steps=2, cfg=1.0)
    graph.add("SaveLatent", samples=b, filename_prefix="latents/previewed")
    events = listener.events(graph.prompt(), preview_method="latent2rgb")
    assert events[-1][0] == "execution_success"
    for link, steps, (width, height) in ((c, 3, (6, 5)), (b, 2, (32, 24))):
        seen, sizes = of_node(events, link[0])
        assert seen == [(step, steps) for step in range(1, steps + 1)]
        assert set(sizes) == {(512, round(512 * height / width))}  # in proportions that this stage alone has


def of_node(events, node):
    """Steps that were told while a node ran, and the sizes of the previews that were shown."""
    running, steps, sizes = None, [], []
    for kind, data in events:
        if kind == "executing":
            running = data["node"]
        elif kind == "progress" and data["node"] == node:
            steps.append((data["value"], data["max"]))
        elif kind == "preview" and running == node:
            sizes.append(Image.open(io.BytesIO(data)).size)
    return steps, sizes


def test_a_picked_size_is_written_onto_its_node(graph, listener):
    picked = graph.add(
        "CascadePickResolution", aspect="3:2 landscape", size="long side", megapixels=1.0, long_side=2048,
        batch_size=1,
    )  # fmt: skip
    graph.add("PreviewAny", source=picked[3])
    told = [data for kind, data in listener.events(graph.prompt()) if kind == "text"]
    assert len(told) == 1
    assert "2048x1344 pixels" in told[0]
    assert "Stage C: 48x32 cells" in told[0]
    assert "things may repeat" in told[0]


def test_a_picture_holds_its_workflow_and_what_it_holds_draws_it_again(tiny_server, graph, cascade, listener):
    workflow = json.loads((ROOT / "workflows" / "text_to_image.json").read_text())
    both = graph.add(
        "CascadeSampler", stage_c=cascade.stage_c, stage_b=cascade.stage_b, positive=cascade.positive,
        negative=cascade.negative, stage_c_latent=cascade.empty_c, stage_b_latent=cascade.empty_b, seed=8,
        steps_c=2, cfg_c=2.0, sampler_c="ddpm", scheduler_c="simple", denoise_c=1.0,
        steps_b=2, cfg_b=1.0, sampler_b="ddpm", scheduler_b="simple", denoise_b=1.0,
    )  # fmt: skip
    image = graph.add("VAEDecode", samples=both[0], vae=cascade.stage_a)[0]
    save = graph.add("SaveImage", images=image, filename_prefix="kept")
    events = listener.events(graph.prompt(), extra_pnginfo={"workflow": workflow})
    assert events[-1][0] == "execution_success"
    first = Image.open(tiny_server.base / "output" / saved(events, save.id))
    assert find_node(json.loads(first.text["workflow"]), type="CascadeSampler")
    tiny_server.free()  # or the second run would be the first one's, out of the cache
    again = tiny_server.images(tiny_server.queue(json.loads(first.text["prompt"])))[0]
    assert np.array_equal(np.asarray(again), np.asarray(first))


def saved(events, node):
    """The name of the first file that a node saved."""
    outputs = (data["output"] for kind, data in events if kind == "executed" and data["node"] == node)
    return next(outputs)["images"][0]["filename"]
