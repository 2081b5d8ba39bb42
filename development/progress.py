"""What the person who waits is told."""

from __future__ import annotations

import time


class Problem(Exception):
    """What went wrong in one sentence: what was given, what was expected, what to do."""


class Steps:
    """Prints numbered steps with the seconds since the start."""

    def __init__(self) -> None:
        self.started = time.monotonic()
        self.count = 0

    def __call__(self, text: str) -> None:
        self.count += 1
        self.say(f"[{self.count}] {text}")

    def say(self, text: str) -> None:
        """Print a line that is no step of its own."""
        print(f"{time.monotonic() - self.started:5.0f} s  {text}", flush=True)
