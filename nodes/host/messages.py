"""Things worth saying to the person at the graph that do not stop a run."""

from __future__ import annotations

import logging

from comfy_execution.utils import get_executing_context
from server import PromptServer


def say(text: str) -> None:
    """Write a message to the log and, where a node is running on a server, onto that node."""
    logging.getLogger(__name__).warning("%s", text)
    running = get_executing_context()
    server = getattr(PromptServer, "instance", None)
    if running is not None and server is not None:
        server.send_progress_text(text, running.node_id)
