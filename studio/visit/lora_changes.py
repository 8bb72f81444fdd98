"""LoRAs of the pipelines that run, changed in place instead of building new pipelines."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from pipelines import StreamSpec
from studio.model.fleet import Fleet, OnSwapped

if TYPE_CHECKING:
    from pipelines import StreamPipeline


def planned(pipelines: Sequence[StreamPipeline], specs: Sequence[StreamSpec]) -> list[Any] | None:
    """`StreamPipeline.lora_change` of each; None if one of them has to be built anew. Opens files, downloads none. Raises
    ModelError."""
    if len(pipelines) != len(specs):
        return None  # not all are loaded
    changes = [pipeline.lora_change(spec, offline=True) for pipeline, spec in zip(pipelines, specs, strict=True)]
    return None if None in changes else changes


async def alter(fleet: Fleet, changes: Sequence[Any], on_altered: OnSwapped) -> None:
    """Make the planned changes in all pipelines, or in none. Raises what one of them raises."""
    backs: list[Any] = [None] * len(changes)

    def making(index: int) -> Callable[[StreamPipeline], None]:
        def make(pipeline: StreamPipeline) -> None:
            backs[index] = pipeline.change_loras(changes[index])

        return make

    failure = await _ended(fleet.alter([making(index) for index in range(len(changes))], on_altered))
    if failure is None:
        return
    if any(back is not None for back in backs):
        await _ended(fleet.alter([_back(back) for back in backs], on_altered))
    raise failure


def _back(change: Any) -> Callable[[StreamPipeline], object]:
    return lambda pipeline: None if change is None else pipeline.change_loras(change)


async def _ended(futures: Sequence[Any]) -> BaseException | None:
    """The first error, once all have ended."""
    results = await asyncio.gather(*map(asyncio.wrap_future, futures), return_exceptions=True)
    return next((result for result in results if isinstance(result, BaseException)), None)
