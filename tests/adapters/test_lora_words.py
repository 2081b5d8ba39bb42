"""Words that LoRAs teach: which there are, what their rows are, where they stand in a text."""

import json

import pytest
import torch
from comfyui_cascade.adapters.lora_words import Word, pattern_of, read_lines, read_words, rows_of, split_at

SPELLING = {0: "dog</w>", 1: "do", 2: "dogs</w>", 3: "cat</w>"}


def stability(*ids):
    return {"embeddings.embeddings": torch.eye(len(ids), 8), "embeddings.indices": torch.tensor(ids)}


def test_lines_name_words_and_what_they_began_as():
    assert read_lines("[fernando] = dog\n\n <cat-toy>\n") == [("[fernando]", "dog"), ("<cat-toy>", "")]


def test_line_without_a_word_is_an_error_that_shows_one():
    with pytest.raises(ValueError, match=r"write for example: \[fernando\] = dog"):
        read_lines("= dog")


def test_ids_inside_the_vocabulary_are_known_tokens_and_others_new_words_in_order():
    learned = read_words(stability(49409, 320, 49408), {}, [("[b]", "dog")])
    assert [word.text for word in learned.words] == ["[b]", "[token2]"]
    assert [word.vectors.argmax().item() for word in learned.words] == [2, 0]
    assert list(learned.known) == [320]
    assert learned.unnamed == ("[token2]",)


def test_metadata_names_words_where_nobody_does():
    metadata = {"cascade.words": json.dumps([["[oak]", "tree"]])}
    (word,) = read_words(stability(49408), metadata, []).words
    assert (word.text, word.base) == ("[oak]", "tree")


def test_more_names_than_words_are_an_error_that_counts_both():
    with pytest.raises(ValueError, match="2 words were named, and the file teaches 1"):
        read_words(stability(49408), {}, [("a", ""), ("b", "")])


def test_rows_and_ids_that_do_not_fit_are_an_error():
    with pytest.raises(ValueError, match="do not fit together"):
        read_words(stability(49408) | {"embeddings.indices": torch.tensor([1, 2])}, {}, [])


def test_bundled_words_bring_their_name_and_whole_rows():
    tensors = {
        "bundle_emb.sunny day.clip_g": torch.ones(2, 8),
        "bundle_emb.sunny day.clip_g_out": torch.ones(2, 8),
    }
    learned = read_words(tensors, {}, [])
    assert [(word.text, word.whole, len(word.vectors)) for word in learned.words] == [("sunny day", True, 2)]
    assert learned.unused == ("bundle_emb.sunny day.clip_g_out",)


@pytest.mark.parametrize(
    ("base", "rows"), [("dog", [0]), ("^dog", [0, 2]), ("^(dog|cat)</w>$", [0, 3]), ("", [])]
)
def test_word_begins_as_the_mean_of_the_tokens_that_match(base, rows):
    table = torch.randn(4, 8)
    began = table[rows].mean(dim=0) if rows else torch.zeros(8)
    vectors = torch.randn(1, 8)
    found = rows_of(Word("[x]", vectors, base), table, SPELLING, strength=0.5)
    torch.testing.assert_close(found, began + 0.5 * vectors)


def test_table_may_be_kept_in_eight_bits():
    table = torch.randn(4, 8).to(torch.float8_e4m3fn)
    found = rows_of(Word("[x]", torch.zeros(1, 8), "^dog"), table, SPELLING, strength=1.0)
    torch.testing.assert_close(found[0], (table[0].float() + table[2].float()) / 2)


def test_whole_rows_stay_as_they_are_at_any_strength():
    vectors = torch.randn(2, 8)
    assert torch.equal(rows_of(Word("x", vectors, whole=True), torch.zeros(1, 8), {}, 0.3), vectors)


def test_base_without_a_token_and_a_broken_pattern_are_errors():
    with pytest.raises(ValueError, match="the text encoder has no such token"):
        rows_of(Word("[x]", torch.zeros(1, 8), "horse"), torch.zeros(4, 8), SPELLING, 1.0)
    with pytest.raises(ValueError, match="no pattern for tokens"):
        pattern_of("(dog")


def test_text_is_cut_where_words_stand_whatever_their_case():
    first, longer = torch.zeros(1, 8), torch.ones(1, 8)
    pieces = split_at("A photo of [Fernando], [fernando] again", {"[fernando]": first})
    assert [piece if isinstance(piece, str) else "*" for piece in pieces] == [
        "A photo of ",
        "*",
        ", ",
        "*",
        " again",
    ]
    assert split_at("sunny day", {"sunny": first, "sunny day": longer})[1] is longer
    assert split_at("as it is", {}) == ["as it is"]
