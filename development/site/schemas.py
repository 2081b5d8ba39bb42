"""Names, categories and descriptions of the nodes, read from their sources: ComfyUI need not run."""

from __future__ import annotations

import ast
from functools import cache
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[2]


class Node(NamedTuple):
    """What a list of nodes says of one."""

    id: str
    name: str
    category: str
    description: str


@cache
def read_nodes() -> tuple[Node, ...]:
    """Every node, in the order of files and of the text."""
    return tuple(node for file in sorted((ROOT / "nodes").glob("*.py")) for node in _nodes_of(file))


def _nodes_of(file: Path) -> list[Node]:
    constants = _constants(file)
    return [_node(call, constants) for call in ast.walk(_tree(file)) if _is_schema(call)]


@cache
def _tree(file: Path) -> ast.Module:
    return ast.parse(file.read_text(encoding="utf-8"))


def _constants(file: Path) -> dict[str, ast.expr]:
    """What names stand for in a module, those among them that it takes from its neighbours."""
    found = {}
    for statement in _tree(file).body:
        if isinstance(statement, ast.Assign):
            found.update(
                {target.id: statement.value for target in statement.targets if hasattr(target, "id")}
            )
        elif isinstance(statement, ast.ImportFrom) and statement.level == 1 and statement.module:
            neighbour = (file.parent / statement.module).with_suffix(".py")
            theirs = _constants(neighbour) if neighbour.is_file() else {}
            found.update(
                {alias.name: theirs[alias.name] for alias in statement.names if alias.name in theirs}
            )
    return found


def _is_schema(call: ast.AST) -> bool:
    return (
        isinstance(call, ast.Call)
        and isinstance(call.func, ast.Attribute)
        and call.func.attr == "Schema"
        and any(keyword.arg == "node_id" for keyword in call.keywords)
    )


def _node(call: ast.Call, constants: dict[str, ast.expr]) -> Node:
    said = {keyword.arg: keyword.value for keyword in call.keywords}

    def text(name: str) -> str:
        value = said[name]
        if isinstance(value, ast.Name):
            value = constants[value.id]
        return ast.literal_eval(value)

    return Node(text("node_id"), text("display_name"), text("category"), text("description"))
