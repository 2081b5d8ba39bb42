"""The node that says what a file is."""

import shutil
from pathlib import Path

import pytest


@pytest.fixture
def placed(comfy_nodes):
    """Puts a file or folder into a model folder of the host, until the test ends."""
    import folder_paths

    made = []

    def put(kind, source, name):
        folder = Path(folder_paths.get_folder_paths(kind)[0])
        folder.mkdir(parents=True, exist_ok=True)
        (shutil.copytree if Path(source).is_dir() else shutil.copyfile)(source, folder / name)
        made.append(folder / name)
        return folder / name

    yield put
    for path in made:
        shutil.rmtree(path) if path.is_dir() else path.unlink()


def text_of(output):
    assert output.ui.as_dict() == {"text": (output.args[0],)}
    return output.args[0]


def test_embedded_file_is_told_with_its_metadata(pack):
    text = text_of(pack["CascadeIdentify"](file="small cascade/stage_c"))
    assert text.startswith("stage_c.safetensors: a Stage C\n128+128 wide")
    assert "cascade.prediction = velocity" in text


def test_file_in_a_model_folder_is_offered_and_told(pack, placed, tiny_files):
    from comfyui_cascade.nodes.host.catalogue import every_file

    placed("loras", tiny_files["stage_b"], "misplaced.safetensors")
    assert "loras/misplaced.safetensors" in every_file()
    assert "misplaced.safetensors: a Stage B\n" in text_of(
        pack["CascadeIdentify"](file="loras/misplaced.safetensors")
    )


def test_pipeline_folder_is_told_network_by_network(pack, placed, tiny_files, tmp_path):
    for name, part in (("prior", "stage_c"), ("decoder", "stage_b")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "config.json").write_text("{}")
        shutil.copyfile(tiny_files[part], tmp_path / name / "diffusion_pytorch_model.safetensors")
    (tmp_path / "model_index.json").write_text("{}")
    placed("diffusers", tmp_path, "pipeline")
    text = text_of(pack["CascadeIdentify"](file="diffusers/pipeline"))
    assert "decoder: a Stage B\n" in text
    assert "\n\nprior: a Stage C\n" in text


def test_file_that_cannot_be_read_is_told_in_one_sentence(pack, placed, tmp_path):
    (tmp_path / "a.safetensors").write_bytes(b"<html>")
    placed("checkpoints", tmp_path / "a.safetensors", "a.safetensors")
    text = text_of(pack["CascadeIdentify"](file="checkpoints/a.safetensors"))
    assert "is a web page" in text
    assert "\n" not in text


@pytest.mark.parametrize("choice", ["vae/gone.safetensors", "diffusers/gone", "etc/passwd"])
def test_what_is_not_in_the_model_folders_is_refused(pack, choice):
    with pytest.raises(ValueError, match="not in the model folders any more"):
        pack["CascadeIdentify"](file=choice)


def test_choice_does_not_lead_out_of_the_model_folders(comfy_nodes):
    import folder_paths
    from comfyui_cascade.nodes.host.catalogue import place_of

    root = Path(folder_paths.get_folder_paths("diffusers")[0])
    root.mkdir(parents=True, exist_ok=True)
    assert place_of("diffusers/../../..").resolve() == root.resolve()
