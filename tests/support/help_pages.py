"""The help pages in web/docs, taken apart."""

import re
from dataclasses import dataclass
from pathlib import Path

from comfy_host import ROOT

DOCS = ROOT / "web" / "docs"
INPUTS, OUTPUTS = 1, 2
"""Which of a page's sections these are, in every language."""

_ITEM = re.compile(r"- `([^`]+)`(?: ?\(([^)]*)\))?(.*)")
_PICTURE = re.compile(r"!\[([^\]]*)\]\(([^)]+)\)")
_QUOTE = re.compile(r'- "([^"]+)"')


@dataclass(frozen=True)
class Item:
    """One input or output: its name, what stands in parentheses, and the rest."""

    name: str
    facts: str
    text: str


@dataclass(frozen=True)
class HelpPage:
    """A page of one node in one language."""

    node: str
    language: str
    path: Path

    @property
    def text(self) -> str:
        return self.path.read_text(encoding="utf-8")

    @property
    def title(self) -> str:
        return self.text.partition("\n")[0].removeprefix("# ")

    @property
    def headings(self) -> list[str]:
        return re.findall(r"^## (.+)$", self.text, re.MULTILINE)

    @property
    def levels(self) -> list[str]:
        return re.findall(r"^#+", self.text, re.MULTILINE)

    @property
    def sections(self) -> list[str]:
        """What stands above the first heading of the second level, and below each of them."""
        return re.split(r"^## .+$", self.text, flags=re.MULTILINE)

    def items(self, section: int) -> list[Item]:
        """The inputs or outputs."""
        found = (_ITEM.fullmatch(line) for line in self.sections[1 + section].splitlines())
        return [Item(name, facts or "", text) for name, facts, text in (m.groups() for m in found if m)]

    @property
    def pictures(self) -> list[tuple[str, str]]:
        """What each picture shows, and its path from web/docs, which is where ComfyUI's page looks."""
        return _PICTURE.findall(self.text)

    @property
    def messages(self) -> list[str]:
        """What the program says, as quoted under the common mistakes."""
        return [quote for line in self.text.splitlines() for quote in _QUOTE.findall(line)]


def help_pages() -> list[HelpPage]:
    """Every page: NodeId.md is English and stands in for languages without one, NodeId/es.md is Spanish."""
    english = [HelpPage(path.stem, "en", path) for path in sorted(DOCS.glob("*.md"))]
    return english + [HelpPage(path.parent.name, path.stem, path) for path in sorted(DOCS.glob("*/*.md"))]
