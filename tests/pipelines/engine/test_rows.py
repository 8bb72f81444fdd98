"""The planner of rows: which frames move, which rows they take, and which pass each row takes. No networks."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from pipelines.engine.rows import AssumedKeys, PictureKeys, Row, RowPlanner, moving
from pipelines.engine.state import FeatureEntry
from pipelines.techniques.feature_cache import PLAIN, CacheState
from pipelines.techniques.guidance import NegativeResidual
from pipelines.techniques.stream_batch import InFlight, KeptFeatures
from pipelines.values.settings import Settings

X = torch.zeros(1)
THUMB = np.zeros((64, 64, 3), np.float32)
FEATURES = (torch.ones(1),)
RELAYED = (torch.full((1,), 2.0),)


def frame(level: int = 0, steps: int = 4, frame_id: int = 0, source: bool = True) -> InFlight:
    return InFlight(frame_id, X, X if source else None, tuple(range(900, 900 - 100 * steps, -100)), level, thumb=THUMB)


def keys(settings: Settings) -> PictureKeys:
    return PictureKeys(settings, (16, 16), 1.0, None)


def plan(settings: Settings, *frames: InFlight, cache=None, residuals=None, ready: bool = True) -> list[Row]:
    return RowPlanner(settings, cache or {}, residuals or {}, keys(settings), ready).rows(frames)


def test_all_frames_in_flight_move_once_a_step_and_those_that_are_done_stay() -> None:
    frames = [frame(4), frame(2), frame(0)]
    assert moving(frames, Settings(), 0) == frames[1:]
    assert moving(frames, Settings(), 1) == []


def test_in_sequential_mode_the_newest_frame_alone_moves_until_it_is_done() -> None:
    settings = Settings().patched({"stream_batch.enabled": False})
    frames = [frame(1), frame(3)]
    assert moving(frames, settings, 0) == moving(frames, settings, 3) == frames[1:]
    frames[1].level = 4
    assert moving(frames, settings, 4) == [] == moving([], settings, 0)


@pytest.mark.parametrize(
    ("mode", "negatives"), [("none", []), ("full", [0, 1, 2]), ("one-time", [0]), ("self", []), ("adaptive", [0, 1, 2])]
)
def test_negative_rows_follow_the_rows_of_the_frames(mode: str, negatives: list[int]) -> None:
    settings = Settings().patched({"guidance": 1.5, "guidance_mode": mode})
    rows = plan(settings, *(frame(level) for level in range(3)))
    assert [(row.frame.level, row.negative) for row in rows] == [
        *((level, False) for level in range(3)),
        *((level, True) for level in negatives),
    ]
    assert {row.kind for row in rows} == {PLAIN}


def test_from_a_prompt_alone_self_negative_takes_one_row_at_the_first_level() -> None:
    settings = Settings().patched({"guidance": 1.5, "guidance_mode": "self"})
    assert [row.slot for row in plan(settings, frame(0, source=False), frame(1, source=False))] == [
        (0, False),
        (1, False),
        (0, True),
    ]


def test_adaptive_guidance_drops_the_row_of_a_level_whose_residual_still_holds() -> None:
    settings = Settings().patched({"guidance": 1.5, "guidance_mode": "adaptive", "guidance_alike": 0.5})
    known = NegativeResidual(keys(settings).guidance(frame(1)), THUMB, X, lambda: 0.9)
    assert [row.slot for row in plan(settings, frame(0), frame(1), residuals={1: known})][2:] == [(0, True)]
    for stale in (replace(known, age=known.due), replace(known, key="another picture"), replace(known, thumb=THUMB + 1)):
        assert (1, True) in [row.slot for row in plan(settings, frame(1), residuals={1: stale})]


CACHE = Settings().patched({"cache.enabled": True, "cache.interval": 3, "cache.policy": "interval", "cache.branch": 2})


def entry(settings: Settings, item: InFlight, age: int = 0, relayed: tuple[torch.Tensor, ...] = ()) -> FeatureEntry:
    return FeatureEntry(CacheState(keys(settings).features(item), THUMB, age), FEATURES, relayed)


def test_features_of_an_earlier_frame_spare_the_deep_layers_and_a_full_pass_keeps_new_ones() -> None:
    settings = CACHE.patched({"cache.cascade": False})
    item = frame(1)
    (row,) = plan(settings, item)
    assert (row.kind, row.key, row.features) == (("full", 2), keys(settings).features(item), ())
    (row,) = plan(settings, item, cache={(1, False): entry(settings, item)})
    assert (row.kind, row.key, row.features) == (("shallow", 2), None, FEATURES)
    (row,) = plan(settings, item, cache={(1, False): entry(settings, item, age=2)})
    assert row.kind == ("full", 2), "every third frame"
    (row,) = plan(settings.patched({"prompt": "another"}), item, cache={(1, False): entry(settings, item)})
    assert row.kind == ("full", 2), "made under another prompt"
    assert plan(settings, item, cache={(1, False): entry(settings, item)}, ready=False) == [Row(item)], "its graphs are missing"


def test_short_passes_of_a_cascade_take_turns() -> None:
    settings = CACHE.patched({"cache.cascade": True})
    item = frame()
    (first,) = plan(settings, item, cache={(0, False): entry(settings, item)})
    assert (first.kind, first.features) == (("relay", 2), FEATURES) and first.key is not None
    (second,) = plan(settings, item, cache={(0, False): entry(settings, item, 1, RELAYED)})
    assert (second.kind, second.features, second.key) == (("shallow", 1), RELAYED, None)


@pytest.mark.parametrize(("pattern", "level", "kinds"), [
    ("dssd", 0, "relay shallow shallow relay full"),
    ("sd", 0, "relay relay full"),
    ("d", 0, "shallow full"),
    ("ds/ddd", 1, "relay relay relay full"),
    ("ds/ddd", 3, "relay relay relay full"),
])  # fmt: skip
def test_a_pattern_orders_the_short_passes_of_each_level(pattern: str, level: int, kinds: str) -> None:
    settings = CACHE.patched({"cache.pattern": pattern, "cache.interval": 2})
    item, found = frame(level), []
    for age in range(len(kinds.split())):
        relayed = RELAYED if "relay" in found else ()
        (row,) = plan(settings, item, cache={(level, False): entry(settings, item, age, relayed)})
        found.append(row.kind[0])
    assert " ".join(found) == kinds


@pytest.mark.parametrize(("reuse", "whole", "short"), [("steps", "full", "shallow"), ("encoder", "encoder", "decoder")])
def test_reuse_between_levels_takes_what_the_frame_itself_kept(reuse: str, whole: str, short: str) -> None:
    settings = CACHE.patched({"cache.reuse": reuse})
    item = frame(0)
    (row,) = plan(settings, item)
    assert row.kind[0] == whole and row.key is not None
    item.level, item.kept = 1, {False: KeptFeatures(row.key, 0, X, X, X, FEATURES)}
    (row,) = plan(settings, item)
    assert (row.kind[0], row.features, row.kept) == (short, FEATURES, item.kept[False])
    item.level = 3
    assert plan(settings, item)[0] == Row(item), "a last level that would be full has no later level to keep for"


def test_planning_changes_nothing() -> None:
    settings = CACHE.patched({"guidance": 1.5, "guidance_mode": "full"})
    item = frame(1)
    cache = {(1, False): entry(settings, item)}
    before = replace(item), dict(cache)
    assert plan(settings, item, cache=cache) == plan(settings, item, cache=cache)
    assert (item, cache) == before and item.kept == {} and not item.reused


@pytest.mark.parametrize("change", [{"prompt": "fox"}, {"seed": 3}, {"strength": 0.7}, {"omega": 1.1}])
def test_keys_hold_what_a_picture_depends_on(change: dict[str, object]) -> None:
    one, other = keys(CACHE), keys(CACHE.patched(change))
    assert one.features(frame()) != other.features(frame()) and one.guidance(frame()) != other.guidance(frame())
    assert one.features(frame()) == keys(CACHE.patched({"gate.enabled": True, "probe.enabled": True})).features(frame())
    painted = replace(frame(), inputs_version=1)
    assert one.features(painted) != one.features(frame())


def test_assumed_keys_equal_every_key() -> None:
    item, assumed = frame(), AssumedKeys()
    assert keys(CACHE).features(item) == assumed.features(item) and keys(CACHE).guidance(item) == assumed.guidance(item)
    assert (keys(CACHE).features(item) != assumed.features(item)) is False


def test_a_controlnet_takes_part_in_rows_with_a_hint() -> None:
    assert not Row(frame()).controlled(1.0)
    hinted = Row(replace(frame(), hint=X))
    assert hinted.controlled(0.5) and not hinted.controlled(0.0)
