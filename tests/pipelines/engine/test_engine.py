"""The engine on a miniature checkpoint: what it computes against a plain loop, and what sessions can see of each other."""

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from benchmarks import clips
from pipelines import Entry, Frame, Pixels, Settings, SettingsError, StreamPipeline, StreamSpec, load
from tests.streams import close

SIZE = 128


@pytest.fixture(scope="module")
def pipeline(mini_model: Path) -> StreamPipeline:
    made = load(StreamSpec(str(mini_model), SIZE, SIZE, "eager", "float32"))
    for reuse in ("frames", "encoder"):
        made.prepare(Settings().patched({"cache.enabled": True, "cache.reuse": reuse}))
    return made


def frames(count: int, name: str = "handheld") -> list[Frame]:
    clip = clips.clip(name, SIZE, SIZE)
    return [Frame(index, index / 25, clip[7 * index]) for index in range(count)]


def stream(pipeline: StreamPipeline, settings: Settings, source: list[Frame]) -> dict[int, Pixels]:
    """Every picture of one session alone, by frame id, the end drained."""
    state = pipeline.open(settings)
    out: dict[int, Pixels] = {}
    for frame in [*source, *[None] * 8]:
        if frame is None and not state.in_flight:
            break
        (answer,) = pipeline.step([Entry(state, frame, settings)])
        if answer.pixels is not None:
            out[answer.frame_id] = answer.pixels.numpy()
    return out


def by_hand(pipeline: StreamPipeline, settings: Settings, frame: Frame) -> Pixels:
    """Sequential denoising written out with diffusers' modules, without any of the engine's helpers."""
    parts = pipeline.graphs.parts
    plan = parts.schedule
    assert frame.pixels is not None
    x = torch.from_numpy(frame.pixels).permute(2, 0, 1)[None] / 127.5 - 1
    x0 = parts.vae.encode(x).latents
    embedding = parts.encode_prompt(settings.prompt)[0][None]
    state = pipeline.open(settings)
    with torch.no_grad():
        for level in range(settings.steps):
            t = round(round(settings.strength * 999) * (settings.steps - level) / settings.steps)
            bar = float(plan.signal[t]) ** 2
            x = bar**0.5 * x0 + (1 - bar) ** 0.5 * state.noise.level(level)
            eps = settings.omega * parts.unet(x, t, encoder_hidden_states=embedding).sample
            x0 = (x - (1 - bar) ** 0.5 * eps) / bar**0.5
        picture = parts.vae.decode(x0).sample[0]
    return ((picture + 1) * 127.5).round().clamp(0, 255).permute(1, 2, 0).to(torch.uint8).numpy()


@pytest.mark.parametrize("steps", [1, 2, 3, 4])
def test_stream_batch_equals_sequential_equals_a_plain_loop(pipeline: StreamPipeline, steps: int) -> None:
    batched = Settings().patched({"steps": steps, "prompt": "ink"})
    sequential = batched.patched({"stream_batch.enabled": False})
    source = frames(6)
    a, b = stream(pipeline, batched, source), stream(pipeline, sequential, source)
    assert list(a) == list(b) == [frame.id for frame in source]
    for frame in source:
        expected = by_hand(pipeline, batched, frame)
        assert close(a[frame.id], expected) and close(b[frame.id], expected)


@pytest.mark.parametrize("omega", [0.7, 1.3])
@pytest.mark.parametrize("steps", [1, 3])
def test_omega_scales_the_predicted_noise(pipeline: StreamPipeline, steps: int, omega: float) -> None:
    patch = {"prompt": "ink", "steps": steps, "strength": 0.3}  # there the signal is above the noise
    settings = Settings().patched({**patch, "omega": omega})
    (frame,) = frames(1)
    picture = stream(pipeline, settings, [frame])[0]
    assert close(picture, by_hand(pipeline, settings, frame))
    assert not close(picture, by_hand(pipeline, settings.patched({"omega": 1.0}), frame))


def test_warming_answers_carry_no_picture_and_their_own_id(pipeline: StreamPipeline) -> None:
    settings = Settings().patched({"steps": 3})
    state = pipeline.open(settings)
    answers = [pipeline.step([Entry(state, frame, settings)])[0] for frame in frames(4)]
    assert [(answer.frame_id, answer.verdict) for answer in answers] == [
        (0, "warming"),
        (1, "warming"),
        (0, "generated"),
        (1, "generated"),
    ]
    assert all((answer.pixels is None) == (answer.verdict == "warming") for answer in answers)


@pytest.mark.parametrize("change", [{"prompt": "a red fox"}, {"seed": 5}, {"strength": 0.8}])
def test_the_picture_depends_on_prompt_seed_and_strength(pipeline: StreamPipeline, change: dict[str, object]) -> None:
    settings, source = Settings().patched({"prompt": "ink"}), frames(1)
    assert not np.array_equal(stream(pipeline, settings, source)[0], stream(pipeline, settings.patched(change), source)[0])


def test_the_picture_depends_on_the_unet_weights(mini_model: Path) -> None:
    pipeline = load(StreamSpec(str(mini_model), SIZE, SIZE, "eager", "float32"))
    settings, source = Settings(), frames(1)
    before = stream(pipeline, settings, source)[0]
    with torch.no_grad():
        for weight in pipeline.graphs.parts.unet.parameters():
            weight.zero_()
    assert not np.array_equal(before, stream(pipeline, settings, source)[0])


def test_prompt_only_draws_from_noise_alone(pipeline: StreamPipeline) -> None:
    settings = Settings().patched({"strength": 0.2})
    source = [Frame(0, 0.0, None), Frame(1, 0.1, None)]
    out = stream(pipeline, settings, source)
    assert np.array_equal(out[0], out[1])
    assert not np.array_equal(out[0], stream(pipeline, settings.patched({"seed": 1}), source[:1])[0])


TIMELINE = st.lists(
    st.fixed_dictionaries(
        {},
        optional={
            "steps": st.integers(1, 4),
            "strength": st.floats(0.0, 1.0),
            "prompt": st.sampled_from(["ink", "oil", ""]),
            "guidance_mode": st.sampled_from(["none", "full", "self", "one-time", "adaptive"]),
            "guidance": st.sampled_from([1.0, 1.5, 4.0]),
            "stream_batch.enabled": st.booleans(),
            "noise.mode": st.sampled_from(["fixed", "walk"]),
            "noise.warm_start": st.sampled_from([0.0, 0.4]),
            "noise.motion": st.sampled_from([0.0, 1.0]),
            "strength_map.mode": st.sampled_from(["off", "motion", "mask"]),
            "omega": st.sampled_from([1.0, 0.7, 1.3]),
            "omega_map.mode": st.sampled_from(["off", "motion", "mask"]),
            "travel": st.sampled_from([0.0, 0.1]),
            "cache.enabled": st.booleans(),
            "cache.reuse": st.sampled_from(["frames", "steps", "encoder"]),
            "cache.interval": st.integers(1, 4),
            "cache.cascade": st.booleans(),
            "seed": st.integers(0, 3),
        },
    ),
    min_size=1,
    max_size=6,
)


@hypothesis_settings(max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(TIMELINE, TIMELINE, st.booleans())
def test_sessions_in_one_batch_see_nothing_of_each_other(
    pipeline: StreamPipeline, mine: list[dict[str, object]], theirs: list[dict[str, object]], blank: bool
) -> None:
    """Over any settings timeline a session's pictures are the same whether it streams alone or beside any other session."""
    length = max(len(mine), len(theirs))
    own = frames(length)
    other = [Frame(frame.id, 0.0, None if blank else clips.clip("stars", SIZE, SIZE)[frame.id]) for frame in own]
    alone, shared = Session(pipeline, mine), Session(pipeline, mine)
    neighbour = Session(pipeline, theirs)
    for frame, strange in zip(own, other, strict=True):
        (a,) = pipeline.step([alone.entry(frame)])
        b, _ = pipeline.step([shared.entry(frame), neighbour.entry(strange)])
        assert (a.frame_id, a.verdict, a.superseded) == (b.frame_id, b.verdict, b.superseded)
        if a.pixels is not None and b.pixels is not None:
            assert close(a.pixels.numpy(), b.pixels.numpy(), 2)


class Session:
    """A session that walks through a settings timeline, one patch a frame."""

    def __init__(self, pipeline: StreamPipeline, timeline: list[dict[str, object]]) -> None:
        self.timeline = iter(timeline)
        self.settings = Settings()
        self.state = pipeline.open(self.settings)

    def entry(self, frame: Frame) -> Entry:
        self.settings = self.settings.patched(next(self.timeline, {}))
        return Entry(self.state, frame, self.settings)


@hypothesis_settings(max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(TIMELINE)
def test_any_timeline_gives_rising_ids_and_accounts_for_every_frame(
    pipeline: StreamPipeline, timeline: list[dict[str, object]]
) -> None:
    session = Session(pipeline, timeline)
    shown: list[int] = []
    lost: list[int] = []
    source = frames(8)
    for frame in [*source, None, None, None, None]:
        entry = session.entry(frame) if frame is not None else Entry(session.state, None, session.settings)
        (answer,) = pipeline.step([entry])
        lost.extend(answer.superseded)
        if answer.pixels is not None:
            shown.append(answer.frame_id)
            assert answer.pixels.numpy().shape == (SIZE, SIZE, 3)
    assert shown == sorted(set(shown))
    assert sorted(shown + lost) == [frame.id for frame in source]


@pytest.mark.parametrize("steps", [1, 3])
def test_self_negative_guidance_does_not_drift(pipeline: StreamPipeline, steps: int) -> None:
    """Nothing is fed back from frame to frame: a still scene stays the same picture."""
    settings = Settings().patched({"guidance_mode": "self", "guidance": 1.4, "steps": steps, "strength": 0.4})
    still = [Frame(index, 0.0, clips.clip("handheld", SIZE, SIZE)[0]) for index in range(12)]
    out = stream(pipeline, settings, still)
    assert all(np.array_equal(out[0], picture) for picture in out.values())
    assert not np.array_equal(out[0], stream(pipeline, settings.patched({"guidance_mode": "none"}), still[:1])[0])


def test_guidance_follows_a_live_prompt_change(pipeline: StreamPipeline) -> None:
    settings = Settings().patched({"guidance_mode": "full", "guidance": 2.0, "negative": "dull", "prompt": "ink"})
    changed = settings.patched({"prompt": "a red fox"})
    state = pipeline.open(settings)
    first, second = frames(2)
    pipeline.step([Entry(state, first, settings)])
    (after,) = pipeline.step([Entry(state, second, changed)])
    assert after.pixels is not None
    assert np.array_equal(after.pixels.numpy(), stream(pipeline, changed, [second])[1])


def test_what_a_stream_cannot_do_is_refused(pipeline: StreamPipeline) -> None:
    with pytest.raises(SettingsError, match="steps"):
        pipeline.open(Settings().patched({"steps": 5}))
    with pytest.raises(ValueError, match="uint8 of shape"):
        pipeline.step([Entry(pipeline.open(Settings()), Frame(0, 0.0, np.zeros((8, 8, 3), np.uint8)), Settings())])


def test_an_empty_step_is_nothing(pipeline: StreamPipeline) -> None:
    assert pipeline.step([]) == []
    (answer,) = pipeline.step([Entry(pipeline.open(Settings()), None, Settings())])
    assert (answer.verdict, answer.pixels) == ("warming", None)


CACHE = {"cache.enabled": True, "cache.interval": 3}


def verdicts(pipeline: StreamPipeline, timeline: list[dict[str, object]], source: list[Frame]) -> tuple[list[str], list[Pixels]]:
    session = Session(pipeline, timeline)
    answers = [pipeline.step([session.entry(frame)])[0] for frame in source]
    return [answer.verdict for answer in answers], [answer.pixels.numpy() for answer in answers if answer.pixels is not None]


def test_every_kth_frame_takes_the_full_pass(pipeline: StreamPipeline) -> None:
    pipeline.prepare(Settings().patched(CACHE))
    seen, pictures = verdicts(pipeline, [{**CACHE, "strength": 0.9}], frames(7))
    assert seen == ["generated", "cached", "cached", "generated", "cached", "cached", "generated"]
    _, reference = verdicts(pipeline, [{"strength": 0.9}], frames(7))
    for verdict, picture, expected in zip(seen, pictures, reference, strict=True):
        assert np.array_equal(picture, expected) == (verdict == "generated")


def test_a_still_scene_gives_the_same_picture_from_the_cache(pipeline: StreamPipeline) -> None:
    pipeline.prepare(Settings().patched(CACHE))
    still = [Frame(index, 0.0, clips.clip("handheld", SIZE, SIZE)[0]) for index in range(5)]
    seen, pictures = verdicts(pipeline, [CACHE], still)
    assert "cached" in seen
    assert all(close(pictures[0], picture) for picture in pictures)


@pytest.mark.parametrize(
    "change", [{"prompt": "fox"}, {"seed": 3}, {"strength": 0.7}, {"cache.branch": 0}, {"guidance_mode": "self"}]
)
def test_a_change_ends_the_cached_entry(pipeline: StreamPipeline, change: dict[str, object]) -> None:
    for branch in (0, 1):
        pipeline.prepare(Settings().patched({**CACHE, "cache.branch": branch}))
    timeline = [CACHE, {}, change, {}]
    seen, pictures = verdicts(pipeline, timeline, frames(4))
    assert seen == ["generated", "cached", "generated", "cached"]
    alone, expected = verdicts(pipeline, [{**change, "cache.enabled": False}], frames(4)[2:3])
    assert alone == ["generated"]
    assert close(pictures[2], expected[0])


def test_a_newly_painted_mask_ends_the_cached_entry(pipeline: StreamPipeline) -> None:
    settings = Settings().patched({**CACHE, "strength_map.mode": "mask"})
    state, seen = pipeline.open(settings), []
    for frame in frames(5):
        if frame.id in (0, 2):
            state.set_mask(np.full((SIZE, SIZE), 60 * (frame.id + 1), np.uint8))
        seen.append(pipeline.step([Entry(state, frame, settings)])[0].verdict)
    assert seen == ["generated", "cached", "generated", "cached", "cached"]


def test_a_scene_cut_ends_the_cached_entry(pipeline: StreamPipeline) -> None:
    pipeline.prepare(Settings().patched(CACHE))
    source = [Frame(0, 0.0, clips.clip("handheld", SIZE, SIZE)[123]), Frame(1, 0.1, clips.clip("handheld", SIZE, SIZE)[126])]
    assert verdicts(pipeline, [CACHE], source)[0] == ["generated", "generated"]


def test_switching_the_cache_off_returns_to_the_reference(pipeline: StreamPipeline) -> None:
    pipeline.prepare(Settings().patched(CACHE))
    seen, pictures = verdicts(pipeline, [CACHE, {}, {"cache.enabled": False}], frames(3))
    assert seen == ["generated", "cached", "generated"]
    assert close(pictures[2], verdicts(pipeline, [{}], frames(3))[1][2])


def test_without_its_graphs_the_cache_waits_and_the_stream_goes_on(mini_model: Path) -> None:
    pipeline = load(StreamSpec(str(mini_model), SIZE, SIZE, "eager", "float32"))
    assert verdicts(pipeline, [CACHE], frames(3))[0] == ["generated"] * 3


def test_a_branch_that_the_model_lacks_is_refused(pipeline: StreamPipeline) -> None:
    with pytest.raises(SettingsError, match=r"cache.branch: 4 is out of range; this model has branches 0 to 3"):
        pipeline.check(Settings().patched({"cache.branch": 4}))
