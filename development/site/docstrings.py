"""Our docstrings as Griffe wants them: a heading over the examples that end them."""

from __future__ import annotations

import re
from typing import Any

from griffe import Extension, Object

FIRST_EXAMPLE = re.compile(r"^>>> ", re.MULTILINE)


class ExamplesHeading(Extension):
    """Rewrites docstrings before they are parsed; the sources keep theirs."""

    def on_object(self, *, obj: Object, **_: Any) -> None:
        """Called for each module, class, function and attribute."""
        if obj.docstring:
            obj.docstring.value = with_heading(obj.docstring.value)


def with_heading(text: str) -> str:
    """A heading over the first example and all that follows."""
    first = FIRST_EXAMPLE.search(text)
    if not first:
        return text
    lines = text[first.start() :].splitlines()
    return text[: first.start()] + "\n".join(["Examples:", *(f"    {line}".rstrip() for line in lines)])
