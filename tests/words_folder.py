"""A small table of free words in a model's folder, as `python -m training words build` writes one."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

ALIASES = {"ink wash": ["van gogh", "梵高"], "blue swirl": ["anime"], "night": ["after dark"]}
LOOKS = {
    "looks": [{"name": "photo", "title": "Photo", "prompt": "photo", "group": "photographic"}],
    "modifiers": [{"name": "night", "title": "Night", "prompt": "night", "group": "light"}],
}


def tensors() -> dict[str, torch.Tensor]:
    return {
        "vectors": torch.tensor([[99, 0], [0, 99]], dtype=torch.int8),
        "weights": torch.ones(2).half(),
        "anchors": torch.tensor([[99, 0], [0, 99]], dtype=torch.int8),
        "owners": torch.tensor([0, 1], dtype=torch.int16),
    }


def table(**changes: Any) -> dict[str, Any]:
    lists: dict[str, Any] = {
        "own": {},
        "aliases": ALIASES,
        "general": [],
        "glue": ["a"],
        "subjects": ["cat"],
        "things": ["fox"],
        "fillers": ["make"],
    }
    lists |= {"parts": [], "vocabulary": ["lamp", "coal"], "prompts": ["photo", "night"]}
    return lists | changes


def add_words(folder: Path, listed: dict[str, Any] | None = None, weights: dict[str, torch.Tensor] | None = None) -> None:
    """The folder has the looks "ink wash" and "blue swirl" (a painter's), "photo" and the light "night"."""
    (folder / "words").mkdir()
    (folder / "looks.json").write_text(json.dumps(LOOKS), encoding="utf-8")
    (folder / "words" / "words.json").write_text(json.dumps(listed or table()), encoding="utf-8")
    save_file(weights or tensors(), folder / "words" / "model.safetensors")
