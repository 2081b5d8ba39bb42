"""Files of the released sizes in every layout: what our loaders give against what ComfyUI's own give.

Stage B and Stage C are too large for every day; ``tests/server/test_released_sizes.py`` has them.
"""

import pytest
import torch
from comfyui_cascade.checkpoints.convert import convert
from comfyui_cascade.checkpoints.identify import Part
from comfyui_cascade.checkpoints.layout import Layout
from comfyui_cascade.checkpoints.open import NETWORKS
from comfyui_cascade.checkpoints.save import save
from manifests import manifest
from random_weights import difference, randomise

pytestmark = pytest.mark.usefixtures("comfy_nodes")

FILES = {"stage_a": Part.STAGE_A, "effnet_encoder": Part.SEMANTIC_ENCODER, "previewer": Part.PREVIEWER}


@pytest.fixture(autouse=True)
def _as_the_host_runs_nodes():
    with torch.inference_mode():
        yield


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """Files of the released sizes with random weights, by name."""
    root = tmp_path_factory.mktemp("released")
    for name, part in FILES.items():
        network_class, config_class = NETWORKS[part]
        weights = randomise(network_class(config_class.from_shapes(manifest(name)))).state_dict()
        save(root / f"{name}.safetensors", part, weights, layout=Layout.STABILITY, dtype=None, metadata={})
    convert([root / "effnet_encoder.safetensors", root / "previewer.safetensors"],
            root / "coder.safetensors", layout=Layout.COMFYUI, dtype=None)  # fmt: skip
    convert([root / "stage_a.safetensors"], root / "vqgan", layout=Layout.DIFFUSERS, dtype=None)
    return root


def theirs(path):
    import comfy.sd
    import comfy.utils

    weights = comfy.utils.load_torch_file(str(path))
    return comfy.sd.VAE(sd={key.removeprefix("vae."): value for key, value in weights.items()})


@pytest.mark.parametrize("name", ["stage_a.safetensors", "vqgan"])
def test_stage_a_is_the_one_that_the_host_loads(files, name):
    from comfyui_cascade.nodes import host

    ours, expected = host.load_stage_a(files / name), theirs(files / "stage_a.safetensors")
    latents, picture = torch.randn(1, 4, 8, 12), torch.rand(1, 32, 48, 3)
    assert difference(ours.decode(latents), expected.decode(latents)) < 3e-5
    assert difference(ours.encode(picture), expected.encode(picture)) < 3e-5


@pytest.mark.parametrize("together", [True, False])
def test_semantic_encoder_and_previewer_are_those_that_the_host_loads(files, together):
    from comfyui_cascade.nodes import host

    whole = files / "coder.safetensors"
    pair = (
        (whole, whole)
        if together
        else (files / "effnet_encoder.safetensors", files / "previewer.safetensors")
    )
    ours, expected = host.load_semantic_encoder(*pair), theirs(whole)
    latents, picture = torch.randn(1, 16, 4, 5), torch.rand(1, 96, 128, 3)
    assert difference(ours.decode(latents), expected.decode(latents)) < 3e-5
    assert difference(ours.encode(picture), expected.encode(picture)) < 3e-5
