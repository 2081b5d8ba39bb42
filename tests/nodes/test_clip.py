"""The text encoder on a CLIP socket, the image encoder on a CLIP_VISION socket."""

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


def test_full_table_encodes_as_the_hosts_own_class_does(comfy_nodes, tmp_path):
    import comfy.sd
    from comfy.sdxl_clip import StableCascadeClipModel, StableCascadeTokenizer
    from comfy.supported_models_base import ClipTarget
    from comfyui_cascade.nodes import host
    from random_weights import randomise

    config = pure_text.TextEncoderConfig(32, 2, 64, 2, 77, 49408, 32)
    weights = randomise(pure_text.text_encoder(config)).state_dict()
    path = tmp_path / "clip_g.safetensors"
    save_file({k: v.contiguous() for k, v in weights.items()}, path, {"cascade.head_dim": "16"})
    sizes = {"hidden_size": 32, "intermediate_size": 64, "num_attention_heads": 2, "num_hidden_layers": 2}
    theirs = comfy.sd.CLIP(
        ClipTarget(StableCascadeTokenizer, StableCascadeClipModel),
        state_dict=[dict(weights)],
        model_options={"clip_g_model_config": sizes},
    )
    ours = host.load_text_encoder(path)
    for text in ("a (photo:1.3) of an [astronaut] riding", "word " * 90):
        for a, b in zip(encode(comfy_nodes, ours, text), encode(comfy_nodes, theirs, text), strict=True):
            assert torch.equal(a, b)


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
