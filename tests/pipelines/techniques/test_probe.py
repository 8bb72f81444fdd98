"""The probe's plan: what counts as an acceleration, and how much time it may take."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.techniques.probe import Budget, Probe, due, earned, probed, reference
from pipelines.values.settings import ProbeSettings, Settings
from pipelines.values.types import HostPicture

ALL_ON = Settings().patched(
    {
        "prompt": "etching",
        "guidance": 1.8,
        "guidance_mode": "self",
        "steps": 4,
        "seed": 7,
        "stream_batch.enabled": True,
        "gate.enabled": True,
        "cache.enabled": True,
        "noise.mode": "walk",
        "noise.warm_start": 0.3,
        "noise.motion": 0.5,
        "omega": 0.9,
        "omega_map.mode": "motion",
    }
)


def test_the_reference_differs_in_accelerations_only() -> None:
    before, after = ALL_ON.flat(), reference(ALL_ON).flat()
    assert {key: after[key] for key in after if after[key] != before[key]} == {
        "guidance_mode": "full",
        "stream_batch.enabled": False,
        "gate.enabled": False,
        "cache.enabled": False,
        "stitch.fraction": 0.0,
    }
    assert reference(ALL_ON).version == ALL_ON.version


@pytest.mark.parametrize(
    ("mode", "expected"), [("none", "none"), ("full", "full"), ("self", "full"), ("one-time", "full"), ("adaptive", "full")]
)
def test_the_reference_has_full_guidance_where_there_is_any(mode: str, expected: str) -> None:
    assert reference(ALL_ON.patched({"guidance_mode": mode})).guidance_mode == expected


def test_the_reference_is_its_own_reference() -> None:
    assert reference(reference(ALL_ON)) == reference(ALL_ON)


def simulate(costs: list[float], every: int, share: float, frame: float = 10.0) -> tuple[list[int], float, float]:
    """Frames of 10 ms; which of 1000 were probed, and the milliseconds of probes and of everything."""
    budget, at, spent = Budget(), [], 0.0
    for index in range(1000):
        budget = earned(budget, frame, share)
        if due(budget, every):
            cost = costs[len(at) % len(costs)]
            budget, spent = probed(budget, cost), spent + cost
            at.append(index)
    return at, spent, spent + 1000 * frame


def test_with_time_to_spare_every_kth_frame_is_probed() -> None:
    at, _, _ = simulate([20.0], every=10, share=0.5)
    assert at == list(range(9, 1000, 10))


def test_without_time_the_share_rules() -> None:
    at, spent, total = simulate([40.0], every=1, share=0.1)
    assert spent / total == pytest.approx(0.1, abs=0.005)
    gaps = np.diff(at)
    assert gaps.min() >= 36 and gaps.max() <= 73, "40 ms are a tenth of 36 frames and the probe; the first one was on credit"


@given(
    costs=st.lists(st.floats(1, 500), min_size=1, max_size=20),
    every=st.integers(1, 50),
    share=st.floats(0.01, 0.5),
)
def test_the_share_is_kept_whatever_a_probe_costs(costs: list[float], every: int, share: float) -> None:
    at, spent, _ = simulate(costs, every, share)
    assert spent <= share / (1 - share) * 10_000 + max(costs) + 1e-6, "at most one probe ahead of what has been earned"
    assert all(b - a >= every for a, b in pairwise(at))


def test_a_quiet_time_is_not_followed_by_a_burst() -> None:
    budget = probed(Budget(), 30.0)
    for _ in range(10_000):
        budget = earned(budget, 10.0, 0.2)
    assert due(budget, 5)
    budget = probed(budget, 30.0)
    for _ in range(5):
        budget = earned(budget, 10.0, 0.2)
    assert not due(budget, 5)


HOST = HostPicture(np.zeros((2, 2, 3), np.uint8))


def test_references_wait_for_their_own_picture() -> None:
    probe = Probe()
    probe.add_reference(4, HOST, 1.0)
    assert probe.take_reference(3) is None
    assert probe.take_reference(4) is HOST
    assert probe.take_reference(4) is None


def test_references_of_overtaken_frames_are_dropped() -> None:
    probe = Probe()
    probe.add_reference(1, HOST, 1.0)
    assert probe.take_reference(2) is None and not probe.references


def test_a_probe_that_is_switched_off_is_never_due() -> None:
    assert not Probe(Budget(frames=10**6)).due(ProbeSettings(enabled=False, every=1))
    assert Probe(Budget(frames=1)).due(ProbeSettings(enabled=True, every=1))
