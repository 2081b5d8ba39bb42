"""What README.md and the tutorial tell a stranger to do, done as it is written."""

import argparse
import ast
import re
import shlex

import pytest
from comfy_host import ROOT
from dev_script import dev
from tutorial import Tutorial, kind

PAGES = [ROOT / name for name in ("README.md", "CONTRIBUTING.md")] + sorted((ROOT / "docs").glob("*.md"))
PROSE = {page.relative_to(ROOT).as_posix(): page.read_text(encoding="utf-8") for page in PAGES}
FOLDERS_OF_CODE = (
    "adapters",
    "checkpoints",
    "conditioning",
    "development",
    "latents",
    "nodes",
    "samplers",
    "stage_c",
)


@pytest.fixture(scope="module")
def known(server):
    """Every node of the running ComfyUI, by its display name."""
    return {node["display_name"]: node for node in server.object_info().values()}


def _inputs(node):
    return [name for kind in ("required", "optional") for name in node["input"].get(kind, {})]


# Commands


def _commands(text):
    """Lines of the fenced blocks that begin with a program."""
    blocks = re.findall(r"^```\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    return [line for block in blocks for line in block.splitlines()]


DEV_COMMANDS = [
    pytest.param(shlex.split(line, comments=True)[2:], id=f"{name}: {line[:60]}")
    for name, text in PROSE.items()
    for line in _commands(text)
    if line.startswith("python3 dev.py")
]


@pytest.mark.parametrize("arguments", DEV_COMMANDS)
def test_every_command_of_dev_py_in_the_pages_is_understood(arguments):
    verb = dev.VERBS[arguments[0]]
    parser = argparse.ArgumentParser()
    verb.arguments(parser)
    _, rest = parser.parse_known_args(arguments[1:])
    assert not rest or verb.takes_rest


def test_readme_names_the_command_that_runs_every_test():
    assert "python3 dev.py test" in _commands(PROSE["README.md"])


# Names


@pytest.mark.parametrize("page", PROSE)
def test_every_node_of_the_pack_that_a_page_names_is_there(page, known):
    phrases = re.findall(r"((?:[A-Z][\w-]* (?:(?:and|of|to) )?)+)\(Cascade\)", PROSE[page])
    missing = [words for words in phrases if not _ends_like_a_node(words.split(), known)]
    assert missing == []


def _ends_like_a_node(words, known):
    """A sentence may begin with a capital before the name of the node does."""
    return any(f"{' '.join(words[i:])} (Cascade)" in known for i in range(len(words)))


@pytest.mark.parametrize("page", PROSE)
def test_every_file_that_a_page_links_to_is_there(page):
    folder = (ROOT / page).parent
    links = re.findall(r"\]\((?!https?:|#)([^)#\s]+)", PROSE[page])
    links += re.findall(r'<img src="(?!https?:)([^"]+)"', PROSE[page])
    assert [link for link in links if not (folder / link).exists()] == []


def test_every_template_that_the_readme_names_is_there():
    named = re.findall(r"`(\w+)`", re.search(r"^## Workflows\n(.*?)^## ", PROSE["README.md"], re.M | re.S)[1])
    assert len(named) > 8
    assert [name for name in named if not (ROOT / "workflows" / f"{name}.json").is_file()] == []


# Messages


def _texts():
    """Every text in the code, with … where a value goes in."""
    for folder in FOLDERS_OF_CODE:
        for path in (ROOT / folder).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                if isinstance(node, ast.JoinedStr):
                    parts = [part.value if isinstance(part, ast.Constant) else "…" for part in node.values]
                    yield "".join(parts)
                elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                    yield node.value


def _messages(page):
    """First cells of the tables on our own messages."""
    ours = page.partition("## ComfyUI's own messages")[0]
    rows = re.findall(r"^\| (.+?) \| .+ \| .+ \|$", ours, re.MULTILINE)
    return [row for row in rows if row != "It says"]


def test_every_message_that_troubleshooting_explains_is_one_of_ours():
    texts = list(_texts())
    messages = _messages(PROSE["docs/troubleshooting.md"])
    assert len(messages) > 25
    unknown = [message for message in messages if not any(_could_say(text, message) for text in texts)]
    assert unknown == []


def _could_say(text, message):
    """Whether the words of a message stand in a text of the code, in their order."""
    place = 0
    for part in filter(None, (part.strip(" ,") for part in message.split("…"))):
        place = text.find(part, place)
        if place < 0:
            return False
    return True


# The tutorial


def test_tutorial_names_nodes_and_sockets_that_are_there(known):
    tutorial = Tutorial.read()
    assert {kind(name) for name in tutorial.names()} <= set(known)
    for source, output, target, input in tutorial.wires:
        assert output in known[kind(source)]["output_name"], (source, output)
        assert input in _inputs(known[kind(target)]), (target, input)
    for node, setting, _ in tutorial.values:
        assert setting in _inputs(known[kind(node)]), (node, setting)


def test_tutorial_wires_every_socket_that_must_be(known):
    tutorial = Tutorial.read()
    wired = {(target, input) for _, _, target, input in tutorial.wires}
    for name in tutorial.names():
        needed = known[kind(name)]["input"].get("required", {})
        sockets = {input for input, (type, *_) in needed.items() if type in SOCKETS}
        assert sockets <= {input for target, input in wired if target == name}, name


SOCKETS = {"MODEL", "CLIP", "VAE", "CONDITIONING", "LATENT", "IMAGE"}


def test_tutorial_as_a_prompt_draws_its_picture(server, graph, known):
    tutorial = Tutorial.read()
    nodes = {name: _with_defaults(graph, known[kind(name)]) for name in tutorial.names()}
    prompt = graph.prompt()
    for source, output, target, input in tutorial.wires:
        slot = known[kind(source)]["output_name"].index(output)
        prompt[nodes[target].id]["inputs"][input] = nodes[source][slot]
    for name, setting, value in tutorial.values:
        prompt[nodes[name].id]["inputs"][setting] = int(value) if value.isdigit() else value
    (picture,) = server.images(server.queue(prompt))
    assert picture.size == (256, 256)


def _with_defaults(graph, node):
    """A node in the graph as the page adds it."""
    given = {}
    for name, (type, *more) in node["input"]["required"].items():
        options = more[0] if more else {}
        if type not in SOCKETS:
            given[name] = options.get("default", (options.get("options") or [""])[0])
    return graph.add(node["name"], **given)
