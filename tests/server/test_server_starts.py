"""The pack inside a real ComfyUI, and the harness that the other server tests stand on."""

import json

import comfyui_cascade
import pytest
from comfy_host import ROOT, comfy_tree
from PIL import Image


def _copy(graph, name):
    loaded = graph.add("LoadImage", image=name)
    graph.add("SaveImage", images=loaded[0], filename_prefix="copy")
    return graph.prompt()


def test_pack_loads_without_errors(server):
    log = server.log()
    assert "IMPORT FAILED" not in log
    assert "Error while calling comfy_entrypoint" not in log
    assert any(name.startswith("Cascade") for name in server.object_info())


def test_prompt_runs_to_its_picture(server, graph):
    name = server.upload("red.png", Image.new("RGB", (64, 32), "red"))
    (image,) = server.images(server.queue(_copy(graph, name)))
    assert image.size == (64, 32)
    assert image.getpixel((5, 5)) == (255, 0, 0)


def test_refused_prompt_raises_with_the_reason(server, graph):
    assert "no_such_picture.png" in server.error(_copy(graph, "no_such_picture.png"))


def test_failing_node_raises_with_its_message(server, graph):
    short = graph.add("EmptyImage", width=16, height=16, batch_size=1, color=0)
    mask = graph.add("ImageToMask", image=short[0], channel="alpha")
    image = graph.add("MaskToImage", mask=mask[0])
    graph.add("PreviewImage", images=image[0])
    with pytest.raises(AssertionError, match="ImageToMask"):
        server.queue(graph.prompt())


def test_workflow_file_runs_through_comfy_cli(server, graph, tmp_path):
    picture = graph.add("EmptyImage", width=24, height=16, batch_size=2, color=255)
    graph.add("SaveImage", images=picture[0], filename_prefix="through_cli")
    file = tmp_path / "two_pictures.json"
    file.write_text(json.dumps(graph.prompt()))
    assert [image.size for image in server.run_workflow(file)] == [(24, 16), (24, 16)]


def test_comfyui_is_a_library_here_and_the_pack_is_this_checkout(comfy_nodes):
    import comfy.sd

    assert "KSampler" in comfy_nodes.NODE_CLASS_MAPPINGS
    assert comfy.sd.__file__.startswith(str(comfy_tree()))
    assert comfyui_cascade.__path__ == [str(ROOT)]
