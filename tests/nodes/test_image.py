"""Pictures made to fit, masks over latents, and what inpainting keeps."""

import pytest
import torch
from random_weights import difference
from tiny_cascade import unit

WIDGETS = {
    "seed": 3,
    "steps_c": 3, "cfg_c": 3.0, "sampler_c": "ddpm", "scheduler_c": "simple", "denoise_c": 1.0,
    "steps_b": 3, "cfg_b": 1.0, "sampler_b": "ddpm", "scheduler_b": "simple", "denoise_b": 1.0,
}  # fmt: skip


@pytest.fixture
def fit(pack):
    def run(image, **changes):
        widgets = {
            "way": "crop", "width": 0, "height": 0, "place": "center", "multiple": 64, "fill": "edge",
        }  # fmt: skip
        return pack["CascadeFitImage"](image=image, **widgets | changes)

    return run


@pytest.fixture
def mask_latents(pack):
    def run(stage_c, stage_b, mask, feather=0):
        return pack["CascadeMaskLatents"](
            stage_c={"samples": stage_c}, stage_b={"samples": stage_b}, mask=mask, feather=feather
        )

    return run


def picture(width, height, batch=1):
    return torch.rand(batch, height, width, 3, generator=torch.Generator().manual_seed(0))


def left_half(width=256, height=192):
    mask = torch.zeros(1, height, width)
    mask[..., : width // 2] = 1
    return mask


def test_fitted_picture_and_its_mask_have_the_size_that_is_said(fit):
    image, mask, width, height, text = fit(picture(250, 170, batch=2), way="pad").result
    assert image.shape == (2, 192, 256, 3)
    assert mask.shape == (1, 192, 256)
    assert (width, height) == (256, 192)
    assert text.endswith(": 256x192")
    assert mask.sum() == 256 * 192 - 250 * 170


def test_mask_comes_along_with_the_picture(fit):
    image = picture(200, 100)
    mask = torch.zeros(1, 50, 100)
    mask[:, :, :25] = 1  # the left quarter, at half the picture's size
    _, fitted, *_ = fit(image, way="canvas", width=256, height=128, place="right", mask=mask).result
    assert fitted.shape == (1, 128, 256)
    assert fitted[0, 64, :56].min() == 1  # filled
    assert fitted[0, 64, 56:106].min() == 1  # covered by the mask
    assert fitted[0, 64, 106:].max() == 0


def test_both_latents_get_a_mask_over_the_cells_it_touches(mask_latents):
    mask = torch.zeros(1, 192, 256)
    mask[0, 100, 100] = 1
    stage_c, stage_b, _ = mask_latents(unit(1, 16, 9, 12), unit(1, 4, 48, 64), mask).result
    assert stage_c["noise_mask"].shape == (1, 1, 9, 12)
    assert stage_b["noise_mask"].shape == (1, 1, 48, 64)
    assert stage_c["noise_mask"].nonzero().tolist() == [[0, 0, 4, 4]]
    assert stage_b["noise_mask"].nonzero().tolist() == [[0, 0, 25, 25]]


@pytest.mark.parametrize("shape", [(1, 7, 9), (2, 400, 533), (192, 256)])
def test_mask_of_any_size_will_do(mask_latents, ksample, tiny, prompts, shape):
    mask = torch.ones(shape)
    stage_c, *_ = mask_latents(unit(2, 16, 9, 12), unit(2, 4, 48, 64), mask, feather=2).result
    assert stage_c["noise_mask"].shape[-2:] == (9, 12)
    assert stage_c["noise_mask"].min() == 1


def test_mask_of_other_proportions_is_told(mask_latents, said):
    latents = unit(1, 16, 9, 12), unit(1, 4, 48, 64)
    mask_latents(*latents, torch.zeros(1, 64, 64))  # of a picture without one, as Load Image gives it
    assert said == []
    mask_latents(*latents, left_half(100, 300))
    assert "100x300" in said[0]


def test_empty_latents_of_stage_b_get_no_mask(mask_latents, said):
    stage_c, stage_b, _ = mask_latents(unit(1, 16, 9, 12), torch.zeros(1, 4, 48, 64), left_half()).result
    assert "noise_mask" in stage_c
    assert "noise_mask" not in stage_b
    assert "wire Load Stage A" in said[0]


@pytest.fixture
def inpaint(pack, tiny, prompts):
    """Runs both stages on masked latents."""

    def run(stage_c, stage_b, model=None, **changes):
        return pack["CascadeSampler"](
            stage_c=model or tiny.stage_c, stage_b=tiny.stage_b, positive=prompts.positive,
            negative=prompts.negative, stage_c_latent=stage_c, stage_b_latent=stage_b, **WIDGETS | changes,
        ).result  # fmt: skip

    return run


def test_kept_cells_of_both_stages_stay_as_they_were(mask_latents, inpaint):
    before_c, before_b = unit(1, 16, 9, 12), unit(1, 4, 48, 64, seed=1) * 0.43
    stage_c, stage_b, _ = mask_latents(before_c, before_b, left_half()).result
    after_b, after_c = inpaint(stage_c, stage_b)
    # Up to the rounding of ddpm's last step, and of Stage B's scale, which is taken off and put on again.
    assert difference(after_c["samples"][..., 6:], before_c[..., 6:]) < 1e-5
    assert difference(after_b["samples"][..., 32:], before_b[..., 32:]) < 1e-5
    assert difference(after_c["samples"][..., :6], before_c[..., :6]) > 0.1
    assert difference(after_b["samples"][..., :32], before_b[..., :32]) > 0.1


def test_differential_diffusion_keeps_cells_longer_the_softer_their_mask(
    comfy_nodes, mask_latents, inpaint, tiny, pack, prompts
):
    from comfy_extras.nodes_differential_diffusion import DifferentialDiffusion

    model = DifferentialDiffusion.execute(tiny.stage_c)[0]
    before = unit(1, 16, 9, 12)
    ramp = torch.linspace(0, 1, 256).expand(1, 192, 256)
    stage_c, stage_b, _ = mask_latents(before, unit(1, 4, 48, 64), ramp).result
    _, after = inpaint(stage_c, stage_b, model=model, steps_c=8)
    _, redrawn = inpaint({"samples": before}, stage_b, steps_c=8)
    assert torch.isfinite(after["samples"]).all()
    change = (after["samples"] - before).square().mean(dim=(0, 1, 2)).sqrt()
    assert change[0] < change[-1]
    assert difference(after["samples"], redrawn["samples"]) > 1e-3


def test_compositing_puts_the_kept_pixels_back_exactly(comfy_nodes, pack, tiny, mask_latents, inpaint):
    from comfy_extras.nodes_mask import ImageCompositeMasked

    image = picture(256, 192)
    encoded = pack["CascadeEncodeImage"](
        image=image, semantic_encoder=tiny.coder, compression=0.0, stage_a=tiny.stage_a
    ).result
    masked = mask_latents(*(latents["samples"] for latents in encoded), left_half(), feather=8).result
    drawn = tiny.stage_a.decode(inpaint(*masked[:2])[0]["samples"])
    final = ImageCompositeMasked.execute(image, drawn, 0, 0, True, masked[2])[0]
    kept = masked[2][0] == 0
    assert 0.4 < kept.float().mean() < 0.5
    assert torch.equal(final[0][kept], image[0][kept])
    assert torch.equal(final[0, :, :128], drawn[0, :, :128])


@pytest.mark.parametrize(("steps", "denoise"), [(16, 0.8), (10, 0.5), (20, 1.0)])
def test_denoise_starts_at_the_references_time(comfy_nodes, tiny, steps, denoise):
    from comfy.samplers import KSampler
    from comfyui_cascade.samplers.schedule import logsnr_of_time

    # The reference's own: `steps` of time from t_start, at the shift that the model samples at.
    sampler = KSampler(tiny.stage_c, steps, "cpu", "ddpm", "simple", denoise)
    shift = tiny.stage_c.get_model_object("model_sampling").shift
    times = torch.linspace(denoise, 0, steps + 1)[:-1]
    sigmas = torch.exp(-logsnr_of_time(times, shift) / 2)
    assert len(sampler.sigmas) == steps + 1
    assert difference(sampler.sigmas[:-1].log(), sigmas.log()) < 1e-3
