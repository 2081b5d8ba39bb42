"""The translations: complete, nothing of a text lost in them, and served by ComfyUI."""

import re
import unicodedata
from collections import Counter
from pathlib import Path

import pytest
from translations import HOST_NODES, NAME, STAGE, left_in_english, misnamed

from development import locales

LOCALES = Path(__file__).resolve().parent.parent / "locales"
ENGLISH = locales.read(LOCALES / "en")
TEXTS = locales.flat(ENGLISH)
LANGUAGES = sorted(folder.name for folder in LOCALES.glob("*/") if folder.name != "en")

SAME = {"cascade", "cfg", "clip", "eta", "sigmas", "vae"}  # a text that no language translates
SAME_IN = {  # a text that is the same word in one language
    "de": {"Guider (Cascade)", "Scheduler (Cascade)"},
    "es": set(),
    "fr": {"compression", "guide", "image", "images", "latents", "multiple"},
    "pt-BR": {"megapixels"},
}

OUR_INPUTS = {place.split("/")[3] for place in TEXTS if "/inputs/" in place}  # have names of their own

NUMBER = re.compile(r"\d+(?:\.\d+)?")
CODE = re.compile(r"`[^`]*`")

each_language = pytest.mark.parametrize("language", LANGUAGES)
each_folder = pytest.mark.parametrize("language", ["en", *LANGUAGES])


def texts_of(language):
    return locales.flat(locales.read(LOCALES / language))


def pairs(language):
    """Place, English text, translated text; what is missing is another test's."""
    translated = texts_of(language)
    return [(place, text, translated[place]) for place, text in TEXTS.items() if place in translated]


def kept(text):
    """What of a text must be in its translation as it is."""
    for names in HOST_NODES.values():
        text = text.replace(names["en"], " ")
    names = set(NAME.findall(CODE.sub(" ", text))) - OUR_INPUTS
    return {*CODE.findall(text), *STAGE.findall(text), *(name.rstrip("s") for name in names)}


def test_languages_are_the_promised_ones():
    assert LANGUAGES == ["de", "es", "fr", "ja", "ko", "pt-BR", "zh"]


def test_changes_tell_translators_what_is_new_changed_and_gone():
    old = {"main.json": {"a": "one", "b": "two"}}
    new = {"main.json": {"a": "one", "b": "2", "c": "three"}}
    assert locales.changes(old, new) == ["changed: main.json/b: 2", "new: main.json/c: three"]
    assert locales.changes(new, {}) == ["gone: main.json/a", "gone: main.json/b", "gone: main.json/c"]


def test_english_is_what_the_nodes_say(comfy_nodes):
    from comfyui_cascade.nodes import NODE_CLASS_MAPPINGS

    said = {node.define_schema().node_id: node.GET_NODE_INFO_V1() for node in NODE_CLASS_MAPPINGS.values()}
    lag = locales.changes(ENGLISH, locales.english(said))
    assert not lag, "python3 dev.py locales brings it up to date"


@each_language
def test_language_has_the_texts_of_english_and_no_others(language):
    translated = texts_of(language)
    assert {"missing": TEXTS.keys() - translated.keys(), "unknown": translated.keys() - TEXTS.keys()} == {
        "missing": set(),
        "unknown": set(),
    }


@each_folder
def test_every_text_is_one_clean_line(language):
    wrong = {
        place: text
        for place, text in texts_of(language).items()
        if not (isinstance(text, str) and text and text == " ".join(text.split(" ")).strip())
        or re.search(r"\s{2}|[\t\n]", text)
        or not unicodedata.is_normalized("NFC", text)
    }
    assert not wrong


@each_folder
def test_no_text_holds_a_sign_that_the_page_takes_for_syntax(language):
    assert not {place: text for place, text in texts_of(language).items() if re.search(r"[@{}|%]", text)}


@each_language
def test_no_text_is_left_in_english(language):
    allowed = SAME | SAME_IN.get(language, set())
    assert not {
        place: text for place, text, other in pairs(language) if text == other and text not in allowed
    }


@each_language
def test_no_two_words_in_a_row_are_left_in_english(language):
    left = {
        place: left_in_english(text, other, language)
        for place, text, other in pairs(language)
        if place.endswith(("tooltip", "description"))
    }
    assert not {place: words for place, words in left.items() if words}


@each_language
def test_numbers_are_kept(language):
    lost = {
        place: (text, other)
        for place, text, other in pairs(language)
        if Counter(NUMBER.findall(text)) != Counter(NUMBER.findall(other))
    }
    assert not lost


@each_language
def test_options_files_and_names_are_kept(language):
    lost = {
        place: [name for name in kept(text) if name not in other]
        for place, text, other in pairs(language)
        if place.endswith(("tooltip", "description"))
    }
    assert not {place: names for place, names in lost.items() if names}


@each_language
def test_sentences_keep_the_stages_that_they_speak_of(language):
    lost = {
        place: (text, other)
        for place, text, other in pairs(language)
        if set(STAGE.findall(text)) != set(STAGE.findall(other))
        and not place.endswith("/name")  # stage_c is no sentence
    }
    assert not lost


@each_language
def test_equal_texts_are_translated_equally(language):
    found = {}
    for _, text, other in pairs(language):
        found.setdefault(text, set()).add(other)
    assert not {text: others for text, others in found.items() if len(others) > 1}


@each_folder
def test_nodes_have_names_of_their_own_that_end_in_the_packs(language):
    names = [text for place, text in texts_of(language).items() if place.endswith("/display_name")]
    assert all(name.endswith(" (Cascade)") for name in names)
    assert len(set(names)) == len(names)


@each_language
def test_texts_call_nodes_by_the_names_that_the_page_shows(language):
    ours = {text: other for place, text, other in pairs(language) if place.endswith("/display_name")}
    wrong = {
        (place, other): names
        for place, text, other in pairs(language)
        if not place.endswith("/display_name") and (names := misnamed(text, other, language, ours))
    }
    assert not wrong


def test_glossary_has_the_words_of_the_nodes():
    _, _, glossary = (LOCALES / "README.md").read_text("utf-8").partition("\n## ")
    head, _, *rows = (line for line in glossary.splitlines() if line.startswith("|"))
    languages, table = cells(head)[1:], [cells(row) for row in rows]
    assert languages == LANGUAGES
    for column, language in enumerate(languages, start=1):
        names = {text.removesuffix(" (Cascade)"): other for _, text, other in pairs(language)}
        told = {row[0]: row[column] for row in table if row[0] in names}
        assert len(told) > 8
        assert told == {word: names[word].removesuffix(" (Cascade)") for word in told}


def cells(row):
    return [cell.strip() for cell in row.strip("|").split("|")]


def test_comfyui_serves_every_language(server):
    served = server.translations()
    for language in ["en", *LANGUAGES]:
        files = locales.read(LOCALES / language)
        assert served[language]["nodeDefs"] == files["nodeDefs.json"]
        assert served[language]["nodeCategories"] == files["main.json"]["nodeCategories"]
