"""Temporal consistency in the engine, in every mode: the pictures are those without it, mixed by the equation afterwards."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from benchmarks import clips
from pipelines import Entry, Frame, Output, Pixels, Settings, StreamPipeline, StreamSpec, load
from pipelines.engine.state import StreamState
from pipelines.techniques import consistency, motion
from tests.pipelines.engine.test_painted import LOOKS, add_painter
from tests.streams import close, decoded, pictures, reference, shown, stream

SIZE, COUNT = 128, 6
CLIP = clips.clip("handheld", SIZE, SIZE)
MOVING = [CLIP[index] for index in range(COUNT)]
ON = {"consistency.enabled": True, "consistency.amount": 0.6}
MODES: list[dict[str, Any]] = [
    {},
    {"steps": 3},
    {"steps": 3, "stream_batch.enabled": False},
    {"cache.enabled": True, "cache.interval": 3},
    {"guidance_mode": "full", "guidance": 2.0, "steps": 2},
    {"strength_map.mode": "motion"},
    {"noise.warm_start": 0.4},
]


@pytest.fixture(scope="module")
def pipeline(mini_model: Path) -> StreamPipeline:
    made = load(StreamSpec(str(mini_model), SIZE, SIZE, "eager", "float32"))
    for patch in MODES:
        made.prepare(Settings().patched(patch), 2)
    return made


def frames(source: Sequence[Pixels | None], first: int = 0) -> list[Frame]:
    return [Frame(first + place, place / 25, pixels) for place, pixels in enumerate(source)]


def both(pipeline: StreamPipeline, patch: dict[str, Any], source: Sequence[Pixels | None]) -> list[dict[int, Pixels]]:
    """Pictures of a stream without it and with it."""
    return [pictures(stream(pipeline, Settings().patched(each), frames(source))) for each in (patch, patch | ON)]


def mixed(made: dict[int, Pixels], source: Sequence[Pixels], amount: float = 0.6) -> dict[int, Pixels]:
    """What the equation makes of a stream's pictures."""
    found: dict[int, Pixels] = {}
    before: int | None = None
    for place in sorted(made):
        found[place] = made[place]
        if before is not None:
            moved = motion.follow(motion.small(source[before]), motion.small(source[place]))
            last, new = torch.from_numpy(found[before]), torch.from_numpy(made[place])
            found[place] = consistency.fed_back(new, last, moved, amount).numpy()
        before = place
    return found


def same(one: dict[int, Pixels], other: dict[int, Pixels]) -> bool:
    return one.keys() == other.keys() and all(close(one[number], other[number], 0) for number in one)


@pytest.mark.parametrize("patch", MODES, ids=lambda patch: " ".join(map(str, patch)) or "plain")
def test_pictures_of_every_mode_are_mixed_with_the_last_one_moved(pipeline: StreamPipeline, patch: dict[str, Any]) -> None:
    off, on = both(pipeline, patch, MOVING)
    assert len(off) == COUNT and same(on, mixed(off, MOVING))
    assert not any(close(on[number], off[number]) for number in range(1, COUNT)) and close(on[0], off[0], 0)


def test_painted_pictures_are_mixed_after_the_painter(mini_model: Path, tmp_path: Path) -> None:
    folder = tmp_path / "painted"
    shutil.copytree(mini_model, folder)
    add_painter(folder, LOOKS)
    painted = load(StreamSpec(str(folder), SIZE, SIZE, "eager", "float32"))
    off, on = both(painted, {"prompt": "ink wash"}, MOVING[:3])
    plain = pictures(stream(painted, Settings().patched({"prompt": "ink wash", "style.amount": 0.0}), frames(MOVING[:3])))
    assert not close(off[1], plain[1]) and same(on, mixed(off, MOVING))


def test_a_scene_cut_takes_nothing_of_the_last_scene(pipeline: StreamPipeline) -> None:
    other = clips.clip("stars", SIZE, SIZE)
    source = [*MOVING[:3], *(other[index] for index in range(3))]
    off, on = both(pipeline, {}, source)
    assert close(on[3], off[3], 0) and not close(on[2], off[2]) and not close(on[4], off[4])
    fresh = mixed({number: off[number] for number in (3, 4, 5)}, source)
    assert same({number: on[number] for number in fresh}, fresh), "the new scene is mixed with itself only"


def test_frames_that_never_came_are_bridged(pipeline: StreamPipeline) -> None:
    """As after the gate has skipped some."""
    for patch in ({}, {"steps": 3}):
        ids = [0, 1, 4, 5, 9]
        source = {number: CLIP[number] for number in ids}
        made = []
        for each in (patch, patch | ON):
            made.append(
                pictures(stream(pipeline, Settings().patched(each), [Frame(number, 0.0, source[number]) for number in ids]))
            )
        assert same(made[1], mixed(made[0], [CLIP[number] for number in range(10)]))


def step(pipeline: StreamPipeline, state: StreamState, frame: Frame, settings: Settings) -> Output:
    (answer,) = pipeline.step([Entry(state, frame, settings)])
    return answer


@pytest.mark.parametrize("change", [{"prompt": "a fox"}, {"strength": 0.7}, {"seed": 4}, {"consistency.enabled": False}])
def test_what_another_look_made_is_not_mixed_in(pipeline: StreamPipeline, change: dict[str, Any]) -> None:
    settings = Settings().patched(ON)
    changed = settings.patched(change)
    state, alone = pipeline.open(settings), pipeline.open(changed)
    for frame in frames(MOVING[:2]):
        step(pipeline, state, frame, settings)
    got = shown(step(pipeline, state, frames(MOVING)[2], changed))
    assert close(got, shown(step(pipeline, alone, frames(MOVING)[2], changed)), 0)
    if "consistency.enabled" in change:
        assert state.answered is None, "nothing is kept while it is off"
        back = shown(step(pipeline, state, frames(MOVING)[3], settings))
        assert close(back, shown(step(pipeline, alone, frames(MOVING)[3], changed)), 0)


@pytest.mark.parametrize(
    "change", [{"consistency.amount": 0.2}, {"gate.enabled": True}, {"cache.interval": 7}, {"probe.every": 9}]
)
def test_a_change_that_alters_no_look_goes_on(pipeline: StreamPipeline, change: dict[str, Any]) -> None:
    settings = Settings().patched(ON)
    state = pipeline.open(settings)
    last = shown(step(pipeline, state, frames(MOVING)[0], settings))
    alone = shown(step(pipeline, pipeline.open(settings), frames(MOVING)[1], settings))
    got = shown(step(pipeline, state, frames(MOVING)[1], settings.patched(change)))
    amount = settings.patched(change).consistency.amount
    assert close(got, mixed({0: last, 1: alone}, MOVING, amount)[1], 0) and not close(got, alone)


def test_a_changed_mask_begins_anew(pipeline: StreamPipeline) -> None:
    settings = Settings().patched({**ON, "strength_map.mode": "mask"})
    state = pipeline.open(settings)
    step(pipeline, state, frames(MOVING)[0], settings)
    mask = np.zeros((SIZE, SIZE), np.uint8)
    state.set_mask(mask)
    other = pipeline.open(settings)
    other.set_mask(mask)
    one, two = (step(pipeline, each, frames(MOVING)[1], settings) for each in (state, other))
    assert close(shown(one), shown(two), 0)


def test_a_prompt_alone_takes_nothing_and_keeps_nothing(pipeline: StreamPipeline) -> None:
    off, on = both(pipeline, {}, [None, None, None])
    assert same(off, on)
    settings = Settings().patched(ON)
    state = pipeline.open(settings)
    step(pipeline, state, frames(MOVING)[0], settings)
    assert state.answered is not None
    step(pipeline, state, Frame(1, 0.0, None), settings)
    assert state.answered is None


def test_sessions_of_one_batch_keep_to_themselves(pipeline: StreamPipeline) -> None:
    other = clips.clip("portrait", SIZE, SIZE)
    sources = [MOVING, [other[3 * index] for index in range(COUNT)], MOVING[::-1]]
    chosen = [Settings().patched(ON), Settings().patched(ON | {"steps": 2}), Settings()]
    alone = [pictures(stream(pipeline, each, frames(source))) for each, source in zip(chosen, sources, strict=True)]
    states = [pipeline.open(each) for each in chosen]
    together: list[dict[int, Pixels]] = [{}, {}, {}]
    for number in range(COUNT):
        entries = [
            Entry(state, Frame(number, 0.0, source[number]), each)
            for state, source, each in zip(states, sources, chosen, strict=True)
        ]
        for found, answer in zip(together, pipeline.step(entries), strict=True):
            found |= pictures([answer])
    for found, expected in zip(together, alone, strict=True):
        assert found and all(close(found[number], expected[number]) for number in found)


@pytest.mark.parametrize("patch", [{}, {"steps": 3}, {"noise.warm_start": 0.5}])
def test_a_step_that_fails_leaves_no_trace(
    pipeline: StreamPipeline, patch: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = Settings().patched(ON | patch)
    expected = pictures(stream(pipeline, settings, frames(MOVING)))
    state, got = pipeline.open(settings), {}
    for number, frame in enumerate(frames(MOVING)):
        if number == 3:
            with monkeypatch.context() as broken, pytest.raises(RuntimeError, match="broken"):
                broken.setattr(pipeline.transfer, "download", fails)
                step(pipeline, state, frame, settings)
        got |= pictures([step(pipeline, state, frame, settings)])
    assert got and all(close(got[number], expected[number], 0) for number in got)


def fails(pixels: torch.Tensor) -> None:
    raise RuntimeError("broken")


def test_frames_in_parts_are_mixed_once_they_are_done(pipeline: StreamPipeline) -> None:
    settings = Settings().patched(ON | {"steps": 2, "stream_batch.enabled": False})
    expected = pictures(stream(pipeline, settings, frames(MOVING[:3])))
    state = pipeline.open(settings)
    for frame in frames(MOVING[:3]):
        answer: Output | None = None
        while answer is None:
            (answer,) = pipeline.advance([Entry(state, frame, settings, 1)])
        assert close(shown(answer), expected[frame.id], 0)


def test_a_hidden_picture_enters_no_later_one(mini_model: Path) -> None:
    hidden: list[bool] = []
    safe = load(
        StreamSpec(str(mini_model), SIZE, SIZE, "eager", "float32"),
        safety=lambda seen: [hidden.pop(0) for _ in seen],
    )
    settings = Settings().patched(ON)
    state, alone = safe.open(settings), safe.open(settings)
    hidden += [True, False, False]
    assert shown(step(safe, state, frames(MOVING)[0], settings)).max() == 0
    assert close(shown(step(safe, state, frames(MOVING)[1], settings)), shown(step(safe, alone, frames(MOVING)[1], settings)), 0)


def test_the_probe_compares_with_a_picture_that_is_mixed_too(pipeline: StreamPipeline) -> None:
    settings = Settings().patched(ON | {"probe.enabled": True, "probe.every": 1, "probe.share": 0.9})
    state = pipeline.open(settings)
    state.set_mask(None)  # the session's inputs have changed once
    compared = 0
    for frame in frames(MOVING):
        answer = step(pipeline, state, frame, settings)
        if answer.reference is not None:
            compared += frame.id > 0
            assert close(shown(answer), reference(answer), 0)
    assert compared


def test_a_refined_picture_takes_nothing_of_lesser_ones(pipeline: StreamPipeline) -> None:
    patch = {"refine.enabled": True, "refine.steps": 3}
    made = []
    for each in (Settings().patched(patch), Settings().patched(ON | patch)):
        state = pipeline.open(each)
        for frame in frames(MOVING[:3]):
            step(pipeline, state, frame, each)
        better = pipeline.refinement(state, each)
        assert better is not None
        while not better.over:
            answer = pipeline.refine(better)
        assert answer is not None
        made.append(answer)
    assert close(shown(made[0]), shown(made[1]), 0)


@pytest.mark.parametrize("brightness", [1.0, 0.25])
@pytest.mark.parametrize(
    "patch",
    [
        {"cache.enabled": True},
        {"cache.enabled": True, "cache.interval": 5, "cache.cascade": False},
        {"cache.enabled": True, "cache.pattern": "dsds"},
        {"cache.enabled": True, "steps": 3},
        {"cache.enabled": True, "steps": 2, "stream_batch.enabled": False},
        {"guidance_mode": "adaptive", "guidance": 2.0, "guidance_alike": 0.5, "steps": 2},
        {"noise.warm_start": 0.5},
    ],
    ids=lambda patch: " ".join(map(str, patch)) if isinstance(patch, dict) else str(patch),
)
def test_pictures_after_a_cut_are_those_of_a_session_that_begins_there(
    pipeline: StreamPipeline, patch: dict[str, Any], brightness: float
) -> None:
    """Whatever else remembers earlier frames, bright scenes or dim ones."""
    other = clips.clip("portrait", SIZE, SIZE)
    settings = Settings().patched(ON | patch)
    pipeline.prepare(settings)
    scenes = [MOVING[:4], [other[index] for index in range(COUNT)]]
    old, new = ([np.asarray(brightness * pixels, np.uint8) for pixels in scene] for scene in scenes)
    made = [decoded_by_frame(pipeline, settings, source) for source in (frames([*old, *new]), frames(new, len(old)))]
    through, fresh = made
    assert set(fresh) <= set(through) and len(fresh) == COUNT
    for number, (latent, picture) in fresh.items():
        assert torch.allclose(through[number][0], latent, atol=1e-4), number
        assert close(through[number][1], picture), number


def decoded_by_frame(
    pipeline: StreamPipeline, settings: Settings, source: Sequence[Frame]
) -> dict[int, tuple[torch.Tensor, Pixels]]:
    """The latent, which shows what a miniature decoder hides, and the picture of each frame."""
    with decoded(pipeline) as latents:
        answers = stream(pipeline, settings, source)
    return {answer.frame_id: (latent[0], shown(answer)) for answer, latent in zip(answers, latents, strict=True)}
