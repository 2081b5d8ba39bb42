"""Stable Cascade for ComfyUI: text to image in three stages, and every step of it open to the graph."""

__version__ = "0.1.0"

WEB_DIRECTORY = "./web"
"""What ComfyUI serves under /extensions/<folder>: help pages in docs, the script beside them."""

_HOST_NEEDED = (
    "ComfyUI-Cascade needs ComfyUI 0.30.0 or newer, and this one has no %s: update ComfyUI and restart it."
)


async def comfy_entrypoint() -> object:
    """The extension ComfyUI loads. Its imports are in here, so that importing this file costs nothing."""
    import logging

    try:
        from .nodes import CascadeExtension
    except ImportError as error:
        if (error.name or "").partition(".")[0] == "comfy_api":
            logging.error(_HOST_NEEDED, error.name)
        else:
            logging.exception("ComfyUI-Cascade could not be imported")
        raise
    except Exception:
        logging.exception("ComfyUI-Cascade could not be imported")
        raise
    return CascadeExtension()


def __getattr__(name: str) -> dict:
    # A ComfyUI older than comfy_entrypoint asks for NODE_CLASS_MAPPINGS. It gets one clear line and no nodes.
    import logging
    from importlib.util import find_spec

    if name != "NODE_CLASS_MAPPINGS" or find_spec("comfy_api") is not None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    logging.error(_HOST_NEEDED, "comfy_api")
    return {}
