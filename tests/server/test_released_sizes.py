"""Stage C of 1 B and Stage B of 700 M parameters for real: loaded, sampled, and compared on a server.

Takes minutes and about 12 GB: ``python3 dev.py test --slow -k released_sizes -s`` prints what it took.
"""

import sys
import time

import pytest
import tiny_cascade
import torch
from comfy_graph import Graph
from comfyui_cascade.checkpoints.identify import Part
from comfyui_cascade.checkpoints.layout import Layout
from comfyui_cascade.checkpoints.save import save
from comfyui_cascade.conditioning.text import TextEncoderConfig, text_encoder
from manifests import manifest
from random_weights import difference, randomise
from safetensors.torch import load_file

pytestmark = [pytest.mark.slow, pytest.mark.server]

TEXT = TextEncoderConfig(1280, 2, 64, 20, 77, len(tiny_cascade.TOKEN_IDS), 1280)
"""As wide as the released one, and otherwise tiny."""

SETTINGS = {"seed": 4, "steps": 2, "cfg": 1.0, "sampler_name": "euler", "scheduler": "simple", "denoise": 1.0}

GIGABYTE = 2**30


def random_file(path, part, name):
    """A file of a released file's names and shapes, with the same few thousand numbers over and over."""
    noise = 0.02 * torch.randn(4096, generator=torch.Generator().manual_seed(0))
    weights = {
        key: noise.repeat(-(-torch.Size(shape).numel() // 4096))[: torch.Size(shape).numel()].view(shape)
        for key, shape in manifest(name).items()
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    save(path, part, weights, layout=Layout.STABILITY, dtype=torch.bfloat16, metadata={})


@pytest.fixture(scope="module")
def released(server):
    """The server with files of the released sizes in its folders."""
    folder = server.models_dir / "diffusion_models"
    random_file(folder / "stage_c.safetensors", Part.STAGE_C, "stage_c_lite")
    random_file(folder / "stage_b.safetensors", Part.STAGE_B, "stage_b_lite")
    words = {key: value.contiguous() for key, value in randomise(text_encoder(TEXT)).state_dict().items()}
    path = server.models_dir / "text_encoders" / "words.safetensors"
    path.parent.mkdir(parents=True, exist_ok=True)
    entries = tiny_cascade.metadata("text_encoder", head_dim=64)
    save(path, Part.TEXT_ENCODER, words, layout=Layout.STABILITY, dtype=None, metadata=entries)
    return server


def drawn(server, loader, **widgets):
    """Latents of one stage after two steps, the seconds it took and the server's peak memory in gigabytes."""
    graph = Graph()
    model = graph.add(loader, **widgets)[0]
    clip = graph.add("CascadeLoadTextEncoder", file="words.safetensors")[0]
    prompt = graph.add("CLIPTextEncode", clip=clip, text="a red cat")[0]
    empty = graph.add("StableCascade_EmptyLatentImage", width=256, height=256, compression=42, batch_size=1)
    stage_b = any("stage_b" in str(value) for value in widgets.values())
    if stage_b:
        prompt = graph.add("StableCascade_StageB_Conditioning", conditioning=prompt, stage_c=empty[0])[0]
    latents = graph.add(
        "KSampler",
        model=model,
        positive=prompt,
        negative=prompt,
        latent_image=empty[int(stage_b)],
        **SETTINGS,
    )[0]
    node = graph.add("SaveLatent", samples=latents, filename_prefix="released")
    server.forget_peak()
    start = time.monotonic()
    place = server.queue(graph.prompt())["outputs"][node.id]["latents"][0]
    seconds, peak = time.monotonic() - start, server.peak_memory() / GIGABYTE
    server.free()
    path = server.base / "output" / place["subfolder"] / place["filename"]
    return load_file(path)["latent_tensor"], seconds, peak


@pytest.mark.parametrize(
    ("loader", "stage"), [("CascadeLoadStageC", "stage_c"), ("CascadeLoadStageB", "stage_b")]
)
def test_stage_of_released_size_draws_what_the_hosts_own_draws(released, loader, stage):
    file = f"{stage}.safetensors"
    ours, *our_cost = drawn(released, loader, file=file, weight_dtype="as in file")
    theirs, *their_cost = drawn(released, "UNETLoader", unet_name=file, weight_dtype="default")
    for name, (seconds, peak) in (("ours", our_cost), ("ComfyUI's own", their_cost)):
        sys.stdout.write(f"\n{stage}, {name}: {seconds:.0f} s, {peak:.1f} GB at most")
    sys.stdout.write(f"\n{stage}: difference {difference(ours, theirs):.1e}\n")
    assert ours.isfinite().all()
    assert difference(ours, theirs) < 1e-3
