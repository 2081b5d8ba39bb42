"""What the syntax level of comfy-test asks of Python files, without the program. See comfy-test.toml."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
FILES = [
    path
    for path in sorted(ROOT.rglob("*.py"))
    if not any(part.startswith(".") or part in ("build", "dist") for part in path.relative_to(ROOT).parts)
]
REFUSED = {
    "a layer named by its module": r"(?<![\w.])(torch\.)?nn\.(Linear|Conv[123]d|ConvTranspose[12]d|LayerNorm"
    r"|GroupNorm|Embedding)\s*\(",
    "autocast": r"torch\.(cuda\.)?(amp\.)?autocast\s*\(",
    "a device by name": r"\.cuda\s*\(|\.to\s*\(\s*[\"']cuda",
}


def test_python_files_hold_no_sign_that_windows_cannot_print():
    signs = {
        f"{path.relative_to(ROOT)}: {sign!a}"
        for path in FILES
        for sign in set(path.read_text(encoding="utf-8"))
        if not sign.encode("cp1252", "ignore")
    }
    assert not signs


@pytest.mark.parametrize("what", REFUSED)
def test_python_files_have_nothing_that_comfy_test_refuses(what):
    found = [
        f"{path.relative_to(ROOT)}:{number}"
        for path in FILES
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1)
        if re.search(REFUSED[what], line) and not line.lstrip().startswith("#")
    ]
    assert not found
