"""The gate of one session: reset from outside, and one seed."""

from __future__ import annotations

import threading

import numpy as np

from pipelines import Settings, gate
from studio.stream.session_gate import SessionGate

STILL = np.full((128, 128, 3), 90, np.uint8)
ON = Settings().patched({"gate.enabled": True, "gate.max_skip": 300, "gate.threshold": 0.5})


def test_a_still_picture_is_skipped_until_a_reset_from_another_thread() -> None:
    one = SessionGate()
    assert [one.decide(STILL, ON).skip for _ in range(3)] == [False, True, True]
    other = threading.Thread(target=one.reset)
    other.start()
    other.join()
    assert [one.decide(STILL, ON).skip for _ in range(3)] == [False, True, True]


def test_a_reset_before_the_first_frame_is_harmless() -> None:
    one = SessionGate()
    one.reset()
    assert [one.decide(STILL, ON).skip for _ in range(2)] == [False, True]


def test_it_decides_as_a_render_with_the_same_seed() -> None:
    """Slow drift, where the die decides."""
    frames = [np.full((128, 128, 3), 90, np.uint8) + (index % 7) * np.eye(128, dtype=np.uint8)[..., None] for index in range(80)]
    patch = {"gate.enabled": True, "gate.threshold": 0.99, "gate.max_skip": 300, "seed": 7, "gate.tile_threshold": 1.0}
    settings = Settings().patched(patch)
    one, render = SessionGate(), gate.Gate(settings.seed)
    found = [one.decide(frame, settings).skip for frame in frames]
    assert found == [render.decide(frame, settings.gate, settings.version).skip for frame in frames]
    assert True in found
