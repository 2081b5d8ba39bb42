"""Pictures as prompts: in a CONDITIONING, and as attention of their own in a MODEL."""

import pytest
import torch
from comfyui_cascade.adapters.image_prompt import new_image_adapter
from comfyui_cascade.checkpoints.open import load_part
from comfyui_cascade.checkpoints.save import save_tensors
from comfyui_cascade.conditioning.image import encode
from random_weights import difference, randomise
from tiny_cascade import COND, IMAGE, C, unit, write


def picture(seed=0, batch=1):
    return torch.rand(batch, 40, 60, 3, generator=torch.Generator().manual_seed(seed))


@pytest.fixture
def prompt(pack, tiny, prompts):
    """Image Prompt on pictures, with the text of ``prompts``; ``.result`` are both conditionings."""

    def run(*images, **changes):
        sockets = {"clip_vision": tiny.clip_vision, "images": {f"image{i}": p for i, p in enumerate(images)}}
        widgets = {"weights": "1", "together": "concatenate", "noise": 0.0, "crop": "center"}
        texts = {"conditioning": prompts.positive, "negative": prompts.negative}
        return pack["CascadeImagePrompt"](**sockets | widgets | texts | changes).result

    return run


@pytest.fixture
def draw(tiny, prompts, ksample):
    """Stage C's latents for a prompt."""

    def run(positive, negative=None, model=None, **changes):
        return ksample(
            model or tiny.stage_c, positive, negative or prompts.negative, torch.zeros(1, 16, 6, 6), **changes
        )

    return run


def native_prompt(comfy_nodes, tiny, conditioning, image, strength=1.0, noise=0.0):
    seen = comfy_nodes.CLIPVisionEncode().encode(tiny.clip_vision, image, "center")[0]
    return comfy_nodes.unCLIPConditioning().apply_adm(conditioning, seen, strength, noise)[0]


def vectors(conditioning):
    entries = conditioning[0][1].get("unclip_conditioning", [])
    parts = [entry["clip_vision_output"].image_embeds * entry["strength"] for entry in entries]
    return torch.cat(parts) if parts else torch.zeros(0, IMAGE)


@pytest.mark.parametrize("noise", [0.0, 0.3])
def test_node_draws_what_the_hosts_two_nodes_draw(comfy_nodes, tiny, prompts, prompt, draw, noise):
    theirs = native_prompt(comfy_nodes, tiny, prompts.positive, picture(), 0.7, noise)
    theirs = native_prompt(comfy_nodes, tiny, theirs, picture(1), 1.2, noise)
    ours, _ = prompt(picture(), picture(1), weights="0.7, 1.2", noise=noise)
    assert torch.equal(draw(ours), draw(theirs))
    assert difference(draw(ours), draw(prompts.positive)) > 1e-3


def test_hosts_own_stage_c_draws_the_same(native, prompt, draw):
    positive, _ = prompt(picture(), picture(1), weights="0.7, 1.2")
    assert difference(draw(positive), draw(positive, model=native.stage_c)) < 1e-4


def test_average_is_one_prompt_of_the_mean(prompt):
    first, second = (vectors(prompt(picture(seed))[0]) for seed in (0, 1))
    both = vectors(prompt(picture(), picture(1), weights="1, 0.5", together="average")[0])
    assert both.shape == (1, IMAGE)
    assert difference(both, (first + 0.5 * second) / 2) < 1e-6


def test_batch_counts_as_several_pictures(prompt):
    apart = vectors(prompt(picture(0), picture(1))[0])
    assert difference(vectors(prompt(torch.cat([picture(0), picture(1)]))[0]), apart) < 1e-6


def test_prompts_in_the_conditioning_stay(prompt):
    once, _ = prompt(picture())
    twice, _ = prompt(picture(1), conditioning=once)
    assert vectors(twice).shape[0] == 2
    assert vectors(once).shape[0] == 1


def test_negative_gets_as_many_pictures_of_nothing(prompts, prompt, tiny, draw):
    positive, negative = prompt(torch.cat([picture(0), picture(1), picture(2)]))
    assert torch.equal(vectors(negative), torch.zeros(3, IMAGE))
    assert torch.isfinite(draw(positive, negative)).all()
    assert prompt(picture())[1][0][1].keys() == prompts.negative[0][1].keys()


def test_text_is_empty_where_none_is_wired(comfy_nodes, tiny, prompt):
    positive, _ = prompt(picture(), conditioning=None, negative=None, clip=tiny.clip)
    empty = comfy_nodes.CLIPTextEncode().encode(tiny.clip, "")[0]
    assert torch.equal(positive[0][0], empty[0][0])
    assert vectors(positive).shape[0] == 1


def test_negative_that_was_not_wired_says_so_only_where_it_is_used(prompt):
    from comfy_execution.graph_utils import ExecutionBlocker

    positive, negative = prompt(picture(), negative=None)
    assert vectors(positive).shape[0] == 1
    assert isinstance(negative, ExecutionBlocker)
    assert "wire" in negative.message


def test_no_text_at_all_is_an_error_that_says_what_to_wire(prompt):
    with pytest.raises(ValueError, match="wire the CLIP of Load Text Encoder"):
        prompt(picture(), conditioning=None)


@pytest.mark.parametrize("weights", ["1, 2, 3", "much", "", "nan"])
def test_weights_that_do_not_fit_are_told(prompt, weights):
    with pytest.raises(ValueError, match="weights is"):
        prompt(picture(), picture(1), weights=weights)


def test_weight_zero_is_no_picture(prompts, prompt, draw):
    assert torch.equal(draw(prompt(picture(), weights="0")[0]), draw(prompts.positive))


def test_noise_on_the_picture_follows_the_seed(prompt, draw):
    clean, noisy = prompt(picture())[0], prompt(picture(), noise=0.5)[0]
    assert torch.equal(draw(noisy), draw(noisy))
    assert difference(draw(noisy), draw(clean)) > 1e-4


def test_encoder_sees_pictures_as_its_file_says(comfy_nodes, tmp_path):
    """Size, mean and deviation are the file's, in the host's classes as in ours."""
    from comfyui_cascade.nodes import host

    seen = {"image_mean": "[0.2, 0.5, 0.7]", "image_std": "[0.5, 1, 2]"}
    path = write(tmp_path, ["image_encoder"], **seen)["image_encoder"]
    image = (picture() * 255).round() / 255  # the host rounds to whole steps
    theirs = host.load_image_encoder(path).encode_image(image).image_embeds
    encoder = load_part(path, host.Part.IMAGE_ENCODER)
    assert (encoder.config.image_size, encoder.mean) == (28, (0.2, 0.5, 0.7))
    assert difference(encode(encoder, image.movedim(-1, 1)), theirs) < 0.02
    encoder.mean = (0.0, 0.0, 0.0)
    assert difference(encode(encoder, image.movedim(-1, 1)), theirs) > 0.02


# Decoupled image attention -------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def adapter_file(tmp_path_factory):
    path = tmp_path_factory.mktemp("adapters") / "style.safetensors"
    adapter = randomise(new_image_adapter(C.trunk, IMAGE, tokens=3, c_token=COND))
    save_tensors(path, adapter.state_dict(), {"cascade.part": "image_adapter"})
    return path


@pytest.fixture
def adapted(pack, tiny, adapter_file):
    """A MODEL with an image adapter on it."""
    from comfyui_cascade.nodes.host.image_adapter import open_image_adapter

    def run(model=None, seed=0, **changes):
        widgets = {"scale": 1.0, "start_percent": 0.0, "end_percent": 1.0, "crop": "center"}
        return pack["CascadeApplyImageAdapter"](
            model=model or tiny.stage_c, image_adapter=open_image_adapter(str(adapter_file)),
            clip_vision=tiny.clip_vision, image=picture(seed), **widgets | changes,
        )[0]  # fmt: skip

    return run


def test_scale_zero_draws_the_same_bits(prompts, adapted, draw):
    assert torch.equal(draw(prompts.positive, model=adapted(scale=0.0)), draw(prompts.positive))


def test_adapter_changes_its_own_branch_of_the_graph_alone(prompts, adapted, draw):
    before = draw(prompts.positive)
    model = adapted()
    changed = draw(prompts.positive, model=model)
    assert difference(changed, before) > 1e-3
    assert torch.equal(draw(prompts.positive), before)
    assert torch.equal(draw(prompts.positive, model=model), changed)


def test_two_adapters_compose_in_any_order(prompts, adapted, draw):
    one = draw(prompts.positive, model=adapted(adapted(seed=0), seed=1, scale=0.5))
    other = draw(prompts.positive, model=adapted(adapted(seed=1, scale=0.5), seed=0))
    assert difference(one, other) < 1e-4
    assert difference(one, draw(prompts.positive, model=adapted(seed=0))) > 1e-3


@pytest.mark.parametrize("percents", [(0.0, 0.0), (1.0, 1.0)])
def test_outside_of_its_percents_it_changes_no_bit(prompts, adapted, draw, percents):
    # The first step's noise level lies just below what the host calls percent 0.
    model = adapted(start_percent=percents[0], end_percent=percents[1])
    assert torch.equal(draw(prompts.positive, model=model), draw(prompts.positive))


def test_part_of_the_run_differs_from_all_of_it(prompts, adapted, draw):
    late = draw(prompts.positive, model=adapted(start_percent=0.5))
    assert difference(late, draw(prompts.positive, model=adapted())) > 1e-4
    assert difference(late, draw(prompts.positive)) > 1e-4


def test_empty_region_is_no_picture(prompts, adapted, draw):
    nowhere = draw(prompts.positive, model=adapted(region=torch.zeros(1, 64, 64)))
    assert torch.equal(nowhere, draw(prompts.positive))
    everywhere = draw(prompts.positive, model=adapted(region=torch.ones(1, 30, 50)))
    assert torch.equal(everywhere, draw(prompts.positive, model=adapted()))


def test_negative_prompt_sees_no_picture(prompts, adapted, draw):
    # At cfg 0 the host draws what the negative prompt alone says, in one batch with the positive.
    of_negative = [draw(prompts.positive, model=adapted(seed=seed), cfg=0.0) for seed in (0, 1)]
    of_positive = [draw(prompts.positive, model=adapted(seed=seed), cfg=1.0) for seed in (0, 1)]
    assert torch.equal(*of_negative)
    assert difference(*of_positive) > 1e-3


def test_each_latent_of_a_batch_has_its_own_region(prompts, adapted, ksample, tiny):
    regions = torch.stack([torch.zeros(8, 8), torch.ones(8, 8)])
    plain, with_regions, seen = (
        ksample(model, prompts.positive, prompts.negative, torch.zeros(2, 16, 6, 6))
        for model in (tiny.stage_c, adapted(region=regions), adapted())
    )
    assert difference(with_regions[0], plain[0]) < 1e-5
    assert difference(with_regions[1], seen[1]) < 1e-5
    assert difference(with_regions[1], plain[1]) > 1e-3


def test_packs_that_join_prompts_see_the_picture_in_each(prompts, adapted, draw):
    model = adapted().clone()

    def twice(q, k, v, options):
        conds = [0 if kind == 1 else 1 for kind in options["cond_or_uncond"]]
        rows = [i for i, conditional in enumerate(conds) for _ in range(1 + conditional)]
        return q[rows], k[rows], v[rows]

    def mean(y, options):
        counts = [1 if kind == 1 else 2 for kind in options["cond_or_uncond"]]
        return torch.stack([part.mean(dim=0) for part in y.split(counts)])

    model.set_model_attn2_patch(twice)
    model.set_model_attn2_output_patch(mean)
    joined = draw(prompts.positive, model=model, cfg=3.0)
    assert difference(joined, draw(prompts.positive, model=adapted(), cfg=3.0)) < 1e-4


def test_patches_of_the_host_work_beside_it(prompts, adapted, draw):
    model = adapted().clone()
    model.set_model_attn1_patch(lambda q, k, v, options: (q, k, v))
    assert difference(draw(prompts.positive, model=model), draw(prompts.positive, model=adapted())) < 1e-5


def test_hosts_own_stage_c_is_refused(native, adapted):
    with pytest.raises(ValueError, match="load the file with Load Stage C"):
        adapted(native.stage_c)


def test_stage_b_is_refused(tiny, adapted):
    with pytest.raises(ValueError, match="load the file with Load Stage C"):
        adapted(tiny.stage_b)


def test_image_encoder_of_another_width_is_told(tiny, adapter_file):
    from comfyui_cascade.nodes.host.image_adapter import open_image_adapter, with_image_adapter

    loaded = open_image_adapter(str(adapter_file))
    with pytest.raises(ValueError, match=r"`style.safetensors` takes image embeddings of 768 .* makes 20"):
        with_image_adapter(tiny.stage_c, loaded, unit(1, 20), 1.0, (0.0, 1.0), None)
