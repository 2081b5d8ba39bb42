"""The pictures that README.md and the template browser show."""

import json

from comfy_host import ROOT
from PIL import Image

from development.cards import main
from development.pictures import NOT_RUN, PROMPTS, with_prompt
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


def test_thumbnails_are_equally_wide_and_show_pictures_on_a_grid():
    red, blue = (Image.new("RGB", (256, 256), colour) for colour in ("red", "blue"))
    assert thumbnail([red]).size == (512, 512)
    assert thumbnail([Image.new("RGB", (320, 192))]).size == (512, 307)
    four = thumbnail([red, blue, blue, red])
    assert four.size == (512, 512)
    corners = [four.getpixel(place) for place in ((9, 9), (500, 9), (9, 500), (500, 500))]
    assert corners == [(255, 0, 0), (0, 0, 255), (0, 0, 255), (255, 0, 0)]


def test_thumbnail_shows_what_a_workflow_begins_from_where_it_hides_the_least():
    drawn = Image.effect_noise((256, 256), 80).convert("RGB")
    drawn.paste("blue", (128, 128, 256, 256))
    small = thumbnail([drawn], Image.new("RGB", (64, 64), "red"))
    assert small.getpixel((430, 430)) == (255, 0, 0)
    assert small.getpixel((270, 270)) == (0, 0, 255)


def test_workflows_that_cannot_run_have_a_card_of_the_same_size(tmp_path):
    main(tmp_path)
    assert {path.stem for path in tmp_path.iterdir()} == set(NOT_RUN)
    assert {Image.open(path).size for path in tmp_path.iterdir()} == {(512, 512)}
