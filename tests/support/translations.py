"""What may stay English in a translated text, and by which names it has to speak of nodes."""

import itertools
import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent

HOST_NODES = json.loads((ROOT / "tests" / "data" / "host_nodes.json").read_text(encoding="utf-8"))
"""ComfyUI's own nodes: by id, what our English texts call each, and what its page does in each language."""

STAGE = re.compile(r"Stage [ABC]")
# Paths, names with an underscore or a capital inside, and words all in capitals: models/vae, LoRA, MODEL.
NAME = re.compile(
    r"[A-Za-z]\w*(?:[/_]\w+)+|\b[A-Za-z]+[A-Z]\w*|\b(?:safetensors|diffusers|kohya|config\.json)\b"
)
_NO_WORDS = re.compile(
    r'`[^`]*`|"[^"]*"|\]\([^)]*\)'  # code, messages of the program, paths of pictures
    r"|pip install insightface onnxruntime|Stable Cascade"
    rf"|{STAGE.pattern}|{NAME.pattern}"
)
_WORD = re.compile(r"\b[A-Za-z]{2,}\b")
# "(prompt)" in Japanese and in Korean; spelled in code points, as a Windows console cannot print the letters
_ASIDE = re.compile(
    r"\s*[(\uff08](?:Prompt|\u30d7\u30ed\u30f3\u30d7\u30c8|\ud504\ub86c\ud504\ud2b8)[)\uff09]$"
)
_PACK = " (Cascade)"


def left_in_english(english: str, translated: str, language: str) -> set[tuple[str, ...]]:
    """Two words in a row that both texts have and that are no name."""
    for names in HOST_NODES.values():
        english = english.replace(names["en"], ".")
        translated = translated.replace(_host_name(names, language), ".")
    return set(_pairs(english)) & set(_pairs(translated))


def misnamed(english: str, translated: str, language: str, ours: Mapping[str, str]) -> list[tuple[str, str]]:
    """Nodes that the English text speaks of and the translated one does not, with their right names.

    ``ours`` has the translated display name of each node of the pack by its English one.
    """
    names = {names["en"]: _host_name(names, language) for names in HOST_NODES.values()}
    # Without the pack's name, those of one word are common words: noise, scheduler.
    short = {a.removesuffix(_PACK): b.removesuffix(_PACK) for a, b in ours.items()}
    names |= {a: b for a, b in short.items() if " " in a}
    names |= ours
    wrong = []
    for name in sorted(names, key=len, reverse=True):  # Load Image Encoder before Load Image
        found = re.compile(rf"(?<!\w){re.escape(name)}s?(?!\w)")
        if found.search(english) and names[name] not in translated:
            wrong.append((name, names[name]))
        english = found.sub(".", english)
    return wrong


def _host_name(names: Mapping[str, str], language: str) -> str:
    # The page has no German, and German texts say it in English.
    return _ASIDE.sub("", names.get(language, names["en"]))


def _pairs(text: str) -> Iterator[tuple[str, ...]]:
    for phrase in re.split(r"[^\w\s']", _NO_WORDS.sub(".", text)):
        words = _WORD.findall(phrase)
        yield from itertools.pairwise(words)
