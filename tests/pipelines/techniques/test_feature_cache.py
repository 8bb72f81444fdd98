"""The cache policy: hand-made cases, and random timelines against a diary that is searched afterwards."""

from dataclasses import dataclass, replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.techniques import feature_cache
from pipelines.techniques.feature_cache import AS_BEFORE, SCENE_CUT, CacheKey, CacheState, aged, cascades, decide, drift, passes
from pipelines.values.settings import CacheSettings, Settings

KEY = CacheKey(width=512, height=512, reuse="frames", branch=0, timestep=499, seed=0, picture=("oil painting", "", 0.0))
OTHERS = {
    "width": 256,
    "height": 256,
    "reuse": "steps",
    "branch": 1,
    "timestep": 399,
    "seed": 1,
    "picture": ("watercolour", "", 0.0),
}
ON = CacheSettings(enabled=True, interval=3)


def picture(value: float) -> np.ndarray:
    return np.full((64, 64, 3), value, np.float32)


def after(state: CacheState, key: CacheKey, thumb: np.ndarray | None, done: str) -> CacheState:
    """The entry after a pass, as the engine keeps it."""
    return CacheState(key, thumb) if done == "full" else aged(state)


def run(inputs: list[np.ndarray | None], settings: CacheSettings, keys: list[CacheKey] | None = None) -> str:
    """F and s for the passes of a timeline."""
    state, passes = CacheState(), ""
    for index, thumb in enumerate(inputs):
        key = keys[index] if keys else KEY
        done = decide(state, key, thumb, settings)
        state = after(state, key, thumb, done)
        passes += "F" if done == "full" else "s"
    return passes


@pytest.mark.parametrize(
    ("interval", "expected"), [(1, "FFFFFFF"), (2, "FsFsFsF"), (3, "FssFssF"), (6, "FsssssF"), (30, "Fssssss")]
)
@pytest.mark.parametrize("policy", ["interval", "adaptive"])
def test_a_still_scene_gets_a_full_pass_every_kth_frame(policy: str, interval: int, expected: str) -> None:
    assert run([picture(0.5)] * 7, replace(ON, policy=policy, interval=interval)) == expected


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({}, [("full", 2), ("relay", 2), ("shallow", 1)]),
        ({"interval": 3}, [("full", 2), ("relay", 2), ("shallow", 1)]),
        ({"branch": 1}, [("full", 1), ("relay", 1), ("shallow", 0)]),
        ({"branch": 0}, [("full", 0), ("shallow", 0)]),
        ({"interval": 2}, [("full", 2), ("relay", 2), ("shallow", 1)]),
        ({"cascade": False}, [("full", 2), ("shallow", 2)]),
        ({"reuse": "steps"}, [("full", 2), ("shallow", 2)]),
        ({"reuse": "encoder"}, [("encoder", None), ("decoder", None)]),
    ],
)
def test_short_passes_take_turns_where_there_is_a_turn_to_take(change: dict, expected: list) -> None:
    settings = replace(CacheSettings(enabled=True, interval=6, branch=2, cascade=True), **change)
    assert list(passes(settings)) == expected
    assert cascades(settings) == (len(expected) == 3)


def test_drift_is_the_mean_change_since_the_full_pass_not_since_the_last_frame() -> None:
    creeping = [picture(0.5 + 0.022 * i) for i in range(10)]  # passes 0.05 at the third
    assert run(creeping, replace(ON, policy="adaptive", interval=30, drift=0.05)) == "FssFssFssF"
    assert run(creeping, replace(ON, policy="interval", interval=30)) == "FsssssFsss", "0.132 is past a scene cut"


def test_drift_by_hand() -> None:
    moved = picture(0.5)
    moved[:16] += 0.4
    assert drift(moved, picture(0.5)) == pytest.approx(0.1, abs=1e-6)
    assert drift(None, None) == 0.0
    assert drift(moved, None) == drift(None, moved) == 1.0
    assert drift(moved, moved[:32]) == 1.0


@pytest.mark.parametrize("policy", ["interval", "adaptive"])
def test_a_scene_cut_causes_a_full_pass_at_once_whatever_drift_allows(policy: str) -> None:
    scenes = [picture(0.2)] * 2 + [picture(0.8)] * 3
    assert run(scenes, replace(ON, policy=policy, interval=30, drift=1.0)) == "FsFss"


@pytest.mark.parametrize("field", list(OTHERS))
def test_every_part_of_the_key_invalidates_there_and_back(field: str) -> None:
    other = replace(KEY, **{field: OTHERS[field]})
    assert set(OTHERS) == set(KEY.__slots__)
    assert run([picture(0.5)] * 6, replace(ON, interval=30), [KEY, KEY, other, other, KEY, KEY]) == "FsFsFs"


def test_frames_without_pixels_follow_the_interval_and_their_coming_and_going_invalidates() -> None:
    assert run([None] * 4, ON) == "FssF"
    assert run([None, None, picture(0.5), picture(0.5), None], replace(ON, interval=30)) == "FsFsF"


def test_what_is_not_known_yet_is_taken_to_be_as_before() -> None:
    state = CacheState(KEY, picture(0.5), age=1)
    assert decide(state, AS_BEFORE, AS_BEFORE, ON) == "reuse"
    assert decide(aged(state), AS_BEFORE, AS_BEFORE, ON) == "full", "the interval is known"
    assert decide(state, AS_BEFORE, picture(0.9), ON) == "full", "and so is the picture, where there is one"


def test_switched_off_every_pass_is_full() -> None:
    assert run([picture(0.5)] * 4, replace(ON, enabled=False)) == "FFFF"


def test_a_shorter_interval_set_live_ends_an_old_entry() -> None:
    state = CacheState(KEY, picture(0.5), age=5)
    assert decide(state, KEY, picture(0.5), replace(ON, interval=30)) == "reuse"
    assert decide(state, KEY, picture(0.5), replace(ON, interval=4)) == "full"


@dataclass(frozen=True)
class Moment:
    """One frame of a random timeline, with what the policy answered."""

    key: CacheKey
    value: float | None
    settings: CacheSettings
    done: str = ""


moments = st.builds(
    Moment,
    key=st.builds(
        replace,
        st.just(KEY),
        **{name: st.sampled_from([getattr(KEY, name)] * 9 + [OTHERS[name]]) for name in OTHERS},
    ),
    value=st.one_of(st.none(), st.integers(0, 20).map(lambda i: i / 20), *[st.just(0.5)] * 6),
    settings=st.builds(
        CacheSettings,
        enabled=st.sampled_from([True] * 5 + [False]),
        policy=st.sampled_from(["interval", "adaptive"]),
        interval=st.sampled_from([1, 2, 3, 5, 30]),
        drift=st.sampled_from([0.001, 0.06, 0.5, 1.0]),
        branch=st.just(0),
    ),
)


@given(st.lists(moments, max_size=40))
def test_caches_never_survive_what_must_invalidate_them_and_are_used_where_nothing_does(timeline: list[Moment]) -> None:
    state, diary = CacheState(), []
    for moment in timeline:
        thumb = None if moment.value is None else picture(moment.value)
        done = decide(state, moment.key, thumb, moment.settings)
        # As an engine does it: a pass with the cache off keeps no features.
        state = after(state, moment.key, thumb, done) if moment.settings.enabled else CacheState()
        diary.append(replace(moment, done=done))
    for now, moment in enumerate(diary):
        source = next((i for i in reversed(range(now)) if diary[i].done == "full"), None)
        assert (moment.done == "reuse") == (source is not None and usable(diary, source, now))


def usable(diary: list[Moment], source: int, now: int) -> bool:
    """Whether features made at `source` may serve frame `now`, read off the diary alone."""
    made, used = diary[source], diary[now]
    if not made.settings.enabled or not used.settings.enabled or made.key != used.key:
        return False
    if now - source >= used.settings.interval or (made.value is None) != (used.value is None):
        return False
    change = 0.0 if made.value is None or used.value is None else abs(float(np.float32(made.value) - np.float32(used.value)))
    return change <= SCENE_CUT and (used.settings.policy == "interval" or change <= used.settings.drift)


def test_entries_are_values() -> None:
    state = CacheState(KEY, picture(0.5))
    later = aged(state)
    assert (state.age, later.age) == (0, 1)
    assert later.reference is state.reference, "a shallow pass leaves the reference where the features were made"
    with pytest.raises(AttributeError):
        state.age = 3  # type: ignore[misc]


@pytest.mark.parametrize("solver", ["lcm", "ddim", "dpmpp-2m"])
@pytest.mark.parametrize(
    ("patch", "prediction", "word"),
    [
        ({"cache.reuse": "encoder", "steps": 4}, "sample", "fewer steps"),
        ({"cache.reuse": "encoder", "steps": 4}, "epsilon", None),
        ({"cache.reuse": "steps", "steps": 4}, "sample", None),
        ({"cache.reuse": "frames", "steps": 1}, "sample", None),
        ({"cache.reuse": "steps", "steps": 1}, "epsilon", "one step"),
        ({"cache.reuse": "encoder", "steps": 1, "cache.enabled": False}, "sample", None),
    ],
)
def test_a_cache_that_cannot_gain_anything_is_off_and_says_why(
    patch: dict[str, object], prediction: str, word: str | None, solver: str
) -> None:
    settings = Settings().patched({"cache.enabled": True, "solver": solver, **patch})
    why = feature_cache.idle(settings, prediction)
    assert why is None if word is None else why is not None and word in why
