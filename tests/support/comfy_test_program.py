"""comfy-test with a browser of our choice: ``python -P comfy_test_program.py CHROMIUM WORD ...``.

It has Playwright start the Chromium that Playwright has downloaded, and has no option for another. And it
opens a workflow as soon as the page has a graph; on a busy machine the page then opens over it what it showed
before.
"""

import sys

from comfy_test.cli import main
from playwright.sync_api import BrowserType, Page


def start_this_browser(path):
    """Have Playwright start the Chromium at a path, as root as well."""
    launch = BrowserType.launch

    def launch_this(self, *, args=(), **options):
        return launch(self, executable_path=path, args=[*args, "--no-sandbox"], **options)

    BrowserType.launch = launch_this


def wait_until_the_page_is_ready():
    """Have Playwright wait for the page's own work to end, whatever else it waits for."""
    wait = Page.wait_for_function

    def wait_longer(self, *args, **options):
        found = wait(self, *args, **options)
        self.locator("#splash-loader").wait_for(state="detached")
        return found

    Page.wait_for_function = wait_longer


if __name__ == "__main__":
    start_this_browser(sys.argv[1])
    wait_until_the_page_is_ready()
    sys.exit(main(sys.argv[2:]))
