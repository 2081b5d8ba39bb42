"""Stage A and the semantic encoder on VAE sockets."""

import pytest
import tiny_cascade
import torch
from comfyui_cascade.stage_a import StageA, StageAConfig
from counted_memory import Counted
from random_weights import difference
from safetensors.torch import load_file
from tiny_cascade import unit

RELEASED = StageAConfig((192, 384), (768, 1536), 12, 4, 8192)


@pytest.fixture
def native_stage_a(tiny_files):
    from comfy.ldm.cascade.stage_a import StageA

    network = StageA(levels=2, bottleneck_blocks=1, c_hidden=16, codebook_size=32)
    network.load_state_dict(load_file(tiny_files["stage_a"]), strict=False)
    return network.eval()


def test_stage_a_decodes_and_encodes_as_the_hosts_own(comfy_nodes, tiny, native_stage_a):
    latents = unit(2, 4, 12, 20)
    image = comfy_nodes.VAEDecode().decode(tiny.stage_a, {"samples": latents})[0]
    assert image.shape == (2, 48, 80, 3)
    assert difference(image.movedim(-1, 1), native_stage_a.decode(latents)) < 1e-5
    picture = unit(1, 32, 24, 3).sigmoid()
    encoded = comfy_nodes.VAEEncode().encode(tiny.stage_a, picture)[0]["samples"]
    assert difference(encoded, native_stage_a.encode(picture.movedim(-1, 1))) < 1e-5


def test_stage_a_in_the_hosts_tiles_is_stage_a_whole(comfy_nodes, tiny):
    latents = {"samples": unit(2, 4, 64, 80)}
    whole = comfy_nodes.VAEDecode().decode(tiny.stage_a, latents)[0]
    tiled = comfy_nodes.VAEDecodeTiled().decode(tiny.stage_a, latents, 128, 64)[0]
    assert difference(tiled, whole) < 1e-5
    picture = whole.sigmoid()
    whole = comfy_nodes.VAEEncode().encode(tiny.stage_a, picture)[0]["samples"]
    tiled = comfy_nodes.VAEEncodeTiled().encode(tiny.stage_a, picture, 128, 64)[0]["samples"]
    assert difference(tiled, whole) < 1e-5


def test_stage_a_takes_tiles_by_itself_where_memory_is_short(comfy_nodes, tiny, monkeypatch):
    import comfy.model_management

    latents = {"samples": unit(1, 4, 72, 90)}
    picture = unit(1, 288, 360, 3).sigmoid()

    def both():
        decoded = comfy_nodes.VAEDecode().decode(tiny.stage_a, latents)[0]
        return decoded, comfy_nodes.VAEEncode().encode(tiny.stage_a, picture)[0]["samples"]

    whole = both()
    sizes = []
    network = tiny.stage_a.first_stage_model
    for name in ("decode", "encode"):
        original = getattr(network, name)
        monkeypatch.setattr(
            network,
            name,
            lambda x, original=original: sizes.append(x.shape[-1]) or original(x),
            raising=False,
        )
    room = tiny.stage_a.memory_used_decode((1, 4, 64, 64), torch.float32)
    monkeypatch.setattr(comfy.model_management, "get_free_memory", lambda *args, **kwargs: room)
    for tiled, expected in zip(both(), whole, strict=True):
        assert difference(tiled, expected) < 1e-5
    assert len(sizes) > 2
    assert max(sizes) < 360


def test_stage_a_goes_on_in_smaller_tiles_when_memory_runs_out_and_says_so(
    comfy_nodes, tiny, monkeypatch, said
):
    latents = {"samples": unit(2, 4, 80, 96)}
    whole = comfy_nodes.VAEDecode().decode(tiny.stage_a, latents)[0]
    network = tiny.stage_a.first_stage_model
    decode = network.decode

    def short_of_memory(x):
        if x.shape[-1] > 60:
            raise torch.OutOfMemoryError("as a device says it")
        return decode(x)

    monkeypatch.setattr(network, "decode", short_of_memory)
    assert difference(comfy_nodes.VAEDecode().decode(tiny.stage_a, latents)[0], whole) < 1e-5
    assert any("tiles of 160 pixels, with the same result" in text for text in said)


def test_pictures_of_other_sizes_and_with_alpha_are_cut_as_the_host_does(comfy_nodes, tiny):
    encoded = comfy_nodes.VAEEncode().encode(tiny.stage_a, torch.rand(1, 67, 130, 4))[0]["samples"]
    assert encoded.shape == (1, 4, 16, 32)
    tiled = comfy_nodes.VAEEncodeTiled().encode(tiny.stage_a, torch.rand(1, 256, 320, 3), 128, 32)[0][
        "samples"
    ]
    assert tiled.shape == (1, 4, 64, 80)


def test_semantic_encoder_encodes_and_draws_as_the_pure_networks_do(comfy_nodes, tiny):
    networks = tiny_cascade.networks()
    picture = torch.rand(2, 64, 96, 3)
    latents = comfy_nodes.VAEEncode().encode(tiny.coder, picture)[0]["samples"]
    assert difference(latents, networks["semantic_encoder"](picture.movedim(-1, 1))) < 1e-5
    image = comfy_nodes.VAEDecode().decode(tiny.coder, {"samples": latents})[0]
    assert difference(image.movedim(-1, 1), networks["previewer"](latents).clamp(0, 1)) < 1e-5


def test_semantic_encoder_never_works_in_tiles(comfy_nodes, tiny):
    picture = torch.rand(1, 256, 192, 3)
    whole = comfy_nodes.VAEEncode().encode(tiny.coder, picture)[0]["samples"]
    tiled = comfy_nodes.VAEEncodeTiled().encode(tiny.coder, picture, 64, 0)[0]["samples"]
    assert torch.equal(whole, tiled)
    image = comfy_nodes.VAEDecodeTiled().decode(tiny.coder, {"samples": whole}, 64)[0]
    assert torch.equal(image, comfy_nodes.VAEDecode().decode(tiny.coder, {"samples": whole})[0])


@pytest.mark.parametrize("decode", ["VAEDecode", "VAEDecodeTiled"])
def test_stage_a_refuses_stage_c_latents(comfy_nodes, tiny, decode):
    inputs = (tiny.stage_a, {"samples": unit(1, 16, 8, 8)}, *([64] if decode == "VAEDecodeTiled" else []))
    with pytest.raises(
        ValueError, match="Stage A was given latents of 16 channels, as those of Stage C have"
    ):
        getattr(comfy_nodes, decode)().decode(*inputs)


def test_semantic_encoder_refuses_stage_b_latents(comfy_nodes, tiny):
    with pytest.raises(ValueError, match="semantic encoder was given latents of 4 channels"):
        comfy_nodes.VAEDecode().decode(tiny.coder, {"samples": unit(1, 4, 8, 8)})


def test_semantic_encoder_without_a_previewer_says_what_to_choose(comfy_nodes, tiny_files):
    from comfyui_cascade.nodes import host

    coder = host.load_semantic_encoder(tiny_files["semantic_encoder"])
    with pytest.raises(ValueError, match="choose one in Load Semantic Encoder"):
        comfy_nodes.VAEDecode().decode(coder, {"samples": unit(1, 16, 8, 8)})


def test_memory_estimates_grow_with_the_picture(tiny):
    for vae in (tiny.stage_a, tiny.coder):
        small, large = (vae.memory_used_encode((1, 3, side, side), torch.float32) for side in (256, 512))
        assert large == pytest.approx(4 * small)
        small, large = (vae.memory_used_decode((1, 16, side, side), torch.float32) for side in (16, 32))
        assert large == pytest.approx(4 * small)


@pytest.mark.parametrize("side", [512, 1024, 2048])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_memory_estimate_of_the_released_stage_a_is_enough_and_not_far_off(comfy_nodes, side, dtype):
    from comfyui_cascade.nodes.host.vae import stage_a_features

    latents = torch.empty(1, 4, side // 4, side // 4, device="meta", dtype=dtype)
    with torch.inference_mode(), torch.device("meta"):
        stage_a = StageA(RELEASED).to(dtype)
        with Counted() as memory:
            stage_a.decode(latents)
    estimate = stage_a_features(RELEASED) * (side // 4) ** 2 * dtype.itemsize
    assert memory.peak <= estimate <= 3 * memory.peak
