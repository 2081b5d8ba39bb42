"""Loading several parts at once, from any layout, in any precision."""

import json
from pathlib import Path

import pytest
import tiny_cascade
import torch
from comfyui_cascade.checkpoints.convert import convert
from comfyui_cascade.checkpoints.layout import Layout
from random_weights import difference, spread
from safetensors.torch import load_file, save_file
from tiny_cascade import unit

IN_C = ("stage_c", "text_encoder", "semantic_encoder", "previewer", "image_encoder")
PICKED = {
    name: f"{name}.safetensors"
    for name in ("stage_c", "stage_b", "stage_a", "text_encoder", "semantic_encoder", "previewer")
}


@pytest.fixture(scope="module")
def layouts(tiny_files, tmp_path_factory):
    """The tiny cascade in every layout: paths by name."""
    root = tmp_path_factory.mktemp("layouts")
    paths = {}
    for part in ("stage_b", "stage_c", "stage_a", "text_encoder"):
        for layout in Layout:
            paths[part, layout.value] = root / f"{part}_{layout.value}.safetensors"
            convert([tiny_files[part]], paths[part, layout.value], layout=layout, dtype=None)
        paths[part, "folder"] = root / part
        convert([tiny_files[part]], root / part, layout=Layout.DIFFUSERS, dtype=None)
        paths[part, "shards"] = shards(root / part, root / f"{part}_shards")
    for name, parts in {"all_in_one_c": IN_C, "all_in_one_b": ("stage_b", "stage_a")}.items():
        paths[name] = root / f"{name}.safetensors"
        convert([tiny_files[part] for part in parts], paths[name], layout=Layout.COMFYUI, dtype=None)
    return paths


def shards(folder, out):
    """The same folder with its weights in two files and an index."""
    (whole,) = folder.glob("*.safetensors")
    weights = load_file(whole)
    keys = sorted(weights)
    out.mkdir()
    (out / "config.json").write_text((folder / "config.json").read_text())
    places = {}
    for number, part in enumerate((keys[::2], keys[1::2]), 1):
        name = f"{whole.stem}-0000{number}-of-00002.safetensors"
        save_file({key: weights[key] for key in part}, out / name)
        places |= dict.fromkeys(part, name)
    (out / f"{whole.stem}.safetensors.index.json").write_text(json.dumps({"weight_map": places}))
    return out


NODES = {
    "stage_a": "CascadeLoadStageA",
    "stage_b": "CascadeLoadStageB",
    "stage_c": "CascadeLoadStageC",
    "text_encoder": "CascadeLoadTextEncoder",
}


def weights_in(loaded):
    network = getattr(loaded, "model", None) or getattr(loaded, "first_stage_model", None)
    return (network if network is not None else loaded.cond_stage_model).state_dict()


LAYOUTS = dict.fromkeys(NODES, ("stability", "diffusers", "comfyui", "folder", "shards"))
LAYOUTS["text_encoder"] = LAYOUTS["text_encoder"][:3]  # a folder of transformers has CLIP's whole vocabulary


@pytest.mark.parametrize(("part", "layout"), [(part, one) for part in NODES for one in LAYOUTS[part]])
def test_loader_gives_the_same_part_from_every_layout(pack, folders, layouts, tiny_files, part, layout):
    source = layouts[part, layout]
    name = f"{layout}_{part}" + ("" if source.is_dir() else ".safetensors")
    folders(part, source, name)
    loaded = pack[NODES[part]](file=name + "/" * source.is_dir())[0]
    folders(part, tiny_files[part], "plain.safetensors")
    plain = weights_in(pack[NODES[part]](file="plain.safetensors")[0])
    given = weights_in(loaded)
    assert given.keys() == plain.keys()
    assert all(torch.equal(given[key], plain[key]) for key in plain)


def test_folders_are_offered_and_their_pieces_are_not(comfy_nodes, folders, layouts):
    from comfyui_cascade.nodes.host import Part, choices, fingerprint, path_of

    folders("stage_c", layouts["stage_c", "shards"], "mine/cut")
    folders("stage_c", layouts["stage_c", "folder"], "cascade/prior", kind="diffusers")
    folders("stage_b", layouts["stage_b", "folder"], "cascade/decoder", kind="diffusers")
    offered = choices(Part.STAGE_C)
    assert {"mine/cut/", "cascade/prior/"} <= set(offered)
    assert not [choice for choice in offered if "of-00002" in choice or "decoder" in choice]
    assert "cascade/decoder/" in choices(Part.STAGE_B)
    before = fingerprint(path_of(Part.STAGE_C, "mine/cut/"))
    (layouts["stage_c", "shards"] / "unrelated").unlink(missing_ok=True)
    folders("stage_c", layouts["stage_c", "shards"] / "config.json", "mine/cut/another.json")
    assert fingerprint(path_of(Part.STAGE_C, "mine/cut/")) != before


def test_folder_outside_of_the_model_folders_cannot_be_named(comfy_nodes):
    import folder_paths
    from comfyui_cascade.nodes.host import Part, path_of

    roots = folder_paths.get_folder_paths("diffusion_models")
    assert path_of(Part.STAGE_C, "../../../etc/").startswith(tuple(roots))


def test_checkpoint_of_stage_c_gives_all_it_holds(
    comfy_nodes, pack, folders, layouts, tiny, prompts, ksample
):
    folders(None, layouts["all_in_one_c"], "c.safetensors", kind="checkpoints")
    model, clip, vae, vision = pack["CascadeLoadCheckpoint"](file="c.safetensors")
    encode = comfy_nodes.CLIPTextEncode().encode
    assert torch.equal(encode(clip, "a red cat")[0][0][0], prompts.positive[0][0])
    latents = torch.zeros(1, 16, 6, 6)
    assert difference(
        ksample(model, prompts.positive, prompts.negative, latents),
        ksample(tiny.stage_c, prompts.positive, prompts.negative, latents),
    ) < 1e-5  # fmt: skip
    picture = unit(1, 64, 64, 3).sigmoid()
    assert difference(vae.encode(picture), tiny.coder.encode(picture)) < 1e-5
    assert difference(vae.decode(latents + 0.1), tiny.coder.decode(latents + 0.1)) < 1e-5
    see = comfy_nodes.CLIPVisionEncode().encode
    assert difference(see(vision, picture, "center")[0].image_embeds,
                      see(tiny.clip_vision, picture, "center")[0].image_embeds) < 1e-5  # fmt: skip


def test_socket_without_a_part_says_so_when_used(comfy_nodes, pack, folders, layouts):
    folders(None, layouts["all_in_one_b"], "b.safetensors", kind="checkpoints")
    model, clip, vae, vision = pack["CascadeLoadCheckpoint"](file="b.safetensors")
    assert model.model.latent_format.latent_channels == 4
    assert vae.decode(unit(1, 4, 8, 8)).shape == (1, 32, 32, 3)
    with pytest.raises(AttributeError, match=r"`b.safetensors` holds no CLIP text encoder: load one with"):
        comfy_nodes.CLIPTextEncode().encode(clip, "a cat")
    with pytest.raises(AttributeError, match="holds no CLIP image encoder"):
        comfy_nodes.CLIPVisionEncode().encode(vision, unit(1, 8, 8, 3), "center")


def test_checkpoint_of_another_family_is_named(comfy_nodes, pack, folders, tmp_path):
    path = tmp_path / "x.safetensors"
    save_file({"model.diffusion_model.input_blocks.0.0.weight": torch.zeros(1)}, path)
    folders(None, path, "x.safetensors", kind="checkpoints")
    with pytest.raises(ValueError, match=r"SD 1.5 checkpoint, and a checkpoint with parts of Stable Cascade"):
        pack["CascadeLoadCheckpoint"](file="x.safetensors")


@pytest.fixture
def placed(folders, tiny_files):
    for part in PICKED:
        folders(part, tiny_files[part], PICKED[part])


def test_pipeline_gives_every_part(pack, placed):
    stage_c, stage_b, stage_a, clip, encoder = pack["CascadeLoadPipeline"](**PICKED)
    assert stage_c.model.latent_format.latent_channels == 16
    assert stage_b.model.latent_format.latent_channels == 4
    assert stage_a.latent_channels == 4
    assert clip.tokenize("a cat")
    assert encoder.latent_channels == 16


def test_pipeline_is_the_small_cascade_by_default(comfy_nodes):
    from comfyui_cascade.nodes.checkpoint import CascadeLoadPipeline

    inputs = {one.id: one for one in CascadeLoadPipeline.define_schema().inputs}
    for part in PICKED:
        assert inputs[part].options[0] == "small cascade"
    CascadeLoadPipeline.PREPARE_CLASS_CLONE(None).execute(**dict.fromkeys(PICKED, "small cascade"))


def test_pipeline_without_an_encoder_says_so_when_it_is_used(pack, placed):
    encoder = pack["CascadeLoadPipeline"](**(PICKED | {"semantic_encoder": "none"}))[4]
    with pytest.raises(AttributeError, match="no semantic encoder was picked"):
        encoder.encode(unit(1, 8, 8, 3))


@pytest.mark.parametrize(
    ("part", "message"),
    [
        ("stage_c", r"for 128 features of a text token, and `text_encoder.safetensors`"),
        ("stage_b", r"for 128 features of the whole text"),
        ("text_encoder", r"for 32 features of a text token, and `small cascade` is a CLIP text encoder with"),
    ],
)
def test_pipeline_of_parts_that_do_not_fit_names_both(pack, placed, part, message):
    with pytest.raises(ValueError, match=message):
        pack["CascadeLoadPipeline"](**(PICKED | {part: "small cascade", "previewer": "none"}))


def test_parts_trained_at_other_compressions_do_not_fit(comfy_nodes):
    from comfyui_cascade.checkpoints.fit import Piece, check_fit
    from comfyui_cascade.checkpoints.identify import Part
    from comfyui_cascade.checkpoints.recorded import Recorded

    stage_c = Piece("c", tiny_cascade.C, Recorded(), False)
    for part, config in ((Part.SEMANTIC_ENCODER, tiny_cascade.SEMANTIC), (Part.STAGE_B, tiny_cascade.B)):
        check_fit({Part.STAGE_C: stage_c, part: Piece("other", config, Recorded(), False)})
        with pytest.raises(
            ValueError, match=r"`other` .* of 21.33 pixels to a cell, and `c` draws them at 42.67"
        ):
            check_fit(
                {Part.STAGE_C: stage_c, part: Piece("other", config, Recorded(compression=21.33), False)}
            )


def test_small_stage_a_is_not_taken_for_a_released_one(comfy_nodes):
    from comfyui_cascade.checkpoints.fit import Piece, check_fit
    from comfyui_cascade.checkpoints.identify import Part
    from comfyui_cascade.checkpoints.recorded import Recorded

    def pair(small_a, small_b):
        small = Recorded(part="x", compression=21.33)
        return {
            part: Piece(part.value, config, small if is_small else Recorded(), is_small)
            for part, config, is_small in (
                (Part.STAGE_A, tiny_cascade.A, small_a),
                (Part.STAGE_B, tiny_cascade.B, small_b),
            )
        }

    check_fit(pair(True, True))
    check_fit(pair(False, False))
    for mixed in ((True, False), (False, True)):
        with pytest.raises(ValueError, match="draws latents for another Stage A"):
            check_fit(pair(*mixed))


STORED = {
    "fp32": torch.float32,
    "bf16": torch.bfloat16,
    "fp16": torch.float16,
    "fp8_e4m3fn": torch.float8_e4m3fn,
    "fp8_e5m2": torch.float8_e5m2,
}


@pytest.mark.parametrize(("choice", "error"), [
    ("default", 1e-6), ("as in file", 1e-6), ("fp32", 1e-6), ("bf16", 0.02), ("fp16", 5e-3),
    ("fp8_e4m3fn", 0.3), ("fp8_e5m2", 0.6),
])  # fmt: skip
@pytest.mark.parametrize("part", ["stage_c", "stage_b"])
def test_precision_is_the_one_picked_and_the_result_as_near_as_it_allows(
    tiny, tiny_files, prompts, part, choice, error
):
    from comfyui_cascade.nodes import host

    model = host.load_model(tiny_files[part], host.Part(part), choice)
    matrix = model.model.diffusion_model.down_blocks[0][0].channelwise[0].weight
    assert matrix.dtype == STORED.get(choice, torch.float32)
    gain = model.model.diffusion_model.down_blocks[0][0].channelwise[2].gamma
    assert gain.dtype.itemsize > 1
    assert model.model.get_dtype_inference() == torch.float32  # on the CPU
    ours, exact = (predict(one, part, prompts) for one in (model, getattr(tiny, part)))
    assert spread(ours, exact) < error


def predict(model, part, prompts):
    """The clean estimate of a model in one step, as the host calls it."""
    latents = unit(1, 16, 6, 7) if part == "stage_c" else unit(1, 4, 16, 20)
    text, entries = prompts.positive[0]
    conditions = model.model.extra_conds(
        cross_attn=text, pooled_output=entries["pooled_output"], noise=latents,
        device=torch.device("cpu"), stable_cascade_prior=unit(1, 16, 4, 5), prompt_type="positive",
    )  # fmt: skip
    given = {name: one.process_cond(batch_size=1, area=None).cond for name, one in conditions.items()}
    return model.model.apply_model(latents, torch.tensor([1.5]), **given)


def test_file_of_several_precisions_loads_as_it_is(tiny, tiny_files, prompts, tmp_path):
    from comfyui_cascade.nodes import host

    weights = load_file(tiny_files["stage_c"])
    mixed = {key: value.bfloat16() if value.ndim == 2 else value for key, value in weights.items()}
    save_file(mixed, tmp_path / "mixed.safetensors", tiny_cascade.metadata("stage_c"))
    model = host.load_model(tmp_path / "mixed.safetensors", host.Part.STAGE_C, "as in file")
    for key, value in model.model.diffusion_model.state_dict().items():
        assert value.dtype == mixed[key].dtype
    assert spread(predict(model, "stage_c", prompts), predict(tiny.stage_c, "stage_c", prompts)) < 0.02


def test_weight_too_large_for_its_precision_is_named(tiny_files, tmp_path):
    from comfyui_cascade.nodes import host

    weights = load_file(tiny_files["stage_c"])
    weights["clip_txt_mapper.weight"][0, 0] = 1e6
    save_file(weights, tmp_path / "large.safetensors", tiny_cascade.metadata("stage_c"))
    with pytest.raises(ValueError, match=r"clip_txt_mapper.weight holds values up to 1e\+06, and F16 ends"):
        host.load_model(tmp_path / "large.safetensors", host.Part.STAGE_C, "fp16")


@pytest.mark.skipif(not Path("/proc/self/maps").exists(), reason="reads the list of maps that Linux keeps")
def test_weights_are_the_mapped_file_itself(comfy_nodes, tiny_files):
    from comfyui_cascade.nodes import host

    model = host.load_model(tiny_files["stage_c"], host.Part.STAGE_C)
    maps = [line.split() for line in Path("/proc/self/maps").read_text().splitlines() if "stage_c" in line]
    spans = [tuple(int(end, 16) for end in fields[0].split("-")) for fields in maps]
    for weight in model.model.diffusion_model.parameters():
        assert any(begin <= weight.data_ptr() < end for begin, end in spans)


@pytest.mark.parametrize("choice", ["fp32", "bf16", "fp16", "fp8_e4m3fn"])
def test_weights_left_on_another_device_give_the_same(tiny_files, prompts, choice):
    """What --novram and --lowvram do: layers cast their weights as they run."""
    from comfyui_cascade.nodes import host

    model = host.load_model(tiny_files["stage_c"], host.Part.STAGE_C, choice)
    before = predict(model, "stage_c", prompts)
    model.partially_load(torch.device("cpu"), 0)
    model.load(torch.device("cpu"), lowvram_model_memory=1)
    layer = model.model.diffusion_model.down_blocks[0][0].channelwise[0]
    assert layer.comfy_cast_weights
    assert difference(predict(model, "stage_c", prompts), before) < 1e-6


def test_lora_applies_to_every_precision(tiny_files, prompts):
    import comfy.sd
    from comfyui_cascade.nodes import host

    name = "lora_prior_unet_down_blocks_0_2_attention_attn_to_q"
    lora = {f"{name}.lora_up.weight": unit(32, 4), f"{name}.lora_down.weight": unit(4, 32, seed=1)}
    results = {}
    for choice in ("fp32", "bf16", "fp16", "fp8_e4m3fn"):
        model = host.load_model(tiny_files["stage_c"], host.Part.STAGE_C, choice)
        plain = predict(model, "stage_c", prompts)
        patched, _ = comfy.sd.load_lora_for_models(model, None, lora, 1.0, 0.0)
        patched.patch_model()
        results[choice] = predict(patched, "stage_c", prompts)
        patched.unpatch_model()
        assert spread(results[choice], plain) > 0.01
    for choice, allowed in (("bf16", 0.03), ("fp16", 0.01), ("fp8_e4m3fn", 0.4)):
        assert spread(results[choice], results["fp32"]) < allowed


def test_text_encoder_keeps_the_picked_precision(comfy_nodes, tiny, tiny_files):
    from comfyui_cascade.nodes import host

    encode = comfy_nodes.CLIPTextEncode().encode
    for choice, dtype in STORED.items():
        clip = host.load_text_encoder(tiny_files["text_encoder"], choice)
        layer = clip.cond_stage_model.clip_g.transformer.text_model.encoder.layers[0].mlp.fc1
        assert layer.weight.dtype == dtype
        allowed = 0.5 if dtype.itemsize == 1 else 0.05
        assert spread(encode(clip, "a red cat")[0][0][0], encode(tiny.clip, "a red cat")[0][0][0]) < allowed
