"""Fixtures every test may use: the package under its import name, and one real ComfyUI per run."""

import importlib.util
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent


def _import_from(folder, name):
    """Make a package importable by its path, whatever the environment has installed under its name."""
    spec = importlib.util.spec_from_file_location(
        name, folder / "__init__.py", submodule_search_locations=[str(folder)]
    )
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)


_import_from(ROOT, "comfyui_cascade")
_import_from(ROOT / "development", "development")


def pytest_addoption(parser):
    parser.addoption("--slow", action="store_true", help="run the tests marked slow as well")
    parser.addoption("--pictures", action="store_true", help="write the screenshots of docs/tutorial.md anew")


def pytest_collection_modifyitems(config, items):
    for item in items:
        if "server" in getattr(item, "fixturenames", ()):
            item.add_marker("server")
        if "browser" in getattr(item, "fixturenames", ()):
            item.add_marker("browser")
    # Playwright keeps an event loop in this thread to its end, in which no other test could run its own.
    items.sort(key=lambda item: item.get_closest_marker("browser") is not None)
    if not config.getoption("--slow"):
        slow = [item for item in items if item.get_closest_marker("slow")]
        items[:] = [item for item in items if item not in slow]
        config.hook.pytest_deselected(items=slow)


def pytest_runtest_setup(item):
    if item.get_closest_marker("gpu"):
        import torch

        if not torch.cuda.is_available():
            pytest.skip("needs a CUDA device, and torch sees none here")


@pytest.fixture(scope="session")
def server(tmp_path_factory):
    """A running ComfyUI with this checkout and a route for the tests. See tests/support/comfy_server.py."""
    from comfy_server import VALIDATES, ComfyServer

    running = ComfyServer(tmp_path_factory.mktemp("comfyui") / "base", beside=[VALIDATES])
    yield running
    running.stop()


@pytest.fixture(scope="session")
def comfy_nodes():
    """ComfyUI's ``nodes`` module, with ComfyUI importable in this process, on the CPU."""
    from comfy_host import comfy_library

    return comfy_library()


@pytest.fixture
def graph():
    """An empty prompt to add nodes to."""
    from comfy_graph import Graph

    return Graph()
