"""What goes out of a socket when there is nothing for it."""

from __future__ import annotations

from typing import Any, NoReturn


class Missing:
    """Stands for a part that is not there, and says so wherever it is used.

    None would do as well, but what nodes say about None names neither the file nor what to do.
    """

    def __init__(self, sentence: str):
        self._sentence = sentence

    def __getattr__(self, name: str) -> NoReturn:
        # An AttributeError, so that asking whether there is such an attribute is answered with no.
        raise AttributeError(self._sentence)

    def __deepcopy__(self, memory: dict[int, Any]) -> Missing:
        return self
