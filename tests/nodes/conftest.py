"""The nodes in this process, on a tiny cascade; and the same weights in the host's own classes."""

import shutil
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import pytest
import tiny_cascade
import torch
from pictures_by_nodes import by_nodes


@pytest.fixture(autouse=True)
def _as_the_host_runs_nodes():
    with torch.inference_mode():
        yield


@pytest.fixture(scope="session")
def tiny_files(tmp_path_factory):
    """Path of each part's file."""
    return tiny_cascade.write(tmp_path_factory.mktemp("tiny"))


@pytest.fixture(scope="session")
def pack(comfy_nodes):
    """Every node of ours by id: ``pack["CascadeSampler"](stage_c=…)`` gives its outputs."""
    from comfyui_cascade.nodes import NODE_CLASS_MAPPINGS

    def runner(node):
        return lambda **inputs: node.PREPARE_CLASS_CLONE(None).execute(**inputs)

    return {node.define_schema().node_id: runner(node) for node in NODE_CLASS_MAPPINGS.values()}


@pytest.fixture(scope="session")
def tiny(comfy_nodes, tiny_files):
    """What the loaders give for the tiny files: ``tiny.stage_c`` is a MODEL, ``tiny.clip`` a CLIP."""
    from comfyui_cascade.nodes import host

    return SimpleNamespace(
        stage_c=host.load_model(tiny_files["stage_c"], host.Part.STAGE_C),
        stage_b=host.load_model(tiny_files["stage_b"], host.Part.STAGE_B),
        stage_a=host.load_stage_a(tiny_files["stage_a"]),
        coder=host.load_semantic_encoder(tiny_files["semantic_encoder"], tiny_files["previewer"]),
        clip=host.load_text_encoder(tiny_files["text_encoder"]),
        clip_vision=host.load_image_encoder(tiny_files["image_encoder"]),
    )


@pytest.fixture(scope="session")
def native(comfy_nodes, tiny_files):
    """The same two models in the host's own classes."""
    import comfy.model_management
    import comfy.model_patcher
    import comfy.supported_models
    from safetensors.torch import load_file

    def model(config_class, sizes, part):
        config = config_class(dict(sizes))
        config.set_inference_dtype(torch.float32, None)
        made = config.get_model({})
        made.load_model_weights(load_file(tiny_files[part]), "")
        device = comfy.model_management.get_torch_device()
        return comfy.model_patcher.CoreModelPatcher(made, load_device=device, offload_device=device)

    return SimpleNamespace(
        stage_c=model(comfy.supported_models.Stable_Cascade_C, tiny_cascade.NATIVE_C, "stage_c"),
        stage_b=model(comfy.supported_models.Stable_Cascade_B, tiny_cascade.NATIVE_B, "stage_b"),
    )


@pytest.fixture
def prompts(comfy_nodes, tiny):
    """A positive and a negative CONDITIONING."""
    encode = comfy_nodes.CLIPTextEncode().encode
    return SimpleNamespace(positive=encode(tiny.clip, "a red cat")[0], negative=encode(tiny.clip, "")[0])


@pytest.fixture
def ksample(comfy_nodes):
    """KSampler of the host with everything but the sockets set: ``ksample(model, positive, negative, "
    "latents)``."""

    def run(model, positive, negative, samples, **changes):
        settings = {
            "seed": 7,
            "steps": 4,
            "cfg": 3.0,
            "sampler_name": "ddpm",
            "scheduler": "simple",
        } | changes
        latents = {"samples": samples}
        return comfy_nodes.common_ksampler(
            model, positive=positive, negative=negative, latent=latents, **settings
        )[0]["samples"]

    return run


@pytest.fixture
def draw(tiny, prompts, ksample):
    """Latents that a MODEL draws."""

    def run(stage, model=None, positive=None, **changes):
        positive = positive or prompts.positive
        model = model or getattr(tiny, stage)
        start = torch.zeros(1, 16, 8, 10) if stage == "stage_c" else torch.zeros(1, 4, 48, 64)
        if stage == "stage_b":
            positive = [
                [text, {**more, "stable_cascade_prior": tiny_cascade.unit(1, 16, 8, 10)}]
                for text, more in positive
            ]
        return ksample(
            model, positive, prompts.negative, start, **{"sampler_name": "euler", "steps": 2, **changes}
        )

    return run


@pytest.fixture
def folders(comfy_nodes):
    """Puts a file or folder into the model folder of a part, and takes it out again.

    ``folders(part, source, name)``; ``kind`` is another of the host's model folders.
    """
    import folder_paths
    from comfyui_cascade.nodes.host import Part
    from comfyui_cascade.nodes.host.files import FOLDERS

    made = []

    def put(part, source, name, kind=None):
        folder = Path(folder_paths.get_folder_paths(kind or FOLDERS[Part(part)])[0])
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        copy = shutil.copytree if Path(source).is_dir() else shutil.copyfile
        copy(source, folder / name)
        made.append(folder / name)
        return folder / name

    yield put
    for path in made:
        shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)


@pytest.fixture
def said(monkeypatch):
    """What nodes said to the person, in order."""
    import logging

    texts = []

    class Listener(logging.Handler):
        def emit(self, record):
            texts.append(record.getMessage())

    logger, listener = logging.getLogger("comfyui_cascade.nodes.host.messages"), Listener()
    logger.addHandler(listener)
    yield texts
    logger.removeHandler(listener)


@pytest.fixture
def graph(pack, comfy_nodes, tiny):
    """Pictures ``b 3 h w`` drawn by nodes."""
    return partial(by_nodes, pack, comfy_nodes, tiny)
