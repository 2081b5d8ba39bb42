"""Things worth saying to the person at the graph that do not stop a run."""

from __future__ import annotations

import logging

from comfy_execution.utils import get_executing_context
from server import PromptServer


def say(text: str) -> None:
    """Write a message to the log and onto the node that is running."""
    logging.getLogger(__name__).warning("%s", text)
    put_on_node(text)


def put_on_node(text: str) -> None:
    """Write a text onto the node that is running, where one is, on a server."""
    running = get_executing_context()
    server = getattr(PromptServer, "instance", None)
    if running is not None and server is not None:
        server.send_progress_text(text, running.node_id)
