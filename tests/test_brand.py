"""The icon and the banner of the registry's page are of the sizes that it takes."""

import sys
from pathlib import Path

from PIL import Image

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).resolve().parent.parent


def picture(name):
    """What pyproject.toml's address of it leads to, in this checkout."""
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())
    address, repository = settings["tool"]["comfy"][name], settings["project"]["urls"]["Repository"]
    raw = repository.replace("https://github.com", "https://raw.githubusercontent.com") + "/main/"
    assert address.startswith(raw)
    return Image.open(ROOT / address.removeprefix(raw))


def test_icon_is_a_square_of_at_most_400_pixels():
    width, height = picture("Icon").size
    assert width == height <= 400


def test_banner_is_21_to_9():
    width, height = picture("Banner").size
    assert width * 9 == height * 21
