"""docs/tutorial.md, read as a list of things to do."""

import re
from dataclasses import dataclass

from comfy_host import ROOT

PAGE = ROOT / "docs" / "tutorial.md"


@dataclass(frozen=True)
class Tutorial:
    """What the page has a person do, in its words.

    Attributes:
        nodes: what to type into the search, and the node that is meant, in order.
        wires: node, output, node, input; ``, upper`` or ``, lower`` follows a name that two nodes have.
        values: node, setting, value.
        pictures: the files that it shows, by their stems.
    """

    nodes: tuple[tuple[str, str], ...]
    wires: tuple[tuple[str, str, str, str], ...]
    values: tuple[tuple[str, str, str], ...]
    pictures: tuple[str, ...]

    @classmethod
    def read(cls) -> "Tutorial":
        text = PAGE.read_text(encoding="utf-8")
        typed, wires, values = (_rows(text, head) for head in ("Type", "From", "Node"))
        return cls(
            tuple((_plain(row[0]), row[1]) for row in typed),
            tuple(wires),
            tuple((node, setting, _plain(value)) for node, setting, value in values),
            tuple(re.findall(r"\]\(tutorial/(\w+)\.jpg\)", text)),
        )

    def names(self) -> list[str]:
        """The nodes in order, told apart as ``wires`` does."""
        names = [name for _, name in self.nodes]
        twice = {name for name in names if names.count(name) == 2}
        seen: list[str] = []
        for name in names:
            place = ", lower" if f"{name}, upper" in seen else ", upper"
            seen.append(name + place if name in twice else name)
        return seen


def kind(name: str) -> str:
    """The display name of a node without what tells it apart."""
    return name.partition(",")[0]


def _rows(text: str, head: str) -> list[tuple[str, ...]]:
    """The rows of the table whose first column has this head."""
    table = re.search(rf"^\| {head} \|.*\n\|[-|]+\n((?:\|.*\n)+)", text, re.MULTILINE)
    return [tuple(cell.strip() for cell in line.strip("|").split("|")) for line in table[1].splitlines()]


def _plain(cell: str) -> str:
    return cell.strip("`")
