"""A short stream through an engine and its pictures, for tests of whole pipelines."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import numpy as np
import pytest
from torch import Tensor

from pipelines import Entry, Frame, Mask, Output, Pixels, Settings, StreamPipeline

SIZE = 128
_RNG = np.random.default_rng(3)
PICTURES = [_RNG.integers(0, 256, (SIZE, SIZE, 3), dtype=np.uint8) for _ in range(6)]
"""Noise: all frames differ."""


def frames(count: int, still: bool = False) -> list[Frame]:
    """Frames 40 ms apart, all of one picture if `still`."""
    return [Frame(i, i / 25, PICTURES[0 if still else i % len(PICTURES)]) for i in range(count)]


def stream(
    pipeline: StreamPipeline,
    settings: Settings,
    source: Sequence[Frame],
    *,
    mask: Mask | None = None,
    picture: Pixels | None = None,
) -> list[Output]:
    """All answers with a picture of one session, including those of the drained end. All graphs are ready before the first
    frame."""
    pipeline.prepare(settings)
    state = pipeline.open(settings)
    state.set_mask(mask)
    state.set_picture(picture)
    answers = [pipeline.step([Entry(state, frame, settings)])[0] for frame in source]
    while state.in_flight:
        answers += pipeline.step([Entry(state, None, settings)])
    return [answer for answer in answers if answer.pixels is not None]


@contextmanager
def decoded(pipeline: StreamPipeline) -> Iterator[list[Tensor]]:
    """The latents [B, C, h, w] that are decoded inside the block. Pictures of a miniature autoencoder hide too many
    differences."""
    seen: list[Tensor] = []
    original = pipeline.graphs.run

    def run(part: str, inputs: tuple[Tensor, ...], branch: int | None = None, chunks: int = 1) -> tuple[Tensor, ...]:
        if part == "decode":
            seen.append(inputs[0])
        return original(part, inputs, branch, chunks)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pipeline.graphs, "run", run)
        yield seen


def pictures(answers: Sequence[Output]) -> dict[int, Pixels]:
    """Frame id → picture."""
    return {answer.frame_id: answer.pixels.numpy() for answer in answers if answer.pixels is not None}


def shown(answer: Output) -> Pixels:
    """The picture of an answer that has one."""
    assert answer.pixels is not None
    return answer.pixels.numpy()


def reference(answer: Output) -> Pixels:
    """The probe's picture of an answer that has one."""
    assert answer.reference is not None
    return answer.reference.numpy()


def close(a: Pixels, b: Pixels, tolerance: int = 1) -> bool:
    """Whether no value of the pictures differs by more than `tolerance` grey levels."""
    return int(np.abs(a.astype(int) - b).max()) <= tolerance


def alike(got: Sequence[Output], expected: Sequence[Output], tolerance: int = 1) -> bool:
    """Whether the answers have the same frames, with pictures that are close."""
    one, other = pictures(got), pictures(expected)
    return one.keys() == other.keys() and all(close(one[number], other[number], tolerance) for number in one)
