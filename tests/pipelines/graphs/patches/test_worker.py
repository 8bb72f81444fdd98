"""One picture by two processes: half of it here, the other half in a worker on a second "device", the CPU too."""

import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks import clips
from pipelines import Entry, Frame, PatchWorkerError, Pixels, Settings, StreamPipeline, StreamSpec, load, quality
from pipelines.graphs.patches import runner

SIZE = 128
CLIP = clips.clip("handheld", SIZE, SIZE)
TWO = ("cpu", "cpu")
SETTINGS = Settings().patched({"strength": 0.4, "steps": 2, "stream_batch.enabled": False, "gate.enabled": False})


@pytest.fixture(scope="module")
def spec(mini_model: Path) -> StreamSpec:
    return StreamSpec(str(mini_model), SIZE, SIZE, "eager", "float32", "cpu")


@pytest.fixture(scope="module")
def halved(spec: StreamSpec) -> Iterator[StreamPipeline]:
    pipeline = load(replace(spec, patch_devices=TWO, patch_exchange="stale"), warm=False)
    yield pipeline
    pipeline.close()


def pictures(pipeline: StreamPipeline, frames: list[Pixels]) -> list[Pixels]:
    state, found = pipeline.open(SETTINGS), []
    for index, frame in enumerate(frames):
        (answer,) = pipeline.step([Entry(state, Frame(index, 0.04 * index, frame), SETTINGS)])
        assert answer.pixels is not None
        found.append(answer.pixels.numpy())
    return found


def test_a_moving_clip_over_two_processes_looks_as_from_one(spec: StreamSpec, halved: StreamPipeline) -> None:
    frames = [CLIP[index] for index in range(5)]
    expected, got = pictures(load(spec, warm=False), frames), pictures(halved, frames)
    assert quality.psnr(got[0], expected[0]) > 55  # nothing is kept yet, so the first frame is exact
    likeness = [quality.ssim(one, other) for one, other in zip(got, expected, strict=True)]
    assert min(likeness) >= 0.98
    assert any((one != other).any() for one, other in zip(got[1:], expected[1:], strict=True))  # activations were stale
    others = pictures(halved, [CLIP[80]])  # another session: nothing of the first one's is in it
    assert quality.psnr(others[0], pictures(load(spec, warm=False), [CLIP[80]])[0]) > 55


def test_rows_of_many_streams_are_kept_no_longer_than_there_is_room(
    halved: StreamPipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runner, "SLOTS", 2)
    first = halved.open(SETTINGS)
    for index in range(2):
        halved.step([Entry(first, Frame(index, 0.0, CLIP[0]), SETTINGS)])
    pictures(halved, [CLIP[1]])
    patches = halved.graphs.patches
    assert patches is not None and len(patches._recent) == 2 and first.number not in {slot[0] for slot in patches._recent}
    halved.step([Entry(first, Frame(2, 0.0, CLIP[2]), SETTINGS)])  # it goes on, synchronous again


def test_a_worker_that_ends_is_an_error_at_once(halved: StreamPipeline) -> None:
    state, patches = halved.open(SETTINGS), halved.graphs.patches
    halved.step([Entry(state, Frame(0, 0.0, CLIP[0]), SETTINGS)])
    assert patches is not None and patches.process is not None
    patches.process.kill()
    began = time.monotonic()
    for index in (1, 2):  # and it stays one
        with pytest.raises(PatchWorkerError, match=r"worker of cpu is gone .*start again"):
            halved.step([Entry(state, Frame(index, 0.0, CLIP[0]), SETTINGS)])
    assert time.monotonic() - began < runner.EXCHANGE_S / 2  # by its end, not by a limit
