"""A pack for the tests' ComfyUI: ``POST /validate`` answers as ``POST /prompt`` does, and runs nothing.

comfy-test asks a route of this name before it runs a workflow, of a pack that is on GitHub only.
"""

import uuid

import execution
from aiohttp import web
from server import PromptServer

NODE_CLASS_MAPPINGS = {}


@PromptServer.instance.routes.post("/validate")
async def validate(request):
    """What ComfyUI has against a prompt; the status is 400 if it refuses it."""
    prompt = (await request.json())["prompt"]
    taken, error, _, node_errors = await execution.validate_prompt(str(uuid.uuid4()), prompt, None)
    return web.json_response({"error": error, "node_errors": node_errors}, status=200 if taken else 400)
