"""The pictures that README.md and the template browser show."""

import json

from comfy_host import ROOT
from PIL import Image

from development.pictures import PROMPTS, with_prompt
from development.thumbnail import thumbnail
from development.workflow import find_node


def test_readme_shows_every_prompt_in_order():
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    shown = [
        f'<img src="docs/prompts/{n}.png" width="200" alt="{text}">' for n, text in enumerate(PROMPTS, 1)
    ]
    places = [readme.find(text) for text in shown]
    assert places == sorted(places)
    assert -1 not in places


def test_another_prompt_leaves_the_workflow_as_it_is():
    text = (ROOT / "workflows" / "text_to_image.json").read_text(encoding="utf-8")
    workflow = json.loads(text)
    changed = with_prompt(workflow, "a blue whale", 12345)
    assert find_node(changed, title="Prompt")["widgets_values"] == ["a blue whale"]
    assert 12345 in find_node(changed, type="CascadeSampler")["widgets_values"]
    assert workflow == json.loads(text)


def test_thumbnails_are_equally_wide_and_show_pictures_in_order():
    red, blue = (Image.new("RGB", (256, 256), colour) for colour in ("red", "blue"))
    assert thumbnail([red]).size == (512, 512)
    pair = thumbnail([red, blue])
    assert pair.size == (512, 256)
    assert pair.getpixel((255, 128)) == (255, 0, 0)
    assert pair.getpixel((256, 128)) == (0, 0, 255)
    assert thumbnail([red, Image.new("RGB", (512, 256))]).size == (512, 171)
