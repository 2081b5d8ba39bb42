"""Help pages in other languages call nodes, inputs and outputs as the nodes do in that language."""

import json
import re

import pytest
from comfy_host import ROOT
from help_pages import INPUTS, OUTPUTS, help_pages

TRANSLATED = [page for page in help_pages() if page.language != "en"]
NAMES = {
    language: json.loads((ROOT / "locales" / language / "nodeDefs.json").read_text(encoding="utf-8"))
    for language in {page.language for page in TRANSLATED}
}
each_page = pytest.mark.parametrize("page", TRANSLATED, ids=lambda page: f"{page.node}-{page.language}")


def same_word(label, name):
    return re.sub(r"[\s_]", "", label).lower() == re.sub(r"[\s_]", "", name).lower()


@pytest.mark.parametrize("language", ["es", "zh"])
def test_every_node_has_a_page_in_the_language(language):
    assert {page.node for page in TRANSLATED if page.language == language} == set(NAMES[language])


@each_page
def test_title_is_the_name_of_the_node_in_the_language(page):
    assert page.title == NAMES[page.language][page.node]["display_name"]


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
    prose = re.sub(r'`[^`]*`|"[^"]*"|\([^)]*\)', "", page.text)
    left = re.findall(r"\b(?:the|with|which|from|when|and)\b", prose)
    assert not left
