"""``python -m comfyui_cascade``, or ``python`` and the folder's path where the pack is not installed."""

import sys

if __package__:
    from .cli.main import main
else:
    from importlib import import_module
    from importlib.util import module_from_spec, spec_from_file_location
    from pathlib import Path

    root = Path(__file__).resolve().parent
    # Python puts the folder on the path, where our packages would hide others of the same name.
    sys.path[:] = [place for place in sys.path if Path(place).resolve() != root]
    spec = spec_from_file_location(
        "comfyui_cascade", root / "__init__.py", submodule_search_locations=[str(root)]
    )
    sys.modules["comfyui_cascade"] = module_from_spec(spec)
    spec.loader.exec_module(sys.modules["comfyui_cascade"])
    main = import_module("comfyui_cascade.cli.main").main

if __name__ == "__main__":
    sys.exit(main())
