"""Partial frames in the engine, with pocket: against whole frames, for every kind of settings, and with several sessions."""

from __future__ import annotations

import math
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from benchmarks import clips
from pipelines import Entry, Frame, Output, Pixels, Settings, StreamPipeline, StreamSpec, load, quality
from pipelines.engine.state import StreamState
from pipelines.techniques import consistency, motion
from pipelines.techniques.partial import MARGIN
from pipelines.values.style_names import StyleNames

SIZE = 256
ON: dict[str, object] = {"prompt": "photograph", "partial.enabled": True}
PAINTED = "oil painting"


@cache
def scene() -> Pixels:
    return clips.clip("still", SIZE, SIZE)[0]


def taken(index: int, left: int = 40, top: int = 48) -> Pixels:
    """A still scene in which a patch of 32 x 32 pixels sways by some pixels; the sensor's noise is left out."""
    picture = scene().copy()
    shift = round(6 * math.sin(index))
    picture[top : top + 32, left + shift : left + shift + 32] = scene()[150:182, 100:132]
    return picture


@pytest.fixture(scope="module")
def pipeline() -> StreamPipeline:
    made = load(StreamSpec("pocket", SIZE, SIZE, "eager", "float32"))
    for prompt in ("photograph", PAINTED):
        made.prepare(Settings().patched({**ON, "prompt": prompt}), 2)
    return made


class Session:
    """One stream; `feed` gives the answer to a picture."""

    def __init__(self, pipeline: StreamPipeline, patch: dict[str, object]) -> None:
        self.pipeline, self.settings = pipeline, Settings().patched(patch)
        self.state: StreamState = pipeline.open(self.settings)
        self.count = 0

    def entry(self, picture: Pixels | None) -> Entry:
        self.count += 1
        return Entry(self.state, Frame(self.count, self.count / 25, picture), self.settings)

    def feed(self, picture: Pixels | None) -> Output:
        return self.pipeline.step([self.entry(picture)])[0]


def shown(output: Output) -> Pixels:
    assert output.pixels is not None
    return output.pixels.numpy()


def passes(pipeline: StreamPipeline) -> set[str]:
    return {part for ((part, _), _), _ in pipeline.work}


WINDOWED = {"encode-window", "window", "decode-window"}


def test_a_frame_in_which_little_moved_is_computed_in_a_window_and_looks_like_a_whole_one(pipeline: StreamPipeline) -> None:
    plain, windowed = Session(pipeline, {**ON, "partial.enabled": False}), Session(pipeline, ON)
    for index in range(4):
        whole = shown(plain.feed(taken(index)))
        assert passes(pipeline) == {"encode", "full", "decode"}
        output = windowed.feed(taken(index))
        assert passes(pipeline) == ({"encode", "keeping", "decode"} if index == 0 else WINDOWED)
        assert output.verdict == ("generated" if index == 0 else "cached")
        assert quality.ssim(shown(output), whole) > (0.9999 if index == 0 else 0.99)


def test_a_painted_window_takes_the_painters_statistics_of_the_whole_picture(pipeline: StreamPipeline) -> None:
    plain, windowed = (Session(pipeline, {**ON, "prompt": PAINTED, "partial.enabled": on}) for on in (False, True))
    for index in range(3):
        whole, part = shown(plain.feed(taken(index))), shown(windowed.feed(taken(index)))
        assert passes(pipeline) == (
            {"encode", "keeping", "paint-keeping"} if index == 0 else {"encode-window", "window", "paint-window"}
        )
        assert quality.ssim(part, whole) > 0.97


@pytest.mark.parametrize("prompt", ["photograph", PAINTED])
def test_consistency_mixes_what_windows_make(pipeline: StreamPipeline, prompt: str) -> None:
    """The equation over the windows' pictures; the kept picture has nothing of it."""
    steady = {**ON, "prompt": prompt, "consistency.enabled": True}
    apart, together = Session(pipeline, {**ON, "prompt": prompt}), Session(pipeline, steady)
    expected: Pixels | None = None
    for index in range(4):
        made, got = shown(apart.feed(taken(index))), shown(together.feed(taken(index)))
        assert (index > 0) == ("window" in passes(pipeline))
        motions = motion.follow(*(motion.small(taken(at)) for at in (max(index - 1, 0), index)))
        last, new = torch.from_numpy(made if expected is None else expected), torch.from_numpy(made)
        expected = consistency.fed_back(new, last, motions, 0.6).numpy()
        assert np.abs(expected.astype(int) - got).max() <= 1 and (index < 2 or not np.array_equal(got, made))


def test_outside_of_the_window_the_picture_stays_as_it_is_and_inside_it_is_the_new_one(pipeline: StreamPipeline) -> None:
    session = Session(pipeline, ON)
    first = shown(session.feed(taken(0)))
    second = shown(session.feed(taken(2)))
    assert session.state.partial.kept is not None
    window = session.state.partial.kept.window
    assert window is not None
    outside = np.ones((SIZE, SIZE), np.bool_)
    outside[window.inner(SIZE, SIZE, MARGIN // 2)] = False
    assert outside.any() and np.array_equal(first[outside], second[outside])
    whole = Session(pipeline, {**ON, "partial.enabled": False})
    expected = shown(whole.feed(taken(2)))
    moved = (slice(48, 80), slice(32, 80))
    assert (
        np.abs(second[moved].astype(int) - expected[moved]).mean() < 2.0 < np.abs(second[moved].astype(int) - first[moved]).mean()
    )


def test_a_moving_camera_has_plain_frames_after_the_first(pipeline: StreamPipeline) -> None:
    session, clip = Session(pipeline, ON), clips.clip("handheld", SIZE, SIZE)
    seen = []
    for index in range(0, 60, 15):
        session.feed(clip[index])
        seen.append(passes(pipeline))
    assert seen == [{"encode", "keeping", "decode"}, *[{"encode", "full", "decode"}] * 3]


def test_frames_that_move_everywhere_use_the_feature_cache_and_never_features_from_before_a_window(
    pipeline: StreamPipeline,
) -> None:
    cached = {**ON, "cache.enabled": True, "cache.cascade": False}
    pipeline.prepare(Settings().patched(cached))
    session, clip = Session(pipeline, cached), clips.clip("handheld", SIZE, SIZE)
    seen = []
    for picture in (clip[0], clip[9], clip[12], clip[15], clip[15], clip[15], clip[18]):
        session.feed(picture)
        seen.append((passes(pipeline) - {"encode", "encode-window", "decode", "decode-window"}).pop())
    assert seen == ["keeping", "full", "shallow", "shallow", "keeping", "window", "full"]


def test_a_whole_frame_comes_back_after_so_many(pipeline: StreamPipeline) -> None:
    session = Session(pipeline, {**ON, "partial.refresh": 3})
    seen = []
    for index in range(7):
        session.feed(taken(index))
        seen.append("window" in passes(pipeline))
    assert seen == [False, True, True, False, True, True, False]


@pytest.mark.parametrize(
    "change",
    [
        {"prompt": "watercolour"},
        {"strength": 0.4},
        {"seed": 5},
        {"omega": 0.9},
        {"guidance_mode": "self"},
        {"style.amount": 0.5},
    ],
)
def test_any_change_of_what_a_picture_depends_on_takes_a_whole_frame(pipeline: StreamPipeline, change: dict[str, object]) -> None:
    session = Session(pipeline, ON)
    for index in range(2):
        session.feed(taken(index))
    assert "window" in passes(pipeline)
    session.settings = session.settings.patched(change)
    session.feed(taken(2))
    assert "window" not in passes(pipeline)


def test_a_changed_mask_picture_or_name_takes_a_whole_frame(pipeline: StreamPipeline) -> None:
    session = Session(pipeline, {**ON, "strength_map.mode": "mask"})
    changes: list[Any] = [
        lambda: session.state.set_mask(np.full((SIZE, SIZE), 128, np.uint8)),
        lambda: session.state.set_names(StyleNames()),
        lambda: session.state.set_mask(None),
    ]
    for change in changes:
        session.feed(taken(0))
        session.feed(taken(1))
        assert "window" in passes(pipeline)
        change()
        session.feed(taken(2))
        assert "window" not in passes(pipeline)


def test_settings_that_only_pace_the_stream_keep_the_window(pipeline: StreamPipeline) -> None:
    session = Session(pipeline, ON)
    session.feed(taken(0))
    session.settings = session.settings.patched({"gate.enabled": True, "partial.threshold": 0.05, "probe.every": 9})
    session.feed(taken(1))
    assert "window" in passes(pipeline)


@pytest.mark.parametrize(
    "patch",
    [
        {"steps": 3, "stream_batch.enabled": False},
        {"steps": 2, "stream_batch.enabled": False, "solver": "dpmpp-2m"},
        {"guidance_mode": "full", "guidance": 1.4},
        {"guidance_mode": "self", "guidance": 1.4},
        {"guidance_mode": "one-time", "guidance": 1.4, "steps": 2, "stream_batch.enabled": False},
        {"strength_map.mode": "mask", "steps": 2, "stream_batch.enabled": False},
        {"omega": 0.8, "omega_map.mode": "mask"},
        {"strength": 0.8},
    ],
)
def test_windows_go_with_every_technique_that_is_no_obstacle(pipeline: StreamPipeline, patch: dict[str, object]) -> None:
    plain, windowed = (Session(pipeline, {**ON, **patch, "partial.enabled": on}) for on in (False, True))
    mask = np.zeros((SIZE, SIZE), np.uint8)
    mask[:, : SIZE // 3], mask[: SIZE // 2] = 255, 160
    for session in (plain, windowed):
        session.state.set_mask(mask)
    for index in range(3):
        whole, part = shown(plain.feed(taken(index))), shown(windowed.feed(taken(index)))
        assert ("window" in passes(pipeline)) == (index > 0)
        assert quality.ssim(part, whole) > 0.97


@pytest.mark.parametrize(
    "patch",
    [
        {"steps": 2},
        {"cache.enabled": True, "cache.reuse": "steps", "steps": 2, "stream_batch.enabled": False},
        {"guidance_mode": "adaptive", "guidance": 1.4},
        {"noise.mode": "walk"},
        {"noise.warm_start": 0.3},
        {"strength_map.mode": "motion"},
        {"prompt": "left: watercolour | right: oil painting"},
        {"prompt": "photograph :0.6 | pencil sketch :0.4"},
    ],
)
def test_what_cannot_go_with_windows_has_the_pictures_of_whole_frames_and_says_why(
    pipeline: StreamPipeline, patch: dict[str, object]
) -> None:
    settings = Settings().patched({**ON, **patch})
    (idle,) = [entry for entry in pipeline.understood(settings).listed()["idle"] if entry["setting"] == "partial.enabled"]
    assert "every frame is computed as a whole" in str(idle["message"])
    plain, windowed = (Session(pipeline, {**ON, **patch, "partial.enabled": on}) for on in (False, True))
    for index in range(3):
        one, other = plain.feed(taken(index)), windowed.feed(taken(index))
        assert not {"window", "keeping"} & passes(pipeline)
        assert (one.pixels is None) == (other.pixels is None)
        if one.pixels is not None and other.pixels is not None:
            assert np.array_equal(one.pixels.numpy(), other.pixels.numpy())


def test_a_stream_that_can_take_windows_is_not_called_idle(pipeline: StreamPipeline) -> None:
    assert "idle" not in pipeline.understood(Settings().patched(ON)).listed()


def test_two_sessions_share_calls_and_get_what_each_gets_alone(pipeline: StreamPipeline) -> None:
    places = ((40, 48), (150, 120))
    alone = [Session(pipeline, {**ON, "seed": seed}) for seed in (1, 2)]
    together = [Session(pipeline, {**ON, "seed": seed}) for seed in (1, 2)]
    for index in range(4):
        pictures = [taken(index, *place) for place in places]
        expected = [shown(session.feed(picture)) for session, picture in zip(alone, pictures, strict=True)]
        entries = [session.entry(picture) for session, picture in zip(together, pictures, strict=True)]
        found = pipeline.step(entries)
        assert all(rows == 2 for rows in pipeline.work.values())
        for output, picture in zip(found, expected, strict=True):
            assert np.abs(shown(output).astype(int) - picture).max() <= 1
    windows = [session.state.partial.kept.window for session in together if session.state.partial.kept is not None]
    assert len(set(windows)) == 2


def pictures(made: StreamPipeline, prompt: str) -> list[Pixels]:
    """Of two sessions in one step: a whole frame each, then two windows."""
    sessions = [Session(made, {**ON, "prompt": prompt}) for _ in range(2)]
    found = []
    for index in range(3):
        entries = [session.entry(taken(index, 40 + 60 * place)) for place, session in enumerate(sessions)]
        found += [shown(output) for output in made.step(entries)]
        assert ("window" in passes(made)) == (index > 0)
    return found


@pytest.mark.long
@pytest.mark.parametrize("backend", ["openvino", "compile"])
def test_windows_are_the_same_in_every_backend(
    pipeline: StreamPipeline, backend: str, graph_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """torch.compile stops before its code generator, as in test_combinations.py: one static graph of each pass is captured."""
    compiled = nn.Module.compile

    def captured(module: nn.Module, dynamic: bool) -> None:
        compiled(module, backend="eager", fullgraph=True, dynamic=dynamic)

    monkeypatch.setattr(nn.Module, "compile", captured)
    made = load(StreamSpec("pocket", SIZE, SIZE, backend, "float32"), graph_cache)
    for prompt in ("photograph", PAINTED):
        made.prepare(Settings().patched({**ON, "prompt": prompt}), 2)
        for got, picture in zip(pictures(made, prompt), pictures(pipeline, prompt), strict=True):
            assert np.abs(got.astype(int) - picture).mean() < 0.5 and quality.ssim(got, picture) > 0.995, prompt


def test_a_whole_frame_and_a_window_share_a_step(pipeline: StreamPipeline) -> None:
    windowed, whole = Session(pipeline, ON), Session(pipeline, {**ON, "prompt": PAINTED, "partial.enabled": False})
    windowed.feed(taken(0))
    expected = Session(pipeline, {**ON, "prompt": PAINTED, "partial.enabled": False}).feed(taken(1))
    _, painted = pipeline.step([windowed.entry(taken(1)), whole.entry(taken(1))])
    assert passes(pipeline) == {*WINDOWED, "encode", "full", "paint"}
    assert np.array_equal(shown(painted), shown(expected))


def test_a_failed_step_leaves_what_is_kept(pipeline: StreamPipeline, monkeypatch: pytest.MonkeyPatch) -> None:
    session, twin = Session(pipeline, ON), Session(pipeline, ON)
    for one in (session, twin):
        one.feed(taken(0))
        one.feed(taken(1))
    kept = session.state.partial.kept
    run = pipeline.graphs.run

    def broken(part: str, *rest: Any, **more: Any) -> Any:
        if part == "decode-window":
            raise RuntimeError("no memory")
        return run(part, *rest, **more)

    entry = session.entry(taken(2))
    with monkeypatch.context() as patch:
        patch.setattr(pipeline.graphs, "run", broken)
        with pytest.raises(RuntimeError):
            pipeline.step([entry])
    assert session.state.partial.kept is kept
    assert np.array_equal(shown(pipeline.step([entry])[0]), shown(twin.feed(taken(2))))


def test_a_turn_in_parts_makes_the_same_picture(pipeline: StreamPipeline) -> None:
    whole, parts = Session(pipeline, ON), Session(pipeline, ON)
    for index in range(3):
        expected = shown(whole.feed(taken(index)))
        entry = replace(parts.entry(taken(index)), rows=1)
        found = [pipeline.advance([entry])[0] for _ in range(3)]
        assert found[:2] == [None, None] and found[2] is not None
        assert np.array_equal(shown(found[2]), expected)


def test_the_forecast_knows_the_work_of_a_window(pipeline: StreamPipeline) -> None:
    for prompt in ("photograph", PAINTED):
        session = Session(pipeline, {**ON, "prompt": prompt})
        for index in range(3):
            entry = session.entry(taken(index))
            expected = pipeline.demand(session.state, entry.frame, session.settings)
            pipeline.step([entry])
            assert dict(expected) == dict(pipeline.work)


def test_frames_without_a_picture_and_wrong_ones_are_as_without_windows(pipeline: StreamPipeline) -> None:
    session = Session(pipeline, ON)
    session.feed(taken(0))
    session.feed(None)
    assert passes(pipeline) == {"full", "decode"}
    with pytest.raises(ValueError, match="pixels must be uint8"):
        session.feed(np.zeros((SIZE, SIZE // 2, 3), np.uint8))
    session.feed(taken(1))
    assert "keeping" in passes(pipeline), "what was kept belongs to another picture"


def test_warm_start_after_windows_has_the_latent_of_the_whole_picture(pipeline: StreamPipeline) -> None:
    session = Session(pipeline, ON)
    for index in range(2):
        session.feed(taken(index))
    session.settings = session.settings.patched({"noise.warm_start": 0.3})
    assert shown(session.feed(taken(2))).shape == (SIZE, SIZE, 3)


def test_windows_wait_until_their_graphs_are_ready() -> None:
    fresh = load(StreamSpec("pocket", SIZE, SIZE, "eager", "float32"))
    session = Session(fresh, ON)
    session.feed(taken(0))
    assert passes(fresh) == {"encode", "full", "decode"}
    needed = {key.part for key in fresh.graphs_for(session.settings)}
    assert {"keeping", "window", "encode-window", "decode-window"} <= needed
    assert "keeping" not in {key.part for key in fresh.graphs_for(session.settings.patched({"noise.mode": "walk"}))}
    fresh.prepare(session.settings)
    session.feed(taken(1))
    session.feed(taken(2))
    assert passes(fresh) == WINDOWED


def test_graphs_of_one_row_come_first_and_those_that_keep_statistics_have_no_other_size(pipeline: StreamPipeline) -> None:
    """Each graph of the UNet holds all of its weights, and memory for graphs is limited."""
    keys = [key for key in pipeline.graphs_for(Settings().patched({**ON, "prompt": PAINTED}), 2) if "window" in key.part]
    keeping = {key for key in pipeline.graphs_for(Settings().patched({**ON, "prompt": PAINTED}), 2) if "keeping" in key.part}
    assert [key.rows for key in keys] == [1, 1, 1, 2, 2, 2]
    assert {(key.part, key.rows) for key in keeping} == {("keeping", 1), ("paint-keeping", 1)}


def test_a_picture_too_small_for_a_window_says_so() -> None:
    tiny = load(StreamSpec("pocket", 128, 128, "eager", "float32"))
    assert "too small" in str(tiny.understood(Settings().patched(ON)).listed()["idle"])
    assert not {"window", "keeping"} & {key.part for key in tiny.graphs_for(Settings().patched(ON))}
