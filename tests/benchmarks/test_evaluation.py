"""The evaluation from end to end, on a cascade that draws nothing and a judge that knows nothing."""

import json

import pytest
import torch
from comfyui_cascade.benchmarks import small_cascade
from comfyui_cascade.benchmarks.drawing import Sampling, cascade_in, decode, draw_latents, unknown_words
from comfyui_cascade.benchmarks.evaluation import Evaluation
from comfyui_cascade.benchmarks.judge import Judge, JudgeConfig, digest_of
from comfyui_cascade.benchmarks.verdicts import ATTRIBUTES
from comfyui_cascade.checkpoints.identify import Part
from comfyui_cascade.conditioning.text import Tokens
from comfyui_cascade.training import picturebook
from PIL import Image
from safetensors.torch import save_file
from tiny_cascade import write as write_cascade

QUICK = ["--n", "2", "--steps-c", "1", "--steps-b", "1"]
CONFIGS = {
    "judge": JudgeConfig(3, ((8, 2), (8, 2), (16, 2))),
    "latent_judge": JudgeConfig(16, ((16, 1),)),
}


def judges_in(folder, encoder):
    """Untrained judges, as files."""
    for name, config in CONFIGS.items():
        torch.manual_seed(0)
        metadata = {
            "cascade.network": json.dumps({"channels": config.channels, "stem": config.stem}),
            "cascade.semantic_encoder": encoder,
        }
        save_file(Judge(config).state_dict(), folder / f"{name}.safetensors", metadata)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder with a tiny cascade and its judges."""
    place = tmp_path_factory.mktemp("tiny")
    write_cascade(place)
    judges_in(place, digest_of(cascade_in(place).parts.network(Part.SEMANTIC_ENCODER)))
    return place


def run(folder, *arguments):
    return small_cascade.main(["--weights", str(folder), "--judges", str(folder), *QUICK, *arguments])


def test_json_holds_every_row_and_figure(folder, capsys):
    assert run(folder, "--json") == 0
    found = json.loads(capsys.readouterr().out)
    assert len(found["rows"]) == 12
    for row in found["rows"].values():
        assert row["pictures"] == 2
        assert set(row["shares"]) <= set(ATTRIBUTES)
        assert 0 <= row["all_right"] <= row["alignment"] <= 1
    assert "relation" in found["rows"]["held-out relations, cfg 4"]["shares"]
    assert found["stage_a"].keys() == {"psnr", "ssim", "ms_ssim", "feature_distance"}
    assert found["diversity"]["drawn"][0] > 0
    assert found["seconds_a_picture"] > 0


def test_the_table_has_a_line_for_each_row_measured(folder, capsys):
    assert run(folder, "--only", "true pictures") == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == [*ATTRIBUTES, "alignment", "all", "right"]
    assert lines[1].startswith("true pictures (the judge itself)")
    assert len(lines[1].split("itself)")[1].split()) == len(ATTRIBUTES) + 2
    assert "1 steps of ddim, cosine + 1 of ddim, cosine, 256x256 pixels" in lines[3]


def test_the_table_prints_every_figure():
    row = {"pictures": 2, "shares": {"kind": 0.5}, "alignment": 0.5, "all_right": 0.0}
    like = {"psnr": 30.0, "ssim": 0.9, "ms_ssim": None, "feature_distance": 0.1}
    found = {
        "rows": {"one": row}, "pictures": 2, "torch": "2", "machine": "m", "unknown_words": ["zebra"],
        "sampling": {"steps_c": 20, "steps_b": 10, "sampler_b": "ddim", "size": (96, 96), "seed": 0},
        "stage_a": like, "stage_b_and_a": like | {"ms_ssim": 0.8}, "seconds_a_picture": 1.5,
        "diversity": {"drawn": (0.1, 0.2), "true_same": (0.3, 0.4), "true_other": (0.5, 0.6)},
    }  # fmt: skip
    text = small_cascade.table(found)
    assert "Stage A there and back: PSNR 30.00 dB, SSIM 0.9000, judge's features 0.1000 apart" in text
    assert "MS-SSIM 0.8000" in text
    assert "judge's features: seeds of one prompt 0.200 apart; true pictures of one prompt 0.400" in text
    assert "1.50 s" in text
    assert "no word for zebra." in text
    assert "50.0       -" in text


@pytest.mark.parametrize("size", [(192, 192), (192, 128), (128, 192)])
def test_other_sizes_are_drawn_and_judged(folder, size, capsys):
    width, height = size
    assert run(folder, "--size", f"{width}x{height}", "--only", "prompts, no guidance") == 0
    assert f"{width}x{height} pixels" in capsys.readouterr().out


def test_a_row_that_there_is_not_is_named_with_those_there_are(folder, capsys):
    assert run(folder, "--only", "cfg 7") == 1
    assert "no row's name holds 'cfg 7'; the rows are true pictures" in capsys.readouterr().err


def test_a_missing_part_ends_in_a_sentence(folder, tmp_path, capsys):
    assert small_cascade.main(["--weights", str(tmp_path), "--judges", str(folder), *QUICK]) == 1
    assert f"there is no `{tmp_path / 'stage_a.safetensors'}`; give the path" in capsys.readouterr().err


def test_latents_are_not_judged_by_the_judge_of_another_encoder(folder, tmp_path):
    judges_in(tmp_path, "another")
    said = []
    cascade = cascade_in(folder)
    judge = small_cascade.latent_judge_for(cascade, tmp_path / "latent_judge.safetensors", said.append)
    assert judge is None
    assert "was trained for the semantic encoder another" in said[0]
    evaluation = Evaluation(cascade, Judge(CONFIGS["judge"]), None, 1, 4.0, Sampling(), said.append)
    assert not any(name.startswith("latents") for name in evaluation.rows())


def test_the_grid_shows_every_prompt_and_says_them(folder, tmp_path, capsys):
    assert run(folder, "--grid", str(tmp_path / "grid.png"), "--size", "128x64") == 0
    said = capsys.readouterr().out.splitlines()
    assert said == [f"{seed}: {prompt}" for seed, prompt in enumerate(small_cascade.PROMPTS)]
    assert len(said) == 16
    with Image.open(tmp_path / "grid.png") as page:
        assert page.size == (4 * 128, 4 * (64 + small_cascade.CAPTION))


def test_the_grid_s_prompts_are_made_of_words_of_the_world():
    tokens = Tokens(picturebook.TOKEN_IDS, picturebook.POSITIONS)
    encoded = [tokens.encode(prompt, picturebook.ids_of) for prompt in small_cascade.PROMPTS]
    assert [(one.unknown, one.cut) for one in encoded] == [((), ())] * 16


def test_pictures_depend_on_the_seed_and_on_nothing_else(folder):
    cascade, prompts = cascade_in(folder), ["a red cat", "a blue house"]

    def drawn(seed):
        sampling = Sampling(steps_c=2, steps_b=2, size=(64, 64), seed=seed)
        return decode(cascade, draw_latents(cascade, prompts, 4.0, sampling), prompts, sampling)

    first = drawn(1)
    assert first.shape == (2, 3, 64, 64)
    torch.testing.assert_close(first, drawn(1))
    assert not torch.equal(first, drawn(2))


def test_words_that_the_cascade_lacks_are_listed(folder):
    assert unknown_words(cascade_in(folder), ["a red cat", "a green zebra"]) == ["green", "zebra"]


def test_held_out_rows_are_of_held_out_scenes_and_the_others_are_not(folder):
    evaluation = Evaluation(cascade_in(folder), None, None, 8, 4.0, Sampling(), print)
    held_out = {name: set(map(picturebook.is_held_out, s)) for name, s in evaluation.scenes.items()}
    assert held_out == {"seen": {False}, "pairs": {True}, "relations": {True}}
    assert all(scene.relation for scene in evaluation.scenes["relations"])


def test_pictures_equal_to_the_true_ones_are_perfectly_alike(folder):
    judge = Judge(CONFIGS["judge"]).eval()
    evaluation = Evaluation(cascade_in(folder), judge, None, 2, 4.0, Sampling(), print)
    like = evaluation.likeness(evaluation.true + 0.1)
    assert like.psnr == pytest.approx(20, abs=0.01)
    assert evaluation.likeness(evaluation.true).ssim == pytest.approx(1, abs=1e-3)
