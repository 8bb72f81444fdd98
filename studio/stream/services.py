"""What the streams of one server share."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Executor
from dataclasses import dataclass

from pipelines import StreamSpec
from studio.model.fleet import Fleet
from studio.stream.metrics import Metrics
from studio.wire.limits import Limits


@dataclass(frozen=True, slots=True)
class StreamServices:
    """fleet: the models. pool: decodes and encodes pictures. clock: seconds. spec: the pictures' size at present."""

    fleet: Fleet
    pool: Executor
    limits: Limits
    metrics: Metrics
    clock: Callable[[], float]
    spec: Callable[[], StreamSpec]
