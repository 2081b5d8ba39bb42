"""One Chromium for all tests here, one fresh profile per test, and a look at the console after each.

A test takes ``editor``, which is ComfyUI's page, loaded: see tests/support/comfy_page.py. The server is the
one that all other tests use. Screenshots land in .screenshots/, one of each test's end among them.
"""

import json
import shutil

import pytest
from comfy_host import ROOT
from comfy_page import ComfyPage

from development import chromium

SCREENSHOTS = ROOT / ".screenshots"
STEP_SECONDS = 120
"""Within which the page has to do what it is asked; an idle machine takes far less than one."""

SIZE = {"width": 1440, "height": 900}
SETTINGS = {
    "Comfy.TutorialCompleted": True,  # or a dialog covers the canvas
    "Comfy.Locale": "en",
    "Comfy.Execution.PreviewMethod": "auto",
    "Comfy.Minimap.Visible": False,
    "Comfy.Validation.Workflows": True,
}


@pytest.fixture(scope="session")
def browser():
    """A running Chromium; without one the test is skipped."""
    path = chromium.find()
    if path is None:
        pytest.skip("there is no Chromium: apt install chromium, or .venv/bin/playwright install chromium")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        running = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield running
        running.close()


@pytest.fixture(scope="session")
def screenshots():
    """The folder that screenshots are kept in, emptied once per run."""
    shutil.rmtree(SCREENSHOTS, ignore_errors=True)
    SCREENSHOTS.mkdir()
    return SCREENSHOTS


@pytest.fixture
def settings():
    """What the person has set before the page is opened; a module may override it."""
    return {}


@pytest.fixture(scope="session")
def new_context(browser, server):
    """``new_context(**settings)`` is a browser profile that has never seen ComfyUI."""
    file = server.base / "user" / "default" / "comfy.settings.json"

    def new(**settings):
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps({**SETTINGS, **settings}))
        context = browser.new_context(viewport=SIZE, locale="en-US")
        context.set_default_timeout(STEP_SECONDS * 1000)
        return context

    return new


@pytest.fixture
def context(new_context, settings):
    """A profile for one test."""
    fresh = new_context(**settings)
    yield fresh
    fresh.close()


@pytest.fixture
def editor(context, server, screenshots, request):
    """ComfyUI's page with nothing wrong in its console, then or when the test ends."""
    page = ComfyPage(context.new_page(), server.url, screenshots)
    page.open()
    yield page
    page.shot(request.node.name)
    assert page.complaints() == []
