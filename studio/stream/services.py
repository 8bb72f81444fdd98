"""What the streams of one server share."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Executor
from dataclasses import dataclass
from typing import Any, Protocol

from pipelines import Pixels, StreamSpec
from studio.model.fleet import Fleet
from studio.stream.metrics import Metrics
from studio.wire.limits import Limits


class GateLike(Protocol):
    """One session's gate, as pipelines/techniques/gate.py has it: ask(pixels, gate settings, settings version) has `skip` and
    `scores`."""

    def ask(self, pixels: Pixels | None, settings: Any, settings_version: int) -> Any: ...

    def forget(self) -> None: ...


@dataclass(frozen=True, slots=True)
class Works:
    """What streams work with. `clock` in seconds; `spec` is what the pictures must fit."""

    fleet: Fleet
    pool: Executor
    limits: Limits
    metrics: Metrics
    clock: Callable[[], float]
    spec: Callable[[], StreamSpec]
