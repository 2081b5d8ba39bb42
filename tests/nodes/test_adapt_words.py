"""Words of a LoRA in prompts: encoded as by a longer table of tokens, and nothing shared changes."""

import lora_files
import pytest
import tiny_cascade
import torch
from comfyui_cascade.conditioning.text import END_ID, START_ID, TextEncoderConfig, encode, text_encoder
from random_weights import randomise
from safetensors.torch import save_file

DOG, RED, NEW = 1929, 736, 49408
WIDTH = tiny_cascade.TEXT


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A tiny text encoder with all of CLIP's words, in its file."""
    config = TextEncoderConfig(WIDTH, 2, 64, 2, tiny_cascade.POSITIONS, NEW, WIDTH)
    network = randomise(text_encoder(config), 3)
    path = tmp_path_factory.mktemp("whole") / "text_encoder.safetensors"
    weights = {key: value.contiguous() for key, value in network.state_dict().items()}
    save_file(weights, path, {"cascade.head_dim": str(tiny_cascade.HEAD)})
    return network, path


@pytest.fixture(scope="module")
def clip(comfy_nodes, whole):
    from comfyui_cascade.nodes import host

    return host.load_text_encoder(whole[1], "fp32")


@pytest.fixture
def teach(pack, tiny, folders, tmp_path):
    def run(clip, tensors, strength=1.0, words=""):
        path = tmp_path / "words.safetensors"
        save_file(lora_files.stability()[0] | tensors, path)
        folders(None, path, path.name, kind="loras")
        out = pack["CascadeLoadLora"](
            model=tiny.stage_c,
            clip=clip,
            file=path.name,
            strength_model=1.0,
            strength_clip=strength,
            words=words,
        )
        return out.result[1:]

    return run


def rows(*ids, seed=1):
    values = 0.5 * torch.randn(len(ids), WIDTH, generator=torch.Generator().manual_seed(seed))
    return {"embeddings.embeddings": values, "embeddings.indices": torch.tensor(ids)}, values


def expected(network, changes, ids):
    """Hidden states and pooled text from a table with changed and appended rows, as the reference has it."""
    table = network.text_model.embeddings.token_embedding
    before = table.weight.data
    table.weight.data = torch.cat([before, torch.zeros(1, WIDTH)])
    for id, row in changes.items():
        table.weight.data[id] += row
    padded = [START_ID, *ids, *[END_ID] * (tiny_cascade.POSITIONS - 1 - len(ids))]
    result = encode(network, torch.tensor([padded]))
    table.weight.data = before
    return result


def encoded(clip, text):
    (cond, more), *_ = clip.encode_from_tokens_scheduled(clip.tokenize(text))
    return cond, more["pooled_output"]


def test_new_word_is_encoded_as_an_appended_row_that_began_as_its_base(whole, clip, teach):
    tensors, (row,) = rows(NEW)
    taught, words = teach(clip, tensors, strength=0.5, words="[fernando] = dog")
    network, _ = whole
    began = network.text_model.embeddings.token_embedding.weight.data[DOG]
    theirs = expected(network, {NEW: began + 0.5 * row}, [320, NEW, 320])
    for ours, reference in zip(encoded(taught, "a [fernando] a"), theirs, strict=True):
        assert (ours - reference).abs().max() < 1e-4
    assert words == "[fernando]"


def test_known_token_is_encoded_with_its_changed_row(whole, clip, teach):
    tensors, (row,) = rows(RED)
    taught, words = teach(clip, tensors)
    theirs = expected(whole[0], {RED: row}, [RED])
    for ours, reference in zip(encoded(taught, "red"), theirs, strict=True):
        assert (ours - reference).abs().max() < 1e-4
    assert words == ""


def test_clip_that_came_in_learns_nothing(clip, teach):
    before = encoded(clip, "a [fernando]")
    taught, _ = teach(clip, rows(NEW)[0], words="[fernando] = dog")
    assert not torch.equal(encoded(taught, "a [fernando]")[0], before[0])
    assert torch.equal(encoded(clip, "a [fernando]")[0], before[0])
    assert torch.equal(encoded(taught, "a dog")[0], encoded(clip, "a dog")[0])


def test_words_of_two_loras_can_be_used_together_and_with_weights(clip, teach):
    once, _ = teach(clip, rows(NEW)[0], words="[one] = dog")
    twice, words = teach(
        once, {"bundle_emb.two.clip_g": torch.ones(2, WIDTH)} | rows(NEW, seed=2)[0], words="[three]"
    )
    assert words == "two, [three]"
    tokens = twice.tokenize("a ([one]:1.5) two [three]")["g"][0]
    tensors = [weight for token, weight in tokens if isinstance(token, torch.Tensor)]
    assert tensors == [1.5, 1.0, 1.0, 1.0]
    assert encoded(twice, "a ([one]:1.5) two [three]")[0].isfinite().all()


def test_word_that_nobody_names_gets_a_name_and_a_warning(clip, teach, said):
    _, words = teach(clip, rows(NEW)[0])
    assert words == "[token1]"
    assert "does not name its words" in said[0]
    assert "[fernando] = dog" in said[0]


def test_encoder_of_some_words_learns_new_ones_and_tells_of_tokens_it_lacks(tiny, teach, said):
    tensors, _ = rows(RED, DOG, NEW)
    taught, words = teach(tiny.clip, tensors, words="[cat] = cat")
    assert words == "[cat]"
    assert f"tokens that this text encoder does not have: {DOG}" in said[0]
    assert not torch.equal(encoded(taught, "red")[0], encoded(tiny.clip, "red")[0])
    assert encoded(taught, "a [cat]")[0].isfinite().all()


def test_words_of_another_width_are_refused(clip, teach):
    with pytest.raises(ValueError, match="teaches words of 48 features, and this text encoder has 32"):
        teach(clip, {"embeddings.embeddings": torch.zeros(1, 48), "embeddings.indices": torch.tensor([NEW])})


def test_base_that_is_no_token_is_refused(tiny, teach):
    with pytest.raises(ValueError, match=r"`words.safetensors`: \[x\] should begin as `horse`"):
        teach(tiny.clip, rows(NEW)[0], words="[x] = horse")
