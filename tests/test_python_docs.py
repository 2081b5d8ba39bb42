"""The example of docs/python.md runs as it stands."""

import re
import runpy
from pathlib import Path

from PIL import Image

PAGE = Path(__file__).resolve().parent.parent / "docs" / "python.md"


def example():
    (code,) = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), flags=re.DOTALL)
    return code


def test_example_draws_what_it_says(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "example.py").write_text(example(), encoding="utf-8")
    runpy.run_path("example.py")
    assert Image.open("boat.png").size == (256, 256)
    assert Image.open("cat.png").size == (256, 256)
    assert Image.open("yellow.png").size == (256, 256)
    assert Image.open("preview.png").size == (96, 96)
    assert capsys.readouterr().out.splitlines() == [
        "torch.Size([1, 16, 12, 12]) torch.Size([1, 4, 64, 64])",
        "('zeppelin',)",
    ]
