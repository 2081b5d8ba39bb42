"""Scales of LoRAs that PEFT and diffusers keep outside of the tensors.

PEFT writes ``adapter_config.json`` beside a file, diffusers the same entries as ``lora_adapter_metadata``
into it. A change is scaled by ``lora_alpha / r``, with ``use_rslora`` by ``lora_alpha / sqrt(r)``; without
either, by one.

Source: PEFT ``tuners/lora/config.py``, diffusers ``loaders/lora_base.py``.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

LARGEST = 1_000_000
"""Bytes of a configuration."""


@dataclass(frozen=True)
class Scales:
    """What a configuration says of scales.

    Attributes:
        config: its entries; empty where there is none.
    """

    config: Mapping[str, Any] = field(default_factory=dict)

    def alpha_of(self, flat: str) -> float | None:
        """What to divide by the rank for the scale of a module, named with underscores; None if not said."""
        named = "lora_alpha" if "lora_alpha" in self.config else "alpha"  # the second for LyCORIS kinds
        alpha, rank = self._entry(flat, named, "alpha_pattern"), self._entry(flat, "r", "rank_pattern")
        if not isinstance(alpha, int | float) or not isinstance(rank, int) or rank < 1:
            return None
        return alpha * (rank**0.5 if self.config.get("use_rslora") else 1.0)

    def _entry(self, flat: str, usual: str, pattern: str) -> Any:
        table = self.config.get(pattern)
        for module, value in table.items() if isinstance(table, dict) else ():
            if re.search(rf"(^|_){re.escape(module.replace('.', '_'))}$", flat):
                return value
        return self.config.get(usual)


def read_scales(path: Path, metadata: Mapping[str, str]) -> Scales:
    """What is said about the scales of a file, in it or beside it."""
    config = _read(metadata.get("lora_adapter_metadata", ""))
    # diffusers puts the name of the network before each entry
    config = {key.rpartition(".")[2]: value for key, value in config.items()}
    beside = path.with_name("adapter_config.json")
    if not config and path.name.startswith("adapter_model") and beside.is_file():
        config = _read(beside.read_text(encoding="utf-8", errors="replace")[:LARGEST])
    return Scales(config)


def _read(text: str) -> dict[str, Any]:
    try:
        found = json.loads(text) if text else {}
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}
