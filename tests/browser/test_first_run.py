"""What a person does in the first five minutes, with the templates that ship."""

import io

import numpy as np
from PIL import Image

DROP = """async file => {
    const answer = await fetch('/api/view?' + new URLSearchParams(file));
    const carried = new DataTransfer();
    carried.items.add(new File([await answer.blob()], file.filename, {type: 'image/png'}));
    const canvas = document.querySelector('#graph-canvas');
    for (const kind of ['dragover', 'drop'])
        canvas.dispatchEvent(new DragEvent(kind, {
            bubbles: true, cancelable: true, dataTransfer: carried, clientX: 700, clientY: 500,
        }));
}"""
PROMPT = "a blue house on the snow by day"


def pixels(editor, file):
    """A picture that a run has saved."""
    query = "&".join(f"{key}={value}" for key, value in file.items())
    body = editor.page.request.get(f"{editor.url}/api/view?{query}").body()
    return np.asarray(Image.open(io.BytesIO(body)).convert("RGB"))


def test_template_draws_a_typed_prompt_with_a_preview_and_the_png_brings_it_all_back(editor, server):
    editor.command("Comfy.BrowseTemplates")
    editor.page.get_by_role("button", name="ComfyUI-Cascade").first.click()
    editor.page.get_by_test_id("template-workflow-text_to_image").first.wait_for()
    editor.shot("templates")
    editor.page.get_by_test_id("template-workflow-text_to_image").first.click()
    editor.page.wait_for_function("() => app.rootGraph.nodes.some(node => node.type === 'CascadeSampler')")

    prompt = editor.node("CLIPTextEncode", "Prompt")
    editor.look_at(prompt)
    editor.type_text(prompt, PROMPT)
    graph = editor.prompt()
    assert graph[str(prompt)]["inputs"]["text"] == PROMPT

    editor.look_at(editor.node("CascadeSampler"))
    editor.run()
    editor.wait_for("b_preview")
    editor.shot("preview")
    (file,) = editor.finish()
    drawn = pixels(editor, file)
    assert drawn.shape == (256, 256, 3)
    assert drawn.std() > 12  # neither black nor flat

    editor.command("Comfy.NewBlankWorkflow")
    editor.page.wait_for_function("() => app.rootGraph.nodes.length === 0")
    editor.evaluate(DROP, file)
    editor.page.wait_for_function("() => app.rootGraph.nodes.some(node => node.type === 'CascadeSampler')")
    assert editor.prompt() == graph
    server.free()  # or the server would answer from memory
    editor.run()
    (again,) = editor.finish()
    assert again["filename"] != file["filename"]
    assert np.array_equal(pixels(editor, again), drawn)


def test_each_of_two_tabs_gets_its_own_picture(context, server, editor, screenshots):
    from comfy_page import ComfyPage

    other = ComfyPage(context.new_page(), server.url, screenshots)
    other.open()
    tabs = {"a red heart on the sand": editor, "a yellow star over the sea at night": other}
    for text, tab in tabs.items():
        tab.page.bring_to_front()
        tab.load("text_to_image")
        prompt = tab.node("CLIPTextEncode", "Prompt")
        tab.look_at(prompt)
        tab.type_text(prompt, text)
        tab.run()
    for text, tab in tabs.items():
        tab.page.bring_to_front()
        (file,) = tab.finish()
        body = tab.page.request.get(f"{tab.url}/api/view?" + "&".join(f"{k}={v}" for k, v in file.items()))
        assert text in Image.open(io.BytesIO(body.body())).text["prompt"]
    assert other.complaints() == []
