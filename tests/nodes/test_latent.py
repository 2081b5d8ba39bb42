"""Empty latents, latents of pictures, previews of latents."""

import pytest
import torch
from tiny_cascade import unit


def shapes(outputs):
    return tuple(tuple(latents["samples"].shape) for latents in outputs.result)


@pytest.mark.parametrize(
    ("width", "height", "cells", "stage_b"),
    [
        (1024, 1024, (24, 24), (256, 256)),
        (832, 1216, (20, 29), (208, 304)),
        (1000, 68, (24, 2), (250, 18)),
        (64, 64, (2, 2), (16, 16)),
    ],
)
def test_sizes_round_up_as_the_reference_does(pack, width, height, cells, stage_b):
    out = pack["CascadeEmptyLatents"](width=width, height=height, batch_size=3, compression=0.0)
    assert shapes(out) == ((3, 16, cells[1], cells[0]), (3, 4, stage_b[1], stage_b[0]))
    assert not any(latents["samples"].any() for latents in out.result)


def test_compression_zero_is_what_the_model_was_trained_at(pack, tiny, native, said):
    for model, cells in ((tiny.stage_c, 12), (native.stage_c, 6)):
        out = pack["CascadeEmptyLatents"](width=256, height=256, batch_size=1, compression=0.0, stage_c=model)
        assert shapes(out)[0] == (1, 16, cells, cells)
    assert said == []


def test_compression_far_from_the_trained_one_is_told(pack, tiny, said):
    size = {"width": 256, "height": 256, "batch_size": 1}
    assert shapes(pack["CascadeEmptyLatents"](**size, compression=32.0))[0] == (1, 16, 8, 8)
    assert len(said) == 1
    pack["CascadeEmptyLatents"](**size, compression=20.0, stage_c=tiny.stage_c)
    assert len(said) == 1
    assert "trained at 42.67" in said[0]


def test_empty_latents_of_stage_b_wired_into_stage_c_become_its_size(pack, tiny, prompts, comfy_nodes):
    out = pack["CascadeEmptyLatents"](
        width=256, height=256, batch_size=1, compression=0.0, stage_c=tiny.stage_c
    )
    drawn = comfy_nodes.common_ksampler(
        tiny.stage_c, 1, 1, 1.0, "euler", "simple", prompts.positive, prompts.negative, out[1]
    )[0]
    assert drawn["samples"].shape == (1, 16, 12, 12)


def test_picture_becomes_latents_of_both_stages(pack, tiny):
    image = torch.rand(2, 200, 260, 4)
    out = pack["CascadeEncodeImage"](
        image=image, semantic_encoder=tiny.coder, compression=0.0, stage_a=tiny.stage_a
    )
    assert shapes(out) == ((2, 16, 10, 13), (2, 4, 50, 66))
    assert out[1]["samples"].any()
    empty = pack["CascadeEncodeImage"](image=image, semantic_encoder=tiny.coder, compression=0.0)
    assert shapes(empty) == shapes(out)
    assert not empty[1]["samples"].any()
    assert torch.equal(empty[0]["samples"], out[0]["samples"])


def test_picture_that_fits_is_encoded_as_it_is(pack, tiny):
    image = torch.rand(1, 96, 128, 3)
    out = pack["CascadeEncodeImage"](
        image=image, semantic_encoder=tiny.coder, compression=16.0, stage_a=tiny.stage_a
    )
    assert torch.equal(out[0]["samples"], tiny.coder.encode(image))
    assert torch.equal(out[1]["samples"], tiny.stage_a.encode(image))


def test_preview_is_what_the_previewer_draws(pack, tiny):
    latents = unit(2, 16, 6, 5)
    image = pack["CascadePreviewLatent"](stage_c={"samples": latents}, semantic_encoder=tiny.coder)[0]
    assert image.shape == (2, 48, 40, 3)
    assert torch.equal(image, tiny.coder.decode(latents))


def test_hosts_own_coder_encodes_and_previews(pack, comfy_nodes):
    import comfy.sd
    from comfy.ldm.cascade.stage_c_coder import StageC_coder

    coder = comfy.sd.VAE(sd=StageC_coder().state_dict())
    out = pack["CascadeEncodeImage"](
        image=torch.rand(1, 128, 128, 3), semantic_encoder=coder, compression=0.0
    )
    assert shapes(out) == ((1, 16, 3, 3), (1, 4, 32, 32))
    assert pack["CascadePreviewLatent"](stage_c=out[0], semantic_encoder=coder)[0].shape == (1, 24, 24, 3)


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        ({"semantic_encoder": "stage_a"}, "semantic_encoder was given a VAE of 4 latent channels"),
        ({"semantic_encoder": "coder", "stage_a": "coder"}, "stage_a was given a VAE of 16 latent channels"),
    ],
)
def test_vaes_on_each_others_sockets_are_refused(pack, tiny, inputs, message):
    vaes = {socket: getattr(tiny, part) for socket, part in inputs.items()}
    with pytest.raises(ValueError, match=message):
        pack["CascadeEncodeImage"](image=torch.rand(1, 64, 64, 3), compression=0.0, **vaes)


def test_preview_refuses_stage_b_latents(pack, tiny):
    with pytest.raises(ValueError, match="stage_c was given latents of 4 channels"):
        pack["CascadePreviewLatent"](stage_c={"samples": unit(1, 4, 8, 8)}, semantic_encoder=tiny.coder)


def test_picture_too_small_for_stage_b_is_refused(pack, tiny):
    with pytest.raises(ValueError, match="at least 64"):
        pack["CascadeEncodeImage"](
            image=torch.rand(1, 63, 80, 3), semantic_encoder=tiny.coder, compression=0.0
        )
