"""What the host's nodes and other packs put on a MODEL takes effect inside our Stage B and Stage C."""

import pytest
import torch
from random_weights import difference

EXACT = 1e-5
"""fp32; a softmax computed in two parts, batches parted otherwise."""

STAGES = ["stage_c", "stage_b"]


def ordinary(q, k, v, extra_options):
    from comfy.ldm.modules.attention import optimized_attention

    return optimized_attention(q, k, v, extra_options["n_heads"])


EVERYWHERE = [("middle", 0), *(("input", i) for i in range(4)), *(("output", i) for i in range(3))]


@pytest.mark.parametrize("replaced", [["attn1"], ["attn2"], ["attn1", "attn2"]])
@pytest.mark.parametrize("stage", STAGES)
def test_attention_in_two_parts_is_attention(tiny, draw, stage, replaced):
    model = getattr(tiny, stage).clone()
    for name in replaced:
        for block in EVERYWHERE:
            model.set_model_patch_replace(ordinary, name, *block)
    assert 0 < difference(draw(stage, model), draw(stage)) < EXACT


@pytest.mark.parametrize("stage", STAGES)
def test_the_hosts_perturbed_attention_guidance_takes_effect(tiny, draw, stage):
    from comfy_extras.nodes_pag import PerturbedAttentionGuidance

    def guided(scale):
        return draw(stage, PerturbedAttentionGuidance.execute(getattr(tiny, stage), scale)[0])

    assert torch.equal(guided(0.0), draw(stage))
    assert difference(guided(3.0), draw(stage)) > 1e-3


@pytest.mark.parametrize("stage", STAGES)
def test_the_hosts_self_attention_guidance_takes_effect(tiny, draw, stage):
    from comfy_extras.nodes_sag import SelfAttentionGuidance

    def guided(scale):
        return draw(stage, SelfAttentionGuidance.execute(getattr(tiny, stage), scale, 2.0)[0])

    assert difference(guided(1.0), guided(0.0)) > 1e-3


def test_the_hosts_skip_layer_guidance_leaves_out_units(tiny, draw):
    from comfy_extras.nodes_slg import SkipLayerGuidanceDiT

    def guided(layers):
        return draw("stage_c", SkipLayerGuidanceDiT.execute(tiny.stage_c, 3.0, 0.0, 1.0, "", layers)[0])

    assert difference(guided("1"), draw("stage_c")) > 1e-3
    assert difference(guided("77"), draw("stage_c")) < EXACT


def test_the_hosts_downscale_shrinks_the_inner_level_only(tiny, draw):
    from comfy_extras.nodes_model_downscale import PatchModelAddDownscale

    for block, after_skip in ((0, True), (1, False)):
        model = PatchModelAddDownscale.execute(
            tiny.stage_c, block, 2.0, 0.0, 1.0, after_skip, "bicubic", "bicubic"
        )[0]
        found = draw("stage_c", model)
        assert found.shape == draw("stage_c").shape
        assert difference(found, draw("stage_c")) > 1e-3


@pytest.mark.parametrize("stage", STAGES)
def test_an_attention_override_computes_every_attention(tiny, draw, stage):
    calls = []

    def override(func, *args, **kwargs):
        calls.append(args[0].shape)
        return func(*args, **kwargs)

    model = getattr(tiny, stage).clone()
    model.model_options["transformer_options"]["optimized_attention_override"] = override
    assert torch.equal(draw(stage, model, steps=1), draw(stage, steps=1))
    assert len(calls) >= 4


def test_patches_of_inputs_and_outputs_are_called_in_every_block(tiny, draw):
    blocks = []

    def inputs(q, k, v, extra_options):
        blocks.append(extra_options["block"])
        return q[:, ::2], k, v

    def output(y, extra_options):
        assert y.shape[1:] == (40, 32)
        assert extra_options["original_shape"][2:] == [8, 10]
        return y.repeat_interleave(2, dim=1)

    model = tiny.stage_c.clone()
    model.set_model_attn1_patch(inputs)
    model.set_model_attn1_output_patch(output)
    assert difference(draw("stage_c", model, steps=1, cfg=1.0), draw("stage_c", steps=1, cfg=1.0)) > 1e-3
    assert blocks == [("input", 0), ("input", 1), ("middle", 0), ("output", 0)]


def coupled(model, prompts, masks):
    """Attention couple as packs for U-Nets write it: a row for each prompt, merged by masks afterwards."""
    texts = torch.cat([prompt[0][0] for prompt in prompts])
    masks = torch.stack(masks)[:, :, None]  # prompts cells 1

    def inputs(q, k, v, extra_options):
        kinds = extra_options["cond_or_uncond"]
        pairs = list(zip(kinds, q.chunk(len(kinds)), k.chunk(len(kinds)), strict=True))
        assert k.shape[-1] == texts.shape[-1]
        q = torch.cat([a if kind else a.repeat(len(texts), 1, 1) for kind, a, _ in pairs])
        k = torch.cat([b if kind else texts for kind, _, b in pairs])
        return q, k, k

    def output(y, extra_options):
        rows, merged = iter(y), []
        for kind in extra_options["cond_or_uncond"]:
            if kind:
                merged.append(next(rows))
            else:
                merged.append(sum(next(rows) * mask for mask in masks))
        return torch.stack(merged)

    model = model.clone()
    model.set_model_attn2_patch(inputs)
    model.set_model_attn2_output_patch(output)
    return model


def test_attention_couple_joins_prompts_by_regions(comfy_nodes, tiny, prompts, draw):
    other = comfy_nodes.CLIPTextEncode().encode(tiny.clip, "a blue house")[0]
    left = (torch.arange(80) % 10 < 5).float()
    both = [prompts.positive, other]
    same = coupled(tiny.stage_c, [prompts.positive] * 2, [left, 1 - left])
    assert difference(draw("stage_c", same), draw("stage_c")) < EXACT
    # A region that is everywhere is its text alone; the pooled text stays that of the first prompt.
    whole = coupled(tiny.stage_c, both, [torch.zeros(80), torch.ones(80)])
    text = [[other[0][0], prompts.positive[0][1]]]
    assert difference(draw("stage_c", whole), draw("stage_c", positive=text)) < EXACT
    halves = draw("stage_c", coupled(tiny.stage_c, both, [left, 1 - left]))
    assert difference(halves, draw("stage_c")) > 1e-3


def test_attention_patches_that_make_odd_batches_are_told_of(tiny, draw):
    model = tiny.stage_c.clone()
    model.set_model_attn2_patch(lambda q, k, v, _: (q[:1], k[:1], k[:1]))
    with pytest.raises(ValueError, match="how they belong"):
        draw("stage_c", model)


@pytest.mark.parametrize("stage", STAGES)
def test_packs_may_add_attention_of_their_own(tiny, draw, stage):
    seen = []

    def patch(call, inner, options):
        seen.append((options["block"], len(options["cond_or_uncond"])))
        return inner(call) + 0.5 * call.attend(call.q, call.q, call.q, call.heads)

    model = getattr(tiny, stage).clone()
    model.set_model_patch(patch, "cascade_attention")
    assert difference(draw(stage, model, steps=1), draw(stage, steps=1)) > 1e-3
    assert {block for block, _ in seen} >= {("middle", 0)}


def test_packs_may_leave_out_a_unit(tiny, draw):
    model = tiny.stage_c.clone()
    model.set_model_patch(lambda place, x, inner, options: x, "cascade_unit")
    assert difference(draw("stage_c", model, steps=1), draw("stage_c", steps=1)) > 1e-3
