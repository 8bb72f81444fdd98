"""An answer of the server, with its picture decoded."""

from __future__ import annotations

from dataclasses import dataclass

from pipelines import Pixels
from studio.wire.protocol import Answer


@dataclass(frozen=True, slots=True)
class DecodedAnswer:
    """One answer: pixels is None where the last picture is to be shown again; latency_ms is from capture to decoded."""

    answer: Answer
    pixels: Pixels | None
    latency_ms: float
