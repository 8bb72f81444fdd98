"""Probe, strength map, adaptive guidance and recovery inside the engine, on a miniature checkpoint."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from benchmarks import clips
from pipelines import Entry, Frame, Output, Pixels, Settings, StreamPipeline, StreamSpec, StreamState, load

SIZE = 128
CLIP = clips.clip("handheld", SIZE, SIZE)


@pytest.fixture(scope="module")
def pipeline(mini_model: Path) -> StreamPipeline:
    made = load(StreamSpec(str(mini_model), SIZE, SIZE, "eager", "float32"))
    made.prepare(Settings().patched({"cache.enabled": True}))
    return made


def run(pipeline: StreamPipeline, settings: Settings, state: StreamState | None = None, count: int = 6) -> list[Output]:
    state = state or pipeline.open(settings)
    return [pipeline.step([Entry(state, Frame(index, 0.0, CLIP[5 * index]), settings)])[0] for index in range(count)]


def picture(output: Output) -> Pixels:
    assert output.pixels is not None
    return output.pixels.numpy()


@pytest.mark.parametrize(
    "change",
    [
        {},
        {"steps": 3},
        {"noise.mode": "walk", "noise.warm_start": 0.3},
        {"strength_map.mode": "motion", "noise.motion": 1.0},
        {"omega": 0.8, "omega_map.mode": "motion", "steps": 3},
        {"guidance_mode": "full", "guidance": 1.5, "steps": 2},
    ],
)
def test_the_reference_of_an_unaccelerated_stream_is_its_own_picture(pipeline: StreamPipeline, change: dict[str, object]) -> None:
    """What is a setting and not an acceleration, the reference has too; so with nothing switched on the two agree."""
    settings = Settings().patched({"probe.enabled": True, "probe.every": 1, "probe.share": 0.9, **change})
    compared = [output for output in run(pipeline, settings, count=9) if output.reference is not None]
    assert len(compared) >= 3
    for output in compared:
        assert output.reference is not None
        assert np.abs(picture(output).astype(int) - output.reference.numpy()).max() <= 1


def test_the_probe_leaves_the_stream_alone(pipeline: StreamPipeline) -> None:
    settings = Settings().patched({"cache.enabled": True, "noise.mode": "walk", "noise.warm_start": 0.2})
    plain = run(pipeline, settings)
    probed = run(pipeline, settings.patched({"probe.enabled": True, "probe.every": 1, "probe.share": 0.9}))
    assert all(np.array_equal(picture(a), picture(b)) for a, b in zip(plain, probed, strict=True))
    assert all(output.reference is None for output in plain)
    assert sum(output.reference is not None for output in probed) >= 2


def test_the_probe_sees_what_the_cache_changes(pipeline: StreamPipeline) -> None:
    probe = {"probe.enabled": True, "probe.every": 1, "probe.share": 0.9}
    settings = Settings().patched({"cache.enabled": True, "cache.interval": 2, "strength": 0.9, **probe})
    compared = [output for output in run(pipeline, settings, count=16) if output.reference is not None]
    assert {output.verdict for output in compared} == {"generated", "cached"}
    for output in compared:
        assert output.reference is not None
        assert np.array_equal(picture(output), output.reference.numpy()) == (output.verdict == "generated")


def test_a_black_mask_gives_the_source_back_and_a_white_one_the_ordinary_picture(pipeline: StreamPipeline) -> None:
    plain, masked = Settings().patched({"steps": 2}), Settings().patched({"steps": 2, "strength_map.mode": "mask"})
    vae = pipeline.graphs.parts.vae
    with torch.no_grad():
        x = torch.from_numpy(CLIP[0]).permute(2, 0, 1)[None] / 127.5 - 1
        kept = vae.decode(vae.encode(x).latents).sample[0].permute(1, 2, 0)
    source = ((kept + 1) * 127.5).round().clamp(0, 255).to(torch.uint8).numpy()
    ordinary = picture(run(pipeline, plain)[1])
    for grey, expected in ((0, source), (255, ordinary)):
        state = pipeline.open(masked)
        state.set_mask(np.full((50, 70), grey, np.uint8))
        assert np.abs(picture(run(pipeline, masked, state)[1]).astype(int) - expected).max() <= 1


def test_a_mask_acts_where_it_is_painted(pipeline: StreamPipeline) -> None:
    settings = Settings().patched({"strength_map.mode": "mask"})
    mask = np.zeros((SIZE, SIZE), np.uint8)
    mask[:, SIZE // 2 :] = 255
    left, none = pipeline.open(settings), pipeline.open(settings)
    left.set_mask(mask)
    none.set_mask(np.zeros_like(mask))
    change = np.abs(picture(run(pipeline, settings, left)[0]).astype(int) - picture(run(pipeline, settings, none)[0])).mean(
        axis=2
    )
    assert change[:, : SIZE // 4].mean() < 0.2 * change[:, 3 * SIZE // 4 :].mean()


@pytest.mark.parametrize("steps", [1, 3])
def test_omega_acts_where_it_is_painted(pipeline: StreamPipeline, steps: int) -> None:
    """A black map is no ω, a white one ω everywhere, a half-painted one changes its own side."""
    settings = Settings().patched({"omega": 0.6, "steps": steps, "omega_map.mode": "mask"})
    plain, everywhere = (
        picture(run(pipeline, settings.patched(patch))[-1]) for patch in ({"omega": 1.0}, {"omega_map.mode": "off"})
    )
    half = np.zeros((SIZE, SIZE), np.uint8)
    half[:, SIZE // 2 :] = 255
    shown = []
    for mask in (np.zeros_like(half), np.full_like(half, 255), half):
        state = pipeline.open(settings)
        state.set_mask(mask)
        shown.append(picture(run(pipeline, settings, state)[-1]).astype(int))
    assert np.abs(shown[0] - plain).max() <= 1 and np.abs(shown[1] - everywhere).max() <= 1
    assert np.abs(plain.astype(int) - everywhere).max() > 2
    change = np.abs(shown[2] - plain).mean(axis=2)
    assert change[:, : SIZE // 4].mean() < 0.3 * change[:, 3 * SIZE // 4 :].mean()


def test_omega_by_motion_leaves_a_still_scene_alone(pipeline: StreamPipeline) -> None:
    settings = Settings().patched({"omega": 0.6, "omega_map.mode": "motion"})
    state = pipeline.open(settings)
    still = [picture(pipeline.step([Entry(state, Frame(index, 0.0, CLIP[0]), settings)])[0]) for index in range(3)]
    assert all(np.array_equal(still[0], shown) for shown in still)
    assert np.array_equal(still[0], picture(run(pipeline, settings.patched({"omega": 1.0}), count=1)[0]))
    moved = picture(run(pipeline, settings, state=None, count=4)[3])
    assert not np.array_equal(moved, picture(run(pipeline, settings.patched({"omega": 1.0}), count=4)[3]))


def test_the_strength_map_has_the_last_word_over_omega_and_guidance(pipeline: StreamPipeline) -> None:
    """Guidance, then ω, then the strength map: what is masked out is the source, whatever the other two did to it."""
    masked = Settings().patched({"strength_map.mode": "mask", "steps": 2})
    both = masked.patched({"omega": 0.6, "guidance_mode": "full", "guidance": 2.5})
    shown = []
    for settings in (masked, both):
        state = pipeline.open(settings)
        state.set_mask(np.zeros((SIZE, SIZE), np.uint8))
        shown.append(picture(run(pipeline, settings, state)[-1]).astype(int))
    assert np.abs(shown[0] - shown[1]).max() <= 1


def test_cached_features_do_not_outlive_a_change_of_the_mask(pipeline: StreamPipeline) -> None:
    settings = Settings().patched({"strength_map.mode": "mask", "cache.enabled": True, "cache.interval": 30})
    pipeline.prepare(settings)
    state = pipeline.open(settings)
    verdicts = []
    for index in range(6):
        if index in (2, 4):
            state.set_mask(np.zeros((8, 8), np.uint8) if index == 2 else None)
        (answer,) = pipeline.step([Entry(state, Frame(index, 0.0, CLIP[0]), settings)])
        verdicts.append(answer.verdict)
    assert verdicts == ["generated", "cached"] * 3


def calls(pipeline: StreamPipeline, settings: Settings, count: int) -> int:
    """UNet rows that a stream of `count` equal frames takes."""
    rows = 0
    original = pipeline.graphs.run

    def counted(part: str, inputs: tuple[torch.Tensor, ...], *rest: Any) -> tuple[torch.Tensor, ...]:
        nonlocal rows
        rows += inputs[0].shape[0] if part in ("full", "shallow") else 0
        return original(part, inputs, *rest)

    pipeline.graphs.run = counted  # type: ignore[method-assign]
    try:
        state = pipeline.open(settings)
        for index in range(count):
            pipeline.step([Entry(state, Frame(index, 0.0, CLIP[0]), settings)])
    finally:
        pipeline.graphs.run = original  # type: ignore[method-assign]
    return rows


@pytest.mark.parametrize(
    "mode, steps, expected",
    [
        ("none", 1, 10),
        ("full", 1, 20),
        ("self", 1, 10),
        ("one-time", 1, 20),
        ("full", 2, 38),
        ("one-time", 2, 29),
        ("self", 2, 19),
    ],
)
def test_rows_per_frame_of_each_guidance_mode(pipeline: StreamPipeline, mode: str, steps: int, expected: int) -> None:
    """Ten frames; with two steps the first step has one frame in flight, the nine others two."""
    settings = Settings().patched({"guidance_mode": mode, "guidance": 1.5, "steps": steps})
    assert calls(pipeline, settings, 10) == expected


def test_a_step_that_fails_may_be_repeated(pipeline: StreamPipeline) -> None:
    """A neighbour's bad frame fails the shared step; stepped again alone, the good session streams as if nothing had happened."""
    settings = Settings().patched({"steps": 2, "cache.enabled": True})
    expected = run(pipeline, settings, count=4)
    good, bad = pipeline.open(settings), pipeline.open(settings)
    got: list[Output] = []
    for index in range(4):
        entry = Entry(good, Frame(index, 0.0, CLIP[5 * index]), settings)
        with pytest.raises(ValueError, match="uint8 of shape"):
            pipeline.step([entry, Entry(bad, Frame(index, 0.0, CLIP[0][:64]), settings)])
        got += pipeline.step([entry])
    for a, b in zip(expected, got, strict=True):
        assert (a.frame_id, a.verdict) == (b.frame_id, b.verdict)
        assert a.pixels is None or np.array_equal(picture(a), picture(b))


def test_a_failure_in_the_middle_of_a_step_is_undone(pipeline: StreamPipeline, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = Settings().patched({"steps": 3, "stream_batch.enabled": False})
    state = pipeline.open(settings)
    original, left = pipeline.graphs.run, 2

    def failing(part: str, inputs: tuple[torch.Tensor, ...], *rest: Any) -> tuple[torch.Tensor, ...]:
        nonlocal left
        left -= part == "full"
        if left < 0:
            raise RuntimeError("out of memory")
        return original(part, inputs, *rest)

    entry = Entry(state, Frame(0, 0.0, CLIP[0]), settings)
    monkeypatch.setattr(pipeline.graphs, "run", failing)
    with pytest.raises(RuntimeError, match="out of memory"):
        pipeline.step([entry])
    assert state.in_flight == 0
    monkeypatch.undo()
    assert np.array_equal(picture(pipeline.step([entry])[0]), picture(run(pipeline, settings, count=1)[0]))
