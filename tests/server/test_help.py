"""Help pages as ComfyUI's page asks a running server for them."""

import io
import urllib.parse

from help_pages import help_pages
from PIL import Image

PAGE = next(page for page in help_pages() if page.node == "CascadeSampler" and page.language == "en")


def address(server, path):
    """Where ComfyUI's page looks for what belongs to the node's help."""
    place = server.object_info()["CascadeSampler"]["python_module"].removeprefix("custom_nodes.")
    return f"/extensions/{urllib.parse.quote(place)}/docs/{path}"


def test_help_page_is_served_where_the_page_asks_for_it(server):
    assert server.served(address(server, "CascadeSampler.md")).decode("utf-8") == PAGE.text


def test_picture_of_a_help_page_is_served_beside_it(server):
    _, path = PAGE.pictures[-1]
    picture = server.served(address(server, path))
    assert Image.open(io.BytesIO(picture)).format == "WEBP"


def test_every_language_of_a_page_is_served(server):
    others = [page for page in help_pages() if page.node == "CascadeSampler" and page.language != "en"]
    for page in others:
        served = server.served(address(server, f"CascadeSampler/{page.language}.md"))
        assert served.decode("utf-8") == page.text
