"""The help pages: that they tell everything about every node, and nothing that is not so."""

import ast
import re
from functools import cache

import pytest
from comfy_host import ROOT
from help_pages import INPUTS, OUTPUTS, help_pages

PAGES = help_pages()
ENGLISH = {page.node: page for page in PAGES if page.language == "en"}
each_page = pytest.mark.parametrize("page", PAGES, ids=lambda page: f"{page.node}-{page.language}")
each_english = pytest.mark.parametrize("page", ENGLISH.values(), ids=ENGLISH)

WORDS = {"INT": "whole number", "FLOAT": "number", "STRING": "text", "BOOLEAN": "yes or no", "COMBO": "menu"}
"""What an artist calls what travels on a socket; others are called as on the socket."""

UNBOUNDED = 2**53
SAID_IN_FULL = 10
"""A fixed menu of no more choices than this is explained choice by choice."""

SHORTEST_SIGN = 15
"""Letters by which a part of a message is told from any other."""


@pytest.fixture(scope="module")
def schemas(comfy_nodes):
    from comfyui_cascade.nodes import NODE_CLASS_MAPPINGS

    return {
        schema.node_id: schema for schema in (node.define_schema() for node in NODE_CLASS_MAPPINGS.values())
    }


def test_every_node_has_a_page_and_every_page_a_node(schemas):
    assert set(ENGLISH) == set(schemas)
    assert {page.node for page in PAGES} == set(schemas)


@each_page
def test_page_tells_every_input_and_output_in_the_order_of_the_node(page, schemas):
    schema = schemas[page.node]
    assert [item.name for item in page.items(INPUTS)] == [one.id for one in schema.inputs]
    assert [item.name for item in page.items(OUTPUTS)] == [one.display_name for one in schema.outputs]


@each_english
def test_page_bears_the_name_of_its_node(page, schemas):
    assert page.title == schemas[page.node].display_name


@each_english
def test_page_says_kind_range_and_default_as_the_node_has_them(page, schemas):
    schema = schemas[page.node]
    told = {item.name: item for item in page.items(INPUTS)}
    wrong = [
        f"{one.id} ({told[one.id].facts}) does not say {fact}"
        for one in schema.inputs
        for fact in _facts(one)
        if fact not in f"{told[one.id].facts}; {told[one.id].text}"
    ]
    assert not wrong
    assert not [one.id for one in schema.inputs if ("optional" in told[one.id].facts) != bool(one.optional)]


@each_english
def test_page_says_what_travels_on_each_output(page, schemas):
    outputs = zip(page.items(OUTPUTS), schemas[page.node].outputs, strict=True)
    kinds = [(item.text, WORDS.get(one.io_type, one.io_type)) for item, one in outputs]
    assert not [kind for text, kind in kinds if not kind.startswith("CASCADE_") and kind not in text]


def _facts(given):
    """What the page has to say about an input."""
    default, low = getattr(given, "default", None), getattr(given, "min", None)
    if given.io_type in ("INT", "FLOAT"):
        yield f"{low:g} or more" if given.max > UNBOUNDED else f"{low:g} to {given.max:g}"
        yield f"default {default:g}"
    elif given.io_type == "STRING":
        yield f"default `{default}`" if default else "default empty"
    elif given.io_type == "COMBO":
        yield from (f"default `{default}`" if default else "menu", "menu")
    elif given.io_type == "BOOLEAN":
        yield f"default {'on' if default else 'off'}"
    elif not given.io_type.startswith(("CASCADE_", "COMFY_")):
        yield from given.io_type.split(",")


@each_english
def test_page_explains_every_choice_of_a_short_menu(page, schemas):
    told = {item.name: item.text for item in page.items(INPUTS)}
    menus = [one for one in schemas[page.node].inputs if one.io_type == "COMBO"]
    fixed = [one for one in menus if "`models/" not in told[one.id] and len(one.options) <= SAID_IN_FULL]
    assert not [(one.id, name) for one in fixed for name in one.options if f"`{name}`" not in told[one.id]]


@each_page
def test_page_has_the_sections_pictures_and_messages_of_the_english_one(page):
    english = ENGLISH[page.node]
    assert page.levels == english.levels == ["#", *["##"] * 6]
    assert [path for _, path in page.pictures] == [path for _, path in english.pictures]
    assert page.messages == english.messages
    for section in (INPUTS, OUTPUTS):
        facts = [
            [re.findall(r"[\d.]+|`[^`]*`", one.facts) for one in p.items(section)] for p in (page, english)
        ]
        assert facts[0] == facts[1]


@each_english
def test_english_sections_are_called_alike_on_all_pages(page):
    assert page.headings == ["When to use it", "Inputs", "Outputs", "Wired", "Effect", "Common mistakes"]


@each_page
def test_page_shows_the_node_wired_and_its_effect_and_says_what_is_seen(page):
    assert [path for _, path in page.pictures] == [f"{page.node}/wired.webp", f"{page.node}/effect.webp"]
    assert all(len(seen.split()) > 2 or not seen.isascii() for seen, _ in page.pictures)


@each_english
def test_quoted_messages_are_said_somewhere_in_the_code(page):
    for message in page.messages:
        pieces = [piece.strip(" `,") for piece in message.split("…")]
        unsaid = [piece for piece in pieces if piece and not any(_tells(text, piece) for text in _said())]
        assert not unsaid, f"nothing says {unsaid} of: {message}"


def _tells(text, piece):
    # A name such as Stage C may be a value in the text and spelled out on the page.
    return piece in text or (len(text) > SHORTEST_SIGN and text.strip() in piece)


@cache
def _said():
    """Every text in the code; of one with values in it, what stands between them."""
    folders = ("nodes", "adapters", "checkpoints", "latents", "samplers", "conditioning")
    files = (path for folder in folders for path in (ROOT / folder).rglob("*.py"))
    trees = (ast.parse(path.read_text(encoding="utf-8")) for path in files)
    return {
        node.value
        for tree in trees
        for node in ast.walk(tree)
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
    }
