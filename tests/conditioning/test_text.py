import pytest
import torch
from comfyui_cascade.checkpoints.layout import shapes, to_native
from comfyui_cascade.checkpoints.open import build
from comfyui_cascade.conditioning.text import (
    END_ID,
    LENGTH,
    START_ID,
    TextEncoderConfig,
    Tokens,
    encode,
    text_encoder,
)
from random_weights import difference, randomise

SIZES = {"num_hidden_layers": 3, "hidden_size": 48, "num_attention_heads": 3, "intermediate_size": 100}
PROMPTS = ["", "a red cat", "a very long prompt about " + "cats and dogs " * 40]
METADATA = {"cascade.head_dim": "16"}


def frame(*ids):
    return torch.tensor([[START_ID, *ids, END_ID] + [END_ID] * (LENGTH - 2 - len(ids))])


@pytest.fixture(scope="module")
def host(comfy_nodes):
    from comfy.sdxl_clip import StableCascadeClipModel

    # A copy of SIZES: the host writes into it.
    return randomise(
        StableCascadeClipModel(model_options={"clip_g_model_config": dict(SIZES)}, dtype=torch.float32)
    )


@pytest.fixture(scope="module")
def ours(host):
    weights = to_native(host.clip_g.transformer.state_dict())
    return build(text_encoder, TextEncoderConfig.from_shapes(shapes(weights), METADATA), weights)


@pytest.fixture(scope="module")
def host_tokens(comfy_nodes):
    from comfy.sdxl_clip import StableCascadeTokenizer

    return StableCascadeTokenizer()


@pytest.mark.parametrize("prompt", PROMPTS)
def test_encoder_equals_the_hosts(host, ours, host_tokens, prompt):
    tokens = host_tokens.tokenize_with_weights(prompt)["g"][:1]
    ids = torch.tensor([[id for id, _ in tokens[0]]])
    with torch.inference_mode():
        theirs = host.encode_token_weights({"g": tokens})
        text, pooled = encode(ours, ids)
    assert difference(text, theirs[0]) < 1e-4
    assert difference(pooled, theirs[1]) < 1e-4


def test_text_is_the_state_before_the_final_norm(ours):
    ids = frame(320, 736, 2368)
    with torch.inference_mode():
        text, pooled = encode(ours, ids)
        # Without a mask, since what comes after the end token cannot be seen from before it.
        reference = ours(ids, output_hidden_states=True)
        normed = ours.text_model.final_layer_norm(text)
    assert difference(text[:, :5], reference.hidden_states[-1][:, :5]) < 1e-4
    assert difference(normed[:, :5], reference.last_hidden_state[:, :5]) < 1e-4
    assert difference(pooled, reference.text_embeds) < 1e-4


def test_row_of_a_batch_is_encoded_as_it_is_alone(ours):
    with torch.inference_mode():
        both = encode(ours, torch.cat([frame(320), frame(5, 6, 7, 8)]))
        alone = encode(ours, frame(320))
    for together, one in zip(both, alone, strict=True):
        torch.testing.assert_close(together[:1], one)


def test_added_token_after_the_vocabulary_does_not_move_the_end(ours):
    # The largest id is not the end token's then; the first end token is what counts.
    wide = TextEncoderConfig(
        width=48, depth=3, c_hidden=100, heads=3, positions=LENGTH, vocabulary=49410, c_pooled=48
    )
    weights = ours.state_dict()
    table = "text_model.embeddings.token_embedding.weight"
    weights[table] = torch.cat([weights[table], torch.randn(2, 48)])
    network = build(text_encoder, wide, weights)
    with torch.inference_mode():
        text, pooled = encode(network, frame(320, 49409))
        expected = network.text_projection(network.text_model.final_layer_norm(text)[:, 3])
    assert torch.equal(pooled, expected)


def test_small_table_encodes_as_the_whole_vocabulary(ours):
    token_ids = (320, 2368, START_ID, 736, END_ID)
    weights = ours.state_dict()
    table = "text_model.embeddings.token_embedding.weight"
    weights[table] = weights[table][list(token_ids)]
    small = build(text_encoder, TextEncoderConfig.from_shapes(shapes(weights), METADATA), weights)
    tokens = Tokens(token_ids)
    rows = torch.tensor([tokens.frame(tokens.rows([320, 736, 2368]))])
    with torch.inference_mode():
        few, every = encode(small, rows, tokens.end_row), encode(ours, frame(320, 736, 2368))
    for one, other in zip(few, every, strict=True):
        torch.testing.assert_close(one, other)


def test_gradients_reach_the_encoder(ours):
    network = build(
        text_encoder, TextEncoderConfig.from_shapes(shapes(ours.state_dict()), METADATA), ours.state_dict()
    )
    text, pooled = encode(network, frame(320))
    (text.sum() + pooled.sum()).backward()
    assert all(parameter.grad is not None for parameter in network.parameters())


def test_width_that_does_not_divide_into_heads_is_refused(ours):
    with pytest.raises(ValueError, match="48 channels does not divide into heads of 64"):
        TextEncoderConfig.from_shapes(shapes(ours.state_dict()))


def test_encoder_without_projection_is_refused(ours):
    with pytest.raises(ValueError, match=r"no text_projection\.weight"):
        TextEncoderConfig.from_shapes({"text_model.embeddings.token_embedding.weight": (1, 64)})


WORDS = {"a": (320,), "red": (736,), "cat": (2368,), "unheard": (99, 98), ",": (267,)}
SMALL = Tokens((267, 320, 2368, 736, START_ID, END_ID, 99), length=8)


def test_prompt_is_framed_and_padded_with_the_end_token():
    encoded = SMALL.encode("A red, cat", WORDS.__getitem__)
    assert encoded.rows == (4, 1, 3, 0, 2, 5, 5, 5)
    assert encoded.unknown == encoded.cut == ()


def test_word_that_the_table_holds_in_part_is_left_out_and_told():
    encoded = SMALL.encode("a unheard unheard cat", WORDS.__getitem__)
    assert encoded.rows == (4, 1, 2, 5, 5, 5, 5, 5)
    assert encoded.unknown == ("unheard",)


def test_prompt_is_cut_between_words():
    encoded = SMALL.encode("a a a a a red cat a", WORDS.__getitem__)
    assert encoded.rows == (4, 1, 1, 1, 1, 1, 3, 5)
    assert encoded.cut == ("cat", "a")


def test_table_without_the_end_token_is_refused():
    with pytest.raises(ValueError, match="lacks the start token 49406 or the end token 49407"):
        Tokens((1, 2, START_ID))


@pytest.mark.parametrize("prompt", [*PROMPTS, "it's 2024: 10 cats_and DOGS!!! (really), naïve café… \u732b"])
def test_whole_vocabulary_gives_the_hosts_tokens(host_tokens, prompt):
    def ids_of(word):
        return host_tokens.clip_g.tokenizer(word)["input_ids"][1:-1]

    theirs = host_tokens.clip_g.tokenizer(prompt)["input_ids"][1:-1]
    assert Tokens().encode(prompt, ids_of).rows == Tokens().frame(theirs)
