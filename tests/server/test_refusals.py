"""What a real server says of wrong files and wrong wires: one sentence, and the next prompt runs."""

import shutil

import pytest
import torch
from comfy_graph import sampler
from safetensors.torch import save


@pytest.fixture
def wrong_file(tiny_server):
    """Puts a file into a folder of the server; its name."""

    def put(folder, name, content):
        path = tiny_server.models_dir / folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if isinstance(content, bytes):
            path.write_bytes(content)
        else:
            shutil.copyfile(tiny_server.models_dir / content, path)
        return name

    return put


def refused(server, graph, cascade, link, node):
    """What the server says of a graph that must fail, in one sentence; and the next prompt runs."""
    add = {"LATENT": "SaveLatent", "IMAGE": "SaveImage"}[node]
    end = graph.add(add, **{"samples" if node == "LATENT" else "images": link}, filename_prefix="wrong")
    text = server.error(graph.prompt())
    del graph.nodes[end.id]
    graph.add("SaveLatent", samples=cascade.empty_c, filename_prefix="latents/next")
    assert server.queue(graph.prompt())["status"]["status_str"] == "success"
    first, *_ = text.splitlines()
    return first


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("tiny_stage_b.safetensors", None, "use Load Stage B (Cascade)"),
        (
            "text.safetensors",
            "text_encoders/tiny_text_encoder.safetensors",
            "use Load Text Encoder (Cascade)",
        ),
        (
            "pickle.safetensors",
            b"\x80\x04\x95" + bytes(99),
            "is a PyTorch pickle that was renamed to .safetensors",
        ),
        ("empty.safetensors", b"", "`empty.safetensors` is empty"),
    ],
)
def test_wrong_files_end_in_a_sentence(
    tiny_server, graph, cascade, ksampler, wrong_file, name, content, message
):
    if content is not None:
        wrong_file("diffusion_models", name, content)
    model = graph.add("CascadeLoadStageC", file=name)[0]
    latents = ksampler(model, cascade.positive, cascade.negative, cascade.empty_c)
    text = refused(tiny_server, graph, cascade, latents, "LATENT")
    assert "CascadeLoadStageC" in text
    assert message in text


def test_cut_and_foreign_files_end_in_a_sentence(tiny_server, graph, cascade, ksampler, wrong_file):
    whole = (tiny_server.models_dir / "diffusion_models/tiny_stage_c.safetensors").read_bytes()
    sdxl = {
        "conditioner.embedders.0.x": torch.zeros(1),
        "model.diffusion_model.input_blocks.0.0.weight": torch.zeros(1),
    }
    for name, content, message in (
        ("cut.safetensors", whole[:-100], "is cut short"),
        ("sdxl.safetensors", save(sdxl), "is an SDXL checkpoint"),
    ):
        wrong_file("diffusion_models", name, content)
        model = graph.add("CascadeLoadStageC", file=name)[0]
        latents = ksampler(model, cascade.positive, cascade.negative, cascade.empty_c)
        assert message in refused(tiny_server, graph, cascade, latents, "LATENT")


def test_wrong_wiring_ends_in_a_sentence(tiny_server, graph, cascade, ksampler):
    other = graph.add(
        "CascadeEmptyLatents", width=96, height=160, batch_size=3, compression=0.0, stage_c=cascade.stage_c
    )
    drawn = ksampler(cascade.stage_c, cascade.positive, cascade.negative, cascade.empty_c)
    positive = graph.add("CascadeDecoderConditioning", conditioning=cascade.positive, stage_c=drawn)[0]
    b = cascade.stage_b
    cases = [
        (ksampler(b, cascade.positive, cascade.negative, cascade.empty_b), "without its conditioning"),
        (ksampler(b, positive, cascade.negative, drawn), "Stage B was given latents of 16 channels"),
        (ksampler(b, positive, cascade.negative, cascade.empty_c), "at least 16 along each side"),
        (ksampler(b, positive, cascade.negative, other[1]), "3 latents of Stage B for 2 of Stage C"),
        (sampler(graph, cascade, stage_b_latent=other[1])[0], "3 latents of Stage B for 2 of Stage C"),
        (sampler(graph, cascade, stage_c=b)[0], "the model on stage_c works on latents of 4 channels"),
        (
            sampler(graph, cascade, stage_b_latent=cascade.empty_c)[0],
            "Stage B was given latents of 16 channels",
        ),
    ]
    for link, message in cases:
        assert message in refused(tiny_server, graph, cascade, link, "LATENT")
    image = graph.add("VAEDecode", samples=drawn, vae=cascade.stage_a)[0]
    text = refused(tiny_server, graph, cascade, image, "IMAGE")
    assert "Stage A was given latents of 16 channels, as those of Stage C have" in text
