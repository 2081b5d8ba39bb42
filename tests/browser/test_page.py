"""The page with the pack in it, before anything is done."""


def test_page_opens_with_a_clean_console(editor):
    title = editor.evaluate("() => LiteGraph.registered_node_types['CascadeSampler'].title")
    assert title == "Sample Stage C and B (Cascade)"
