"""What is known of one picture or clip to train or judge with."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

Kind = Literal["photographs", "people", "paintings", "clips"]


@dataclass(frozen=True)
class Source:
    """One picture or clip: where it is from, under which licence, and which split it belongs to."""

    name: str
    kind: Kind
    package: str
    version: str
    file: str
    licence: str
    author: str
    note: str = ""
    sha256: str = ""
    path: str = ""
    held_out: bool = False


Content = Callable[[], tuple[str, bytes]]
"""Gives (extension, content) of a file."""

Found = tuple[Source, Content]
