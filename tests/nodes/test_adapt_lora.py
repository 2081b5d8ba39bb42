"""Load LoRA and its hook on the host's models: the same as merging by hand, undone without a trace."""

import lora_files
import pytest
import torch
from lora_files import DIALECTS
from safetensors.torch import save_file
from torch.nn import Linear

EXACT = 1e-5  # of fp32 weights of about 1; products are summed in another order than by hand
HALF = 2e-3  # of fp16 weights of about 1, which the host keeps text encoders in


@pytest.fixture
def put(folders, tmp_path):
    """Puts a LoRA into the host's folder: ``put(tensors, name)``."""

    def write(tensors, name="style.safetensors", metadata=None):
        path = tmp_path / name
        save_file({key: value.contiguous().clone() for key, value in tensors.items()}, path, metadata)
        folders(None, path, name, kind="loras")
        return name

    return write


@pytest.fixture
def apply(pack, tiny):
    def run(file, model=None, strength_model=1.0, strength_clip=1.0, **more):
        model = tiny.stage_c if model is None else model
        out = pack["CascadeLoadLora"](
            model=model, file=file, strength_model=strength_model, strength_clip=strength_clip, **more
        )
        return out.result

    return run


def weights_of(patcher, prefix="diffusion_model."):
    return {
        key.removeprefix(prefix): value.clone()
        for key, value in patcher.model.state_dict().items()
        if key.startswith(prefix)
    }


class Patched:
    """The weights of a patcher while the host has it loaded."""

    def __init__(self, patcher, prefix="diffusion_model."):
        self.patcher, self.prefix = patcher, prefix

    def __enter__(self):
        import comfy.model_management

        comfy.model_management.load_models_gpu([self.patcher], force_full_load=True)
        return weights_of(self.patcher, self.prefix)

    def __exit__(self, *_):
        import comfy.model_management

        comfy.model_management.unload_all_models()


def full_name(weights, path):
    return path if path in weights else f"{path}.weight"


def furthest(before, after, deltas):
    """Largest difference from adding by hand, over all weights."""
    named = {full_name(before, path): delta for path, delta in deltas.items()}
    return max((after[key] - before[key] - named.get(key, 0)).abs().max().item() for key in before)


@pytest.mark.parametrize("dialect", DIALECTS)
def test_dialect_equals_merging_by_hand(put, apply, tiny, said, dialect):
    tensors, deltas = DIALECTS[dialect]()
    before = weights_of(tiny.stage_c)
    model = apply(put(tensors), strength_model=0.7)[0]
    with Patched(model) as after:
        assert furthest(before, after, {path: 0.7 * delta for path, delta in deltas.items()}) < EXACT
    assert said == []


def test_kronecker_factors_that_do_not_divide_are_multiplied_out(put, apply, tiny):
    tensors, deltas = lora_files.lokr_fused(rows=4)
    before = weights_of(tiny.stage_c)
    with Patched(apply(put(tensors))[0]) as after:
        assert furthest(before, after, deltas) < EXACT


@pytest.mark.parametrize("maker", [lora_files.stage_b, lora_files.stage_b_diffusers])
def test_stage_b_takes_loras_too(put, apply, tiny, maker):
    tensors, deltas = maker()
    before = weights_of(tiny.stage_b)
    with Patched(apply(put(tensors), tiny.stage_b)[0]) as after:
        assert furthest(before, after, deltas) < EXACT


def test_text_encoder_equals_merging_by_hand(put, apply, tiny):
    tensors, deltas = lora_files.text()
    before = weights_of(tiny.clip.patcher, "clip_g.transformer.")
    model, clip, _ = apply(put(tensors), clip=tiny.clip, strength_clip=0.5)
    assert model is tiny.stage_c
    with Patched(clip.patcher, "clip_g.transformer.") as after:
        assert furthest(before, after, {path: 0.5 * delta for path, delta in deltas.items()}) < HALF


def test_dora_and_rotations_equal_their_formulas(put, apply, tiny):
    path = "down_blocks.0.2.attention.attn.to_q"
    name, draw = f"lora_unet_{lora_files.flat(path)}", lora_files.Draw(1)
    weight = weights_of(tiny.stage_c)[f"{path}.weight"]
    up, down, scale = draw(32, 4), draw(4, 32), 1 + draw(1, 32)
    dora = {f"{name}.lora_up.weight": up, f"{name}.lora_down.weight": down, f"{name}.dora_scale": scale}
    with Patched(apply(put(dora))[0]) as after:
        moved = weight + up @ down
        expected = moved / moved.norm(dim=0, keepdim=True) * scale
        assert (after[f"{path}.weight"] - expected).abs().max() < EXACT
    rows = 1 + draw(32)  # as PEFT writes them
    peft = {f"{path.replace('attention.attn', 'attention')}.lora_A.weight": down}
    peft |= {key.replace("lora_A.weight", "lora_B.weight"): up for key in peft}
    peft |= {key.replace("lora_A.weight", "lora_magnitude_vector"): rows for key in list(peft)[:1]}
    with Patched(apply(put(peft), strength_model=0.5)[0]) as after:
        expected = weight + 0.5 * (rows[:, None] * moved / moved.norm(dim=1, keepdim=True) - weight)
        assert (after[f"{path}.weight"] - expected).abs().max() < EXACT
    blocks = draw(4, 8, 8)
    with Patched(apply(put({f"{name}.oft_blocks": blocks}))[0]) as after:
        skew = blocks - blocks.transpose(1, 2)
        eye = torch.eye(8)
        turned = torch.linalg.solve(eye - skew, eye + skew)  # the two factors commute
        expected = torch.cat(
            [turn.T @ rows for turn, rows in zip(turned, weight.view(4, 8, 32), strict=True)]
        )
        assert (after[f"{path}.weight"] - expected).abs().max() < EXACT


@pytest.mark.parametrize("dialect", ["stability", "peft", "loha", "difference"])
def test_strength_zero_gives_back_what_came_in(put, apply, tiny, dialect):
    model, clip, _ = apply(put(DIALECTS[dialect]()[0]), clip=tiny.clip, strength_model=0.0, strength_clip=0.0)
    assert model is tiny.stage_c
    assert clip is tiny.clip


def test_two_loras_commute_and_add_up(put, apply, tiny):
    first, second = (
        put(lora_files.stability()[0], "a.safetensors"),
        put(lora_files.loha()[0], "b.safetensors"),
    )
    before = weights_of(tiny.stage_c)
    both = {path: delta + lora_files.loha()[1][path] for path, delta in lora_files.stability()[1].items()}
    for order in ((first, second), (second, first)):
        model = apply(order[1], apply(order[0])[0])[0]
        with Patched(model) as after:
            assert furthest(before, after, both) < EXACT


def test_unloading_restores_every_bit_and_clones_share_nothing(put, apply, tiny):
    before = weights_of(tiny.stage_c)
    model = apply(put(lora_files.kohya()[0]))[0]
    assert model is not tiny.stage_c
    assert not tiny.stage_c.patches
    with Patched(model) as after:
        assert any(not torch.equal(after[key], before[key]) for key in before)
    restored = weights_of(tiny.stage_c)
    assert all(torch.equal(restored[key], before[key]) for key in before)


def test_sampling_with_a_lora_differs_and_without_it_is_as_before(put, apply, tiny, prompts, ksample):
    noise = torch.zeros(1, 16, 4, 4)
    plain = ksample(tiny.stage_c, prompts.positive, prompts.negative, noise)
    styled = ksample(apply(put(lora_files.peft()[0]))[0], prompts.positive, prompts.negative, noise)
    assert (styled - plain).abs().max() > 1e-3
    assert torch.equal(ksample(tiny.stage_c, prompts.positive, prompts.negative, noise), plain)


def test_fp8_weights_take_a_lora(put, apply, tiny_files, comfy_nodes):
    from comfyui_cascade.nodes import host

    model = host.load_model(tiny_files["stage_c"], host.Part.STAGE_C, "fp8_e4m3fn")
    before = weights_of(model)
    key = "down_blocks.0.2.attention.attn.to_q"
    tensors, deltas = lora_files.onetrainer()
    with Patched(apply(put(tensors), model)[0]) as after:
        assert after[f"{key}.weight"].dtype == torch.float8_e4m3fn
        moved = after[f"{key}.weight"].float() - before[f"{key}.weight"].float()
        assert (moved - deltas[key]).abs().max() < 0.15  # fp8 keeps three bits after the first
    assert torch.equal(weights_of(model)[f"{key}.weight"].float(), before[f"{key}.weight"].float())


# What the host's own nodes take --------------------------------------------------------------------------

NATIVE = ("onetrainer", "kohya", "comfyui", "loha", "lokr", "locon", "difference")


@pytest.mark.parametrize("dialect", NATIVE)
def test_loader_of_the_host_takes_dialect(put, comfy_nodes, tiny, dialect):
    tensors, deltas = DIALECTS[dialect]()
    before = weights_of(tiny.stage_c)
    model, _ = comfy_nodes.LoraLoader().load_lora(tiny.stage_c, tiny.clip, put(tensors), 1.0, 1.0)
    with Patched(model) as after:
        assert furthest(before, after, deltas) < EXACT


def test_loader_of_the_host_changes_our_text_encoder(put, comfy_nodes, tiny):
    tensors, deltas = lora_files.text()
    before = weights_of(tiny.clip.patcher, "clip_g.transformer.")
    _, clip = comfy_nodes.LoraLoader().load_lora(tiny.stage_c, tiny.clip, put(tensors), 1.0, 1.0)
    with Patched(clip.patcher, "clip_g.transformer.") as after:
        assert furthest(before, after, deltas) < HALF


def hooked(model, hooks, positive, negative, noise, ksample):
    from comfy.hooks import set_hooks_for_conditioning

    return ksample(
        model, set_hooks_for_conditioning(positive, hooks), set_hooks_for_conditioning(negative, hooks), noise
    )


@pytest.mark.parametrize("dialect", ["onetrainer", "stability", "diffusers_prior"])
def test_hook_of_any_dialect_samples_as_the_lora_itself(put, apply, pack, tiny, prompts, ksample, dialect):
    file, noise = put(DIALECTS[dialect]()[0]), torch.zeros(1, 16, 4, 4)
    hooks = pack["CascadeCreateHookLora"](
        model=tiny.stage_c, file=file, strength_model=1.0, strength_clip=1.0
    ).result[0]
    merged = ksample(apply(file)[0], prompts.positive, prompts.negative, noise)
    assert (hooked(tiny.stage_c, hooks, *vars(prompts).values(), noise, ksample) - merged).abs().max() < 1e-4


def test_hook_of_the_host_takes_our_models(put, apply, comfy_nodes, tiny, prompts, ksample):
    from comfy_extras.nodes_hooks import CreateHookLora

    file, noise = put(lora_files.onetrainer()[0]), torch.zeros(1, 16, 4, 4)
    hooks = CreateHookLora().create_hook(file, 1.0, 1.0)[0]
    merged = ksample(apply(file)[0], prompts.positive, prompts.negative, noise)
    assert (hooked(tiny.stage_c, hooks, *vars(prompts).values(), noise, ksample) - merged).abs().max() < 1e-4


# What is said --------------------------------------------------------------------------------------------


def test_names_without_meaning_are_counted_and_named(put, apply, said):
    tensors, _ = lora_files.onetrainer()
    tensors["lora_prior_unet_attic_3.lora_up.weight"] = torch.zeros(4, 4)
    apply(put(tensors))
    assert len(said) == 1
    assert "1 of its names have no effect: lora_prior_unet_attic_3.lora_up.weight" in said[0]


def test_changes_for_a_text_encoder_that_is_not_wired_are_counted(put, apply, tiny, said):
    tensors = lora_files.onetrainer()[0] | lora_files.text()[0]
    tensors["bundle_emb.sunny.clip_g"] = torch.zeros(1, 32)
    _, clip, words = apply(put(tensors))
    assert (clip, words) == (None, "")
    assert "changes of 13 layers and the words sunny" in said[0]
    assert "wire a clip" in said[0]


def test_model_of_another_family_is_refused(put, apply):
    class Other:
        model = Linear(1, 1)

    with pytest.raises(ValueError, match="the model is of another family"):
        apply(put(lora_files.onetrainer()[0]), Other())


def test_node_tells_what_it_loaded(put, pack, tiny):
    out = pack["CascadeLoadLora"](
        model=tiny.stage_c, file=put(lora_files.onetrainer()[0]), strength_model=1.0, strength_clip=1.0
    )
    assert out.ui.as_dict()["text"] == ("OneTrainer LoRA, rank 4: 16 weights",)


def test_weights_left_on_another_device_take_the_lora_as_they_run(put, apply, tiny_files):
    """What --novram and --lowvram do: patches come in where layers cast their weights."""
    from comfyui_cascade.nodes import host

    tensors, deltas = lora_files.stability()
    path = "down_blocks.0.2.attention.attn.to_q"
    model = host.load_model(tiny_files["stage_c"], host.Part.STAGE_C)
    before = weights_of(model)
    streamed = apply(put(tensors), model)[0]
    streamed.load(torch.device("cpu"), lowvram_model_memory=1)
    layer = streamed.model.diffusion_model.get_submodule(path)
    assert torch.equal(layer.weight, before[f"{path}.weight"])
    x = lora_files.Draw(1)(5, 32)
    expected = x @ (before[f"{path}.weight"] + deltas[path]).T + before[f"{path}.bias"]
    assert (layer(x) - expected).abs().max() < EXACT


def test_loras_of_the_small_cascade_are_offered_first_and_load(put, apply, tiny, tmp_path, monkeypatch):
    from comfyui_cascade import weights
    from comfyui_cascade.nodes.adapt import CascadeLoadLora

    put(lora_files.kohya()[0], "another.safetensors")
    tensors = {key: value.contiguous() for key, value in lora_files.kohya()[0].items()}
    save_file(tensors, tmp_path / "lora_cyanotype.safetensors")
    monkeypatch.setattr(weights, "__file__", str(tmp_path / "__init__.py"))
    file = next(one for one in CascadeLoadLora.define_schema().inputs if one.id == "file")
    assert file.options == ["small cascade: cyanotype", "another.safetensors"]
    assert apply("small cascade: cyanotype")[0].patches


@pytest.mark.parametrize("dialect", ["stability", "stability_wide", "diffusers_prior", "fused"])
def test_model_in_the_classes_of_the_host_takes_a_lora_too(put, apply, native, dialect):
    tensors, deltas = DIALECTS[dialect]()
    before = weights_of(native.stage_c)
    with Patched(apply(put(tensors), native.stage_c)[0]) as after:
        assert furthest(before, after, deltas) < EXACT
