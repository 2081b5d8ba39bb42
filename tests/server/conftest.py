"""The tiny cascade in a running ComfyUI's model folders, and a graph that begins with its loaders."""

import json
import shutil
import struct
import urllib.request
from types import SimpleNamespace

import numpy as np
import pytest
import tiny_cascade
import torch
import websocket
from comfy_host import ROOT
from comfyui_cascade.checkpoints.identify import Part
from comfyui_cascade.checkpoints.open import load_part
from comfyui_cascade.conditioning.image import encode
from safetensors.torch import load_file
from shipped_workflows import example

FOLDERS = {
    "stage_a": "vae",
    "stage_b": "diffusion_models",
    "stage_c": "diffusion_models",
    "text_encoder": "text_encoders",
    "image_encoder": "clip_vision",
    "semantic_encoder": "vae",
    "previewer": "vae",
}


@pytest.fixture(scope="session")
def tiny_server(server, tmp_path_factory):
    """The server, with ``tiny_<part>.safetensors`` in its folders."""
    for part, path in tiny_cascade.write(tmp_path_factory.mktemp("tiny")).items():
        folder = server.models_dir / FOLDERS[part]
        folder.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, folder / f"tiny_{part}.safetensors")
    return server


@pytest.fixture
def cascade(graph):
    """Links to what the loaders give, the prompts and the empty latents of two 128x96 pictures."""

    def load(node, part, **more):
        return graph.add(node, file=f"tiny_{part}.safetensors", **more)[0]

    def prompt(text):
        return graph.add("CLIPTextEncode", clip=clip, text=text)[0]

    stage_c = load("CascadeLoadStageC", "stage_c")
    clip = load("CascadeLoadTextEncoder", "text_encoder")
    empty = graph.add(
        "CascadeEmptyLatents", width=128, height=96, batch_size=2, compression=0.0, stage_c=stage_c
    )
    return SimpleNamespace(
        stage_c=stage_c,
        stage_b=load("CascadeLoadStageB", "stage_b"),
        stage_a=load("CascadeLoadStageA", "stage_a"),
        coder=load("CascadeLoadSemanticEncoder", "semantic_encoder", previewer="tiny_previewer.safetensors"),
        clip_vision=load("CascadeLoadImageEncoder", "image_encoder"),
        clip=clip,
        positive=prompt("a red cat"),
        negative=prompt(""),
        empty_c=empty[0],
        empty_b=empty[1],
    )


@pytest.fixture
def ksampler(graph):
    """The host's KSampler in the graph; the link to its latents."""

    def add(model, positive, negative, latents, **changes):
        settings = {
            "seed": 4,
            "steps": 2,
            "cfg": 2.0,
            "sampler_name": "ddpm",
            "scheduler": "simple",
            "denoise": 1.0,
        }
        sockets = {"model": model, "positive": positive, "negative": negative, "latent_image": latents}
        return graph.add("KSampler", **{**sockets, **settings, **changes})[0]

    return add


@pytest.fixture
def run(tiny_server, graph):
    """Run the graph to some latents or pictures: ``run(link, …)`` gives a tensor for each link to latents."""

    def latents(*links):
        nodes = [graph.add("SaveLatent", samples=link, filename_prefix="latents/test") for link in links]
        outputs = tiny_server.queue(graph.prompt())["outputs"]
        return [_saved(tiny_server, outputs[node.id]["latents"][0]) for node in nodes]

    return latents


def _saved(server, place):
    path = server.base / "output" / place["subfolder"] / place["filename"]
    return load_file(path)["latent_tensor"]


@pytest.fixture
def listener(tiny_server):
    """A page's connection: ``listener.events(prompt)`` runs a prompt and returns everything the page was "
    "sent."""
    return Listener(tiny_server)


class Listener:
    """Submits a prompt as a page does, and reads until it has ended."""

    def __init__(self, server):
        self.server = server
        self.socket = websocket.create_connection(
            f"ws://127.0.0.1:{server.port}/ws?clientId=test", timeout=120
        )

    def events(self, prompt, on_event=lambda kind, data: None, **extra_data):
        """``(kind, data)`` for each message; binary ones as ``("preview", bytes)`` or ``("text", str)``."""
        body = {"prompt": prompt, "client_id": "test", "extra_data": extra_data}
        self.post("/prompt", body)
        seen = []
        while not seen or seen[-1][0] not in (
            "execution_success",
            "execution_error",
            "execution_interrupted",
        ):
            seen.append(_read(self.socket.recv()))
            on_event(*seen[-1])
        self.socket.close()
        return seen

    def post(self, path, body):
        """Send JSON."""
        request = urllib.request.Request(
            self.server.url + path, json.dumps(body).encode(), {"Content-Type": "application/json"}
        )
        urllib.request.urlopen(request, timeout=60).read()


def _read(message):
    if isinstance(message, str):
        event = json.loads(message)
        return event["type"], event["data"]
    kind, length = struct.unpack(">II", message[:8])
    if kind == 3:
        return "text", message[8 + length :].decode()
    return "preview", message[8:]


@pytest.fixture(scope="session")
def draw(server, tmp_path_factory):
    """Runs a workflow given as JSON and returns its last picture as an array."""
    folder = tmp_path_factory.mktemp("workflows")

    def run(workflow):
        path = folder / f"{len(list(folder.iterdir()))}.json"
        path.write_text(json.dumps(workflow))
        return np.asarray(server.run_workflow(path)[-1].convert("RGB"), dtype=np.float32) / 255

    return run


@pytest.fixture(scope="session")
def likeness():
    """How like the pictures that ship one is to the image encoder that ships, from -1 to 1 each."""
    encoder = load_part(ROOT / "weights" / "image_encoder.safetensors", Part.IMAGE_ENCODER).float()

    def embedding(picture):
        return encode(encoder, torch.from_numpy(picture).movedim(-1, 0)[None])

    return lambda drawn: {
        name: torch.cosine_similarity(embedding(drawn), embedding(example(name))).item()
        for name in ("boat", "house", "cat")
    }
