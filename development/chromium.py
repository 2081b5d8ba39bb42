"""The browser of the tests in tests/browser: one that is here already, or Debian's."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

from .progress import Steps

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
"""What systems call it; the first that is on the path is taken."""

INSTALL_SECONDS = 300


def find() -> str | None:
    """The path of a Chromium on this machine, one that Playwright has downloaded included."""
    on_path = next(filter(None, map(shutil.which, NAMES)), None)
    return on_path or _of_playwright()


def _of_playwright() -> str | None:
    folder = os.environ.get("PLAYWRIGHT_BROWSERS_PATH") or Path.home() / ".cache" / "ms-playwright"
    found = sorted(Path(folder).glob("chromium-*/chrome-linux*/chrome"))
    return str(found[-1]) if found else None


def ensure(step: Steps) -> None:
    """Install Debian's Chromium where there is none, if that takes no password; tests skip without one."""
    if find() or not _may_install():
        return
    step("Install Chromium from Debian for the tests in a browser")
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    for arguments in (["update"], ["install", "--yes", "--no-install-recommends", "chromium"]):
        try:
            done = subprocess.run(
                ["apt-get", "-qq", *arguments],
                env=environment,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                timeout=INSTALL_SECONDS,
            )
        except subprocess.TimeoutExpired:
            step.say(f"    apt-get did not answer in {INSTALL_SECONDS} s: the tests in a browser will skip")
            return
        if done.returncode:
            said = (done.stderr.strip().splitlines() or ["no message"])[-1]
            step.say(f"    apt-get could not ({said}): the tests in a browser will skip")
            return


def _may_install() -> bool:
    return sys.platform == "linux" and os.geteuid() == 0 and shutil.which("apt-get") is not None
