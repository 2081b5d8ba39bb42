"""The documentation site, built by MkDocs as development/site says."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

from .environment import ROOT, venv_program
from .progress import Problem

SITE = ROOT / ".site"
SETTINGS = ROOT / "development" / "site" / "mkdocs.yml"


def build(site: Path = SITE) -> None:
    """Write the whole site to a folder.

    Raises:
        Problem: a link leads nowhere, or MkDocs failed; what it said is part of it.
    """
    # Without --quiet, under which warnings are not counted.
    files = ["--config-file", SETTINGS, "--site-dir", site]
    command = [venv_program("mkdocs"), "build", "--strict", *files]
    # Material's notice about another program's next version would stand among the broken links.
    done = subprocess.run(
        command, capture_output=True, text=True, env={**os.environ, "NO_MKDOCS_2_WARNING": "1"}
    )
    if done.returncode:
        said = [line for line in (done.stdout + done.stderr).splitlines() if not line.startswith("INFO")]
        raise Problem("The site was not built. MkDocs says:\n" + "\n".join(said))
