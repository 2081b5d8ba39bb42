"""The text encoder on a CLIP socket, the image encoder on a CLIP_VISION socket."""

from pathlib import Path
from types import SimpleNamespace

import pytest
import tiny_cascade
import torch
from comfyui_cascade.conditioning import image as pure_image
from comfyui_cascade.conditioning import text as pure_text
from random_weights import difference
from safetensors.torch import save_file
from tiny_cascade import POSITIONS, TOKEN_IDS, WORDS

HALF = 2e-3
"""The host keeps text encoders in fp16 whatever the file has, and computes in fp32."""


def encode(comfy_nodes, clip, text):
    """Hidden states and pooled text, by the host's node."""
    ((hidden, entries),) = comfy_nodes.CLIPTextEncode().encode(clip, text)[0]
    return hidden, entries["pooled_output"]


def rows(*words):
    """A framed and padded prompt."""
    ids = [49406, *(WORDS[word] for word in words), *[49407] * (POSITIONS - 1 - len(words))]
    return torch.tensor([[TOKEN_IDS.index(id) for id in ids]])


@pytest.fixture(scope="module")
def pure():
    network = tiny_cascade.networks()["text_encoder"]
    return lambda *words: pure_text.encode(network, rows(*words), TOKEN_IDS.index(49407))


def test_small_table_encodes_as_the_pure_encoder_does(comfy_nodes, tiny, pure):
    for ours, theirs in zip(
        encode(comfy_nodes, tiny.clip, "A red, blue cat"), pure("a", "red", ",", "blue", "cat"), strict=True
    ):
        assert difference(ours, theirs) < HALF


@pytest.fixture(scope="module")
def full_table(comfy_nodes, tmp_path_factory):
    """A text encoder of CLIP's whole vocabulary: our CLIP, the host's own, and the folder of transformers."""
    import comfy.sd
    import folder_paths
    from comfy.sdxl_clip import StableCascadeClipModel, StableCascadeTokenizer
    from comfy.supported_models_base import ClipTarget
    from comfyui_cascade.nodes import host
    from random_weights import randomise

    root = tmp_path_factory.mktemp("full_table")
    network = randomise(pure_text.text_encoder(pure_text.TextEncoderConfig(32, 2, 64, 2, 77, 49408, 32)))
    weights = network.state_dict()
    save_file(
        {k: v.contiguous() for k, v in weights.items()}, root / "g.safetensors", {"cascade.head_dim": "16"}
    )
    network.save_pretrained(root / "folder")
    embeddings = Path(folder_paths.get_folder_paths("embeddings")[0])
    embeddings.mkdir(parents=True, exist_ok=True)
    save_file({"clip_g": torch.randn(3, 32)}, embeddings / "three.safetensors")
    sizes = {"hidden_size": 32, "intermediate_size": 64, "num_attention_heads": 2, "num_hidden_layers": 2}
    theirs = comfy.sd.CLIP(
        ClipTarget(StableCascadeTokenizer, StableCascadeClipModel),
        embedding_directory=folder_paths.get_folder_paths("embeddings"),
        state_dict=[dict(weights)],
        model_options={"clip_g_model_config": sizes},
    )
    # The host's own tokenizer knows the width of the released encoder alone.
    theirs.tokenizer.clip_g.embedding_size = 32
    ours = host.load_text_encoder(root / "g.safetensors")
    return SimpleNamespace(ours=ours, theirs=theirs, folder=root / "folder", network=network)


PROMPTS = {
    "plain": "a photo of an astronaut riding a horse",
    "empty": "",
    "spaces": "   ",
    "weighted": "a (photo:1.3) of an [astronaut] ((riding)) a (horse:0)",
    "nested": "a (big (red:1.2) cat:0.8) with \\(real\\) parentheses",
    "longer than a chunk": "word " * 90,
    "exactly a chunk": "word " * 75,
    "weighted over two chunks": "(word:1.4) " * 80,
    "embedding": "a embedding:three cat, (embedding:three:1.5)",
    "unknown embedding": "a embedding:nothing_here cat",
    "signs of many alphabets": "Ünïcödé, \u732b \u0438 \u043a\u043e\u0442",
}


@pytest.mark.parametrize("text", PROMPTS.values(), ids=PROMPTS)
def test_full_table_encodes_as_the_hosts_own_class_does(comfy_nodes, full_table, text):
    for a, b in zip(
        encode(comfy_nodes, full_table.ours, text), encode(comfy_nodes, full_table.theirs, text), strict=True
    ):
        assert torch.equal(a, b)


def test_embedding_takes_the_place_of_as_many_tokens(comfy_nodes, full_table):
    (chunk,) = full_table.ours.tokenize("a embedding:three cat")["g"]
    assert len(chunk) == 77
    assert [isinstance(token, torch.Tensor) for token, _ in chunk[:7]] == [
        False,
        False,
        True,
        True,
        True,
        False,
        False,
    ]


def test_longer_prompt_is_its_chunks_one_after_the_other(comfy_nodes, full_table):
    hidden, pooled = encode(comfy_nodes, full_table.ours, "word " * 75 + "cat")
    first, first_pooled = encode(comfy_nodes, full_table.ours, "word " * 75)
    second, _ = encode(comfy_nodes, full_table.ours, "cat")
    assert difference(hidden, torch.cat([first, second], dim=1)) < 1e-5
    assert difference(pooled, first_pooled) < 1e-5


def test_weight_scales_the_distance_from_the_empty_prompt(comfy_nodes, full_table):
    plain, empty, strong = (
        encode(comfy_nodes, full_table.ours, text)[0] for text in ("a red cat", "", "a (red:1.5) cat")
    )
    expected = plain.clone()
    expected[:, 2] = empty[:, 2] + 1.5 * (plain[:, 2] - empty[:, 2])
    assert difference(strong, expected) < 1e-5


@pytest.mark.parametrize("text", ["a photo of an astronaut", ""])
def test_folder_of_transformers_encodes_as_transformers_does(comfy_nodes, full_table, text):
    from comfyui_cascade.nodes import host

    clip = host.load_text_encoder(full_table.folder, "fp32")
    ids = [token for token, _ in clip.tokenize(text)["g"][0]]
    mask = torch.ones(1, 77)
    mask[:, ids.index(49407) + 1 :] = 0
    expected = full_table.network(torch.tensor([ids]), attention_mask=mask, output_hidden_states=True)
    hidden, pooled = encode(comfy_nodes, clip, text)
    assert difference(hidden, expected.hidden_states[-1]) < 1e-5
    assert difference(pooled, expected.text_embeds) < 1e-5


def test_unknown_words_are_named_once_and_left_out(comfy_nodes, tiny, pure, said):
    hidden, _ = encode(comfy_nodes, tiny.clip, "a zeppelin, red catfish zeppelin cat")
    assert said == ["This text encoder does not know, and left out: zeppelin, catfish"]
    assert difference(hidden, pure("a", ",", "red", "cat")[0]) < HALF
    encode(comfy_nodes, tiny.clip, "a blue house")
    assert len(said) == 1


def test_weighted_words_differ_and_weight_one_does_not(comfy_nodes, tiny):
    plain, _ = encode(comfy_nodes, tiny.clip, "a red cat")
    same, _ = encode(comfy_nodes, tiny.clip, "a (red:1.0) cat")
    strong, _ = encode(comfy_nodes, tiny.clip, "a (red:1.5) cat")
    assert torch.equal(plain, same)
    changed = (plain - strong).abs().amax(dim=-1)[0] > 0
    assert changed.nonzero().flatten().tolist() == [2]


def test_embedding_file_stands_for_a_word(comfy_nodes, tiny, pure):
    from pathlib import Path

    import folder_paths

    network = tiny_cascade.networks()["text_encoder"]
    table = network.text_model.embeddings.token_embedding.weight
    folder = Path(folder_paths.get_folder_paths("embeddings")[0])
    folder.mkdir(parents=True, exist_ok=True)
    save_file({"clip_g": table[TOKEN_IDS.index(WORDS["red"])][None].clone()}, folder / "tinyred.safetensors")
    hidden, _ = encode(comfy_nodes, tiny.clip, "a embedding:tinyred cat")
    assert difference(hidden, pure("a", "red", "cat")[0]) < HALF


def test_longer_prompts_become_several_chunks(comfy_nodes, tiny):
    hidden, _ = encode(comfy_nodes, tiny.clip, "red cat, " * 10)
    assert hidden.shape == (1, 3 * POSITIONS, 32)


def test_clone_encodes_the_same(comfy_nodes, tiny):
    for ours, theirs in zip(
        encode(comfy_nodes, tiny.clip.clone(), "a cat"), encode(comfy_nodes, tiny.clip, "a cat"), strict=True
    ):
        assert torch.equal(ours, theirs)


def test_tokens_can_be_read_back(tiny):
    tokens = tiny.clip.tokenize("a red cat")
    assert [text for _, text in tiny.clip.tokenizer.untokenize(tokens["g"][0])][1:4] == [
        "a</w>",
        "red</w>",
        "cat</w>",
    ]
    assert tiny.clip.decode([row for row, _ in tokens["g"][0]]).strip() == "a red cat"


def test_image_encoder_sees_as_the_pure_encoder_does(comfy_nodes, tiny):
    picture = torch.rand(2, 40, 56, 3)
    ours = comfy_nodes.CLIPVisionEncode().encode(tiny.clip_vision, picture, "center")[0].image_embeds
    theirs = pure_image.encode(tiny_cascade.networks()["image_encoder"], picture.movedim(-1, 1))
    assert ours.shape == (2, tiny_cascade.IMAGE)
    assert difference(ours, theirs) < 2e-2  # the host rounds pixels to 256 levels
