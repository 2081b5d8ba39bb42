"""The command line: ``python -m comfyui_cascade``. It needs no ComfyUI."""
