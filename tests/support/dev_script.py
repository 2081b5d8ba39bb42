"""dev.py as a module, though it is a script at the root and the root is not importable."""

import importlib.util
import sys
from types import ModuleType

from comfy_host import ROOT


def _load() -> ModuleType:
    spec = importlib.util.spec_from_file_location("cascade_dev", ROOT / "dev.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules["cascade_dev"] = module  # NamedTuple looks its module up
    spec.loader.exec_module(module)
    return module


dev = _load()
