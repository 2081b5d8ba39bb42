"""Help pages in other languages: they say what the English ones say, in words of their own language."""

import json
import re
from collections import Counter

import pytest
from comfy_host import ROOT
from help_pages import INPUTS, OUTPUTS, help_pages
from translations import STAGE, left_in_english, misnamed

PAGES = help_pages()
ENGLISH = {page.node: page for page in PAGES if page.language == "en"}
TRANSLATED = [page for page in PAGES if page.language != "en"]
LANGUAGES = ["es", "zh"]
NAMES = {
    language: json.loads((ROOT / "locales" / language / "nodeDefs.json").read_text(encoding="utf-8"))
    for language in ["en", *LANGUAGES]
}
each_page = pytest.mark.parametrize("page", TRANSLATED, ids=lambda page: f"{page.node}-{page.language}")
each_language = pytest.mark.parametrize("language", LANGUAGES)

MESSAGE = re.compile(r'"[^"]*"')
NUMBER = re.compile(r"\d+(?:\.\d+)?")
CODE = re.compile(r"`[^`]*`")


def same_word(label, name):
    return re.sub(r"[\s_]", "", label).lower() == re.sub(r"[\s_]", "", name).lower()


@each_language
def test_every_node_has_a_page_in_the_language(language):
    assert {page.node for page in TRANSLATED if page.language == language} == set(NAMES[language])


@each_page
def test_title_is_the_name_of_the_node_in_the_language(page):
    assert page.title == NAMES[page.language][page.node]["display_name"]


@each_language
def test_sections_are_called_alike_on_all_pages_of_the_language(language):
    used = {tuple(page.headings) for page in TRANSLATED if page.language == language}
    assert len(used) == 1
    assert not set(*used) & set(ENGLISH["CascadeSampler"].headings)


@each_page
def test_each_input_and_output_is_named_as_on_the_node_in_the_language(page):
    names = NAMES[page.language][page.node]
    inputs = [
        (item, names["inputs"][item.name]["name"])
        for item in page.items(INPUTS)
        if item.name in names["inputs"]
    ]
    outputs = [(item, names["outputs"][str(i)]["name"]) for i, item in enumerate(page.items(OUTPUTS))]
    unnamed = [
        (item.name, label)
        for item, label in inputs + outputs
        if not same_word(label, item.name) and f"**{label}**" not in item.text
    ]
    assert not unnamed


@each_page
def test_page_is_not_left_in_english(page):
    assert not left_in_english(ENGLISH[page.node].text, page.text, page.language)
    prose = re.sub(r'`[^`]*`|"[^"]*"|\([^)]*\)', "", page.text)
    assert not re.findall(r"\b(?:the|with|which|from|when|and)\b", prose)


@each_page
def test_each_section_has_as_many_points_as_in_english(page):
    points = [len(re.findall(r"^- ", section, re.MULTILINE)) for section in page.sections]
    assert points == [
        len(re.findall(r"^- ", section, re.MULTILINE)) for section in ENGLISH[page.node].sections
    ]


@each_page
def test_each_section_keeps_numbers_choices_and_stages(page):
    for section, english in zip(page.sections, ENGLISH[page.node].sections, strict=True):
        assert Counter(NUMBER.findall(section)) == Counter(NUMBER.findall(english))
        assert set(CODE.findall(section)) == set(CODE.findall(english))
    assert set(STAGE.findall(page.text)) >= set(STAGE.findall(ENGLISH[page.node].text))


@each_page
def test_each_section_calls_nodes_by_the_names_that_the_page_shows(page):
    ours = {
        spec["display_name"]: NAMES[page.language][node]["display_name"] for node, spec in NAMES["en"].items()
    }
    for section, english in zip(page.sections, ENGLISH[page.node].sections, strict=True):
        texts = (MESSAGE.sub(".", text) for text in (english, section))
        assert not misnamed(*texts, page.language, ours)
