"""What the host's saving and merging nodes make of our parts."""

import pytest
import tiny_cascade
import torch
from random_weights import difference
from tiny_cascade import unit
from torch.nn import Linear


@pytest.fixture(autouse=True)
def _take_patches_back(comfy_nodes):
    """Merges share their weights with the model they began with."""
    import comfy.model_management

    yield
    comfy.model_management.unload_all_models()


@pytest.fixture
def velocity(tmp_path, comfy_nodes):
    """A MODEL whose file says what shapes cannot tell: heads, prediction, compression."""
    from comfyui_cascade.nodes import host

    def load(part):
        path = tiny_cascade.write(tmp_path, [part], prediction="velocity")[part]
        return host.load_model(path, host.Part(part))

    return load


@pytest.fixture
def newest(comfy_nodes):
    """The file that a node of the host saved last under a prefix."""
    from pathlib import Path

    import folder_paths

    return lambda prefix: max(Path(folder_paths.get_output_directory()).glob(f"{prefix}*.safetensors"))


@pytest.mark.parametrize("part", ["stage_c", "stage_b"])
def test_model_that_the_host_saved_is_the_same_model(velocity, newest, part, comfy_nodes):
    from comfy_extras.nodes_model_merging import ModelSave
    from comfyui_cascade.nodes import host

    model = velocity(part)
    ModelSave().save(model, f"saved_{part}")
    again = host.load_model(newest(f"saved_{part}"), host.Part(part))
    assert again.model.cascade == model.model.cascade
    assert again.model.cascade.prediction == "velocity"
    for key, value in model.model.state_dict().items():
        assert torch.equal(again.model.state_dict()[key], value)


def test_checkpoint_that_the_host_saved_holds_every_part(tiny, tiny_files, velocity, newest, comfy_nodes):
    from comfy_extras.nodes_model_merging import CheckpointSave
    from comfyui_cascade.nodes import host

    model = velocity("stage_c")
    CheckpointSave().save(model, tiny.clip, tiny.coder, "saved_all")
    path = newest("saved_all")
    assert host.load_model(path, host.Part.STAGE_C).model.cascade.prediction == "velocity"
    clip = host.load_text_encoder(path)
    encode = comfy_nodes.CLIPTextEncode().encode
    assert torch.equal(encode(clip, "a red cat")[0][0][0], encode(tiny.clip, "a red cat")[0][0][0])
    coder = host.load_semantic_encoder(path, path)
    picture = unit(1, 64, 64, 3).sigmoid()
    assert difference(coder.encode(picture), tiny.coder.encode(picture)) < 1e-5
    assert difference(coder.decode(unit(1, 16, 3, 3)), tiny.coder.decode(unit(1, 16, 3, 3))) < 1e-5


def test_parts_that_the_host_saved_alone_load_alone(tiny, newest, comfy_nodes):
    from comfy_extras.nodes_model_merging import CLIPSave, VAESave
    from comfyui_cascade.nodes import host

    CLIPSave().save(tiny.clip, "saved_clip")
    VAESave().save(tiny.stage_a, "saved_vae")
    encode = comfy_nodes.CLIPTextEncode().encode
    clip = host.load_text_encoder(newest("saved_clip_clip_g"))
    assert torch.equal(encode(clip, "a red cat")[0][0][0], encode(tiny.clip, "a red cat")[0][0][0])
    stage_a = host.load_stage_a(newest("saved_vae"))
    assert difference(stage_a.decode(unit(1, 4, 8, 8)), tiny.stage_a.decode(unit(1, 4, 8, 8))) < 1e-5


@pytest.fixture
def other(tmp_path, comfy_nodes):
    """A second Stage C, with other weights."""
    from comfyui_cascade.nodes import host
    from comfyui_cascade.stage_c import StageC
    from random_weights import randomise
    from safetensors.torch import save_file

    weights = randomise(StageC(tiny_cascade.C), 99).state_dict()
    save_file({k: v.contiguous() for k, v in weights.items()}, tmp_path / "other.safetensors",
              tiny_cascade.metadata("stage_c"))  # fmt: skip
    return host.load_model(tmp_path / "other.safetensors", host.Part.STAGE_C)


def weights_of(model):
    """The weights with every patch applied, as sampling would have them."""
    import comfy.model_management

    comfy.model_management.load_models_gpu([model])
    return {key: value.clone() for key, value in model.model.diffusion_model.state_dict().items()}


def test_merging_two_models_mixes_every_weight(tiny, other):
    from comfy_extras.nodes_model_merging import ModelMergeSimple

    first, second = weights_of(tiny.stage_c), weights_of(other)
    mixed = weights_of(ModelMergeSimple().merge(tiny.stage_c, other, 0.25)[0])
    for key in first:
        expected = 0.25 * first[key] + 0.75 * second[key]
        assert (mixed[key] - expected).abs().max() < 1e-6, key


def test_merging_by_blocks_follows_the_prefix_of_a_name(tiny, other):
    from comfy_extras.nodes_model_merging import ModelMergeBlocks

    first, second = weights_of(tiny.stage_c), weights_of(other)
    ratios = {"clip_txt": 0.5, "down_blocks.": 1.0, "up_blocks.1.": 0.0}
    mixed = weights_of(ModelMergeBlocks().merge(tiny.stage_c, other, **ratios)[0])
    for key in first:
        ratio = next((r for prefix, r in ratios.items() if key.startswith(prefix)), 0.5)
        assert (mixed[key] - (ratio * first[key] + (1 - ratio) * second[key])).abs().max() < 1e-6, key


def test_difference_of_two_models_can_be_added_again(tiny, other, prompts, ksample):
    from comfy_extras.nodes_model_merging import ModelAdd, ModelSubtract

    delta = ModelSubtract().merge(other, tiny.stage_c, 1.0)[0]
    back = ModelAdd().merge(tiny.stage_c, delta)[0]
    latents = torch.zeros(1, 16, 6, 6)
    ours, theirs = (ksample(m, prompts.positive, prompts.negative, latents) for m in (back, other))
    assert difference(ours, theirs) < 1e-3


def test_merged_model_is_saved_as_merged(tiny, other, newest):
    from comfy_extras.nodes_model_merging import ModelMergeSimple, ModelSave
    from comfyui_cascade.nodes import host

    merged = ModelMergeSimple().merge(tiny.stage_c, other, 0.5)[0]
    expected = weights_of(merged)
    ModelSave().save(merged, "saved_merge")
    again = host.load_model(newest("saved_merge"), host.Part.STAGE_C)
    for key, value in again.model.diffusion_model.state_dict().items():
        assert torch.equal(value, expected[key]), key


@pytest.fixture
def save(pack, comfy_nodes):
    """Save a part with our node, and the path of the first file: ``save(part, layout, …)``."""
    from pathlib import Path

    import folder_paths

    def run(part, layout, weight_dtype="as it is", name="ours"):
        node = pack["CascadeSaveStage"]
        output = node(part=part, filename_prefix=name, layout=layout, weight_dtype=weight_dtype)
        names = output.ui.as_dict()["text"][0].splitlines()
        return [Path(folder_paths.get_output_directory()) / one for one in names]

    return run


@pytest.mark.parametrize("layout", ["stability", "diffusers", "comfyui"])
@pytest.mark.parametrize("part", ["stage_c", "stage_b"])
def test_saved_model_is_the_same_model_in_every_layout(velocity, save, part, layout):
    from comfyui_cascade.nodes import host

    model = velocity(part)
    path = save(model, layout)[0]
    again = host.load_model(path.parent if layout == "diffusers" else path, host.Part(part))
    assert again.model.cascade == model.model.cascade
    for key, value in model.model.state_dict().items():
        assert torch.equal(again.model.state_dict()[key], value)


def test_saved_vae_and_clip_are_the_same(tiny, save, comfy_nodes):
    from comfyui_cascade.nodes import host

    (path,) = save(tiny.stage_a, "stability")
    latents = unit(1, 4, 8, 8)
    assert difference(host.load_stage_a(path).decode(latents), tiny.stage_a.decode(latents)) < 1e-5
    (path,) = save(tiny.clip, "stability")
    encode = comfy_nodes.CLIPTextEncode().encode
    clip = host.load_text_encoder(path)
    assert torch.equal(encode(clip, "a red cat")[0][0][0], encode(tiny.clip, "a red cat")[0][0][0])


@pytest.mark.parametrize("layout", ["stability", "comfyui"])
def test_saved_encoder_brings_its_previewer(tiny, save, layout):
    from comfyui_cascade.nodes import host

    files = save(tiny.coder, layout)
    assert len(files) == (2 if layout == "stability" else 1)
    paths = {path.stem: path for path in files}
    coder = host.load_semantic_encoder(
        paths.get("semantic_encoder", files[0]), paths.get("previewer", files[0])
    )
    picture, latents = unit(1, 64, 64, 3).sigmoid(), unit(1, 16, 3, 3)
    assert difference(coder.encode(picture), tiny.coder.encode(picture)) < 1e-5
    assert difference(coder.decode(latents), tiny.coder.decode(latents)) < 1e-5


def test_saved_merge_is_the_merge_in_the_picked_precision(tiny, other, save):
    from comfy_extras.nodes_model_merging import ModelMergeSimple
    from comfyui_cascade.nodes import host

    merged = ModelMergeSimple().merge(tiny.stage_c, other, 0.5)[0]
    expected = weights_of(merged)
    (path,) = save(merged, "stability", "bf16")
    again = host.load_model(path, host.Part.STAGE_C, "as in file")
    for key, value in again.model.diffusion_model.state_dict().items():
        assert torch.equal(value, expected[key].bfloat16()), key


def test_model_of_the_hosts_own_class_can_be_saved(native, tiny_files, save):
    from comfyui_cascade.checkpoints.identify import Part, expect
    from comfyui_cascade.checkpoints.open import read_weights

    (path,) = save(native.stage_c, "stability")
    ours, theirs = (
        read_weights(Part.STAGE_C, expect(one, Part.STAGE_C)) for one in (path, tiny_files["stage_c"])
    )
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[key], theirs[key]) for key in ours)


def test_what_is_no_part_is_not_saved(save):
    from types import SimpleNamespace

    with pytest.raises(ValueError, match="is no part of Stable Cascade"):
        save(SimpleNamespace(first_stage_model=Linear(2, 2)), "stability")
