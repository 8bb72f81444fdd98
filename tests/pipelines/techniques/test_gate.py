"""The similarity gate against the paper's formula, worked out here on its own."""

from dataclasses import replace
from itertools import pairwise

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.techniques import gate as gates
from pipelines.techniques.gate import Gate, GateState, Thumb, cosine, thumbnail, tile_change
from pipelines.values.settings import GateSettings

ON = GateSettings(enabled=True)
OPEN = replace(ON, tile_threshold=1.0, max_skip=300)
"""Only the stochastic rule: no tile changes by more than full scale."""


def decide(
    state: GateState, thumb: Thumb, settings: GateSettings, uniform: float, identity: object = None
) -> tuple[bool, GateState]:
    """Whether the frame is skipped, and the next state."""
    answer, state = gates.decide(state, thumb, settings, uniform, identity)
    assert answer.thumb is thumb
    return answer.skip, state


def flat(value: float) -> np.ndarray:
    return np.full((64, 64, 3), value, np.float32)


def seen(thumb: np.ndarray, skips: int = 0) -> GateState:
    return GateState(thumb, None, skips)


def plain_cosine(a: np.ndarray, b: np.ndarray) -> float:
    return sum(x * y for x, y in zip(a.ravel().tolist(), b.ravel().tolist(), strict=True)) / (
        float(np.linalg.norm(a.astype(np.float64))) * float(np.linalg.norm(b.astype(np.float64)))
    )


def camera(size: int, rng: np.random.Generator, hand: tuple[float, float] | None = None, bright: float = 200) -> np.ndarray:
    """A bright wall with sensor noise of σ = 2/255 and, at `hand` (0..1), an ellipse of a tenth of the picture's width."""
    wall = np.full((size, size, 3), bright, np.float32) + np.linspace(-30, 30, size, dtype=np.float32)[:, None, None]
    if hand is not None:
        mask = np.zeros((size, size), np.float32)
        centre = (int(hand[0] * size), int(hand[1] * size))
        cv2.ellipse(mask, centre, (int(size * 0.04), int(size * 0.05)), 20, 0, 360, 1.0, -1, cv2.LINE_AA)
        wall = wall * (1 - mask[..., None]) + np.array([205, 160, 135], np.float32) * mask[..., None]
    return np.clip(wall + rng.normal(0, 2, wall.shape), 0, 255).round().astype(np.uint8)


@pytest.mark.parametrize("shape", [(128, 128), (256, 512), (512, 256), (768, 768)])
def test_thumbnail_is_the_mean_of_each_area(shape: tuple[int, int]) -> None:
    h, w = shape
    pixels = np.random.default_rng(0).integers(0, 256, (h, w, 3), dtype=np.uint8)
    means = pixels.reshape(64, h // 64, 64, w // 64, 3).mean(axis=(1, 3)) / 255
    thumb = thumbnail(pixels)
    assert thumb.shape == (64, 64, 3) and thumb.dtype == np.float32
    assert np.abs(thumb - means).max() < 0.51 / 255
    assert thumb.min() >= 0 and thumb.max() <= 1


@pytest.mark.parametrize(
    "bad", [np.zeros((64, 64), np.uint8), np.zeros((64, 64, 4), np.uint8), np.zeros((64, 64, 3), np.float32)]
)
def test_thumbnail_refuses_other_arrays(bad: np.ndarray) -> None:
    with pytest.raises(ValueError, match="uint8"):
        thumbnail(bad)


def test_cosine_matches_the_plain_sum() -> None:
    rng = np.random.default_rng(1)
    a, b = rng.random((64, 64, 3), np.float32), rng.random((64, 64, 3), np.float32)
    assert cosine(a, b) == pytest.approx(plain_cosine(a, b), abs=1e-9)
    assert cosine(a, a) == 1.0


def test_black_frames_have_a_cosine() -> None:
    assert cosine(flat(0), flat(0)) == 1.0
    assert cosine(flat(0), flat(0.5)) == 0.0
    assert cosine(flat(0.5), flat(0)) == 0.0
    assert decide(seen(flat(0)), flat(0), ON, 0.9999)[0]
    assert not decide(seen(flat(0)), flat(0.001), ON, 0.0)[0], "the lens cap comes off"


@pytest.mark.parametrize("tilt", [0.05, 0.1, 0.15, 0.19, 0.3])
def test_skip_rate_follows_the_formula(tilt: float) -> None:
    # Two halves, one brighter by a share `tilt`: the cosine against the flat picture is known in closed form.
    thumb = flat(0.5)
    thumb[:, 32:] *= 1 + tilt
    cos = (1 + (1 + tilt)) / (np.sqrt(2) * np.sqrt(1 + (1 + tilt) ** 2))
    eta = 0.99
    p = max(0.0, 1 - (1 - cos) / (1 - eta))
    rng, n = np.random.default_rng(7), 1500
    rule = replace(OPEN, threshold=eta)
    skipped = sum(decide(seen(flat(0.5)), thumb, rule, float(rng.random()))[0] for _ in range(n))
    assert abs(skipped - n * p) <= 4 * np.sqrt(n * p * (1 - p)) + 1e-9
    if p == 0:
        assert skipped == 0


@given(u=st.floats(0, 1), tilt=st.floats(0, 0.5), eta=st.floats(0.5, 0.9999))
def test_the_die_alone_decides_between_equal_scores(u: float, tilt: float, eta: float) -> None:
    thumb = flat(0.5)
    thumb[:, 32:] *= np.float32(1 + tilt)
    p = max(0.0, 1 - (1 - plain_cosine(thumb, flat(0.5))) / (1 - eta))
    if abs(p - u) < 1e-6:
        return
    assert decide(seen(flat(0.5)), thumb, replace(OPEN, threshold=eta), u)[0] is (p > u)


def test_dissimilar_frames_pass_even_on_a_zero() -> None:
    thumb = flat(0.0)
    thumb[:, :32] = 1
    assert not decide(seen(thumb[:, ::-1]), thumb, OPEN, 0.0)[0]


def test_a_run_of_skips_is_capped_and_a_processed_frame_starts_a_new_one() -> None:
    rule, state, skips = replace(ON, max_skip=4), GateState(), []
    for _ in range(20):
        skip, state = decide(state, flat(0.5), rule, 0.5)
        skips.append(skip)
    assert skips == ([False] + [True] * 4) * 4
    assert state.skips == 4


def test_a_frame_that_passes_midway_resets_the_count() -> None:
    rule, state = replace(ON, max_skip=4), seen(flat(0.5), skips=3)
    skip, state = decide(state, flat(0.9), rule, 0.5)
    assert not skip and state.skips == 0
    for expected in (True, True, True, True, False):
        skip, state = decide(state, flat(0.9), rule, 0.5)
        assert skip is expected


def test_the_reference_is_the_last_processed_frame() -> None:
    # A slow fade: each frame resembles its neighbour, yet the change since the last processed one adds up.
    rule, state, passed = replace(ON, max_skip=300), GateState(), []
    for value in np.linspace(0.4, 0.5, 101):
        skip, state = decide(state, flat(float(value)), rule, 0.5)
        if not skip:
            passed.append(float(value))
    assert len(passed) == 5  # at 0.4, then each time just over 0.02 has gathered
    assert all(0.0199 < b - a < 0.0221 for a, b in pairwise(passed))


def test_a_settings_change_lets_the_next_frame_through() -> None:
    _, state = decide(GateState(), flat(0.5), ON, 0.5, identity=1)
    assert decide(state, flat(0.5), ON, 0.5, identity=1)[0]
    assert not decide(state, flat(0.5), ON, 0.5, identity=2)[0]


def test_switched_off_it_lets_everything_through() -> None:
    assert not decide(seen(flat(0.5)), flat(0.5), GateSettings(enabled=False), 0.0)[0]


@pytest.mark.parametrize("size", [128, 256, 512])
def test_sensor_noise_does_not_trip_the_tiles(size: int) -> None:
    rng = np.random.default_rng(3)
    thumbs = [thumbnail(camera(size, rng, (0.5, 0.5), bright)) for bright in (40, 120, 200) for _ in range(2)]
    assert max(tile_change(*pair) for pair in (thumbs[:2], thumbs[2:4], thumbs[4:])) < ON.tile_threshold / 3


@pytest.mark.parametrize("size", [256, 512])
@pytest.mark.parametrize("bright", [40, 120, 200, 225])
def test_a_waving_hand_always_passes(size: int, bright: float) -> None:
    # A tenth of the picture's width, moving by a fifth of its own: the global rule scores it as the same picture.
    rng = np.random.default_rng(4)
    for _ in range(8):
        x, y = rng.uniform(0.1, 0.85, 2)
        before, after = (thumbnail(camera(size, rng, (at, y), bright)) for at in (x, x + 0.02))
        if bright >= 200:
            assert decide(seen(before), after, replace(ON, tile_threshold=1.0), 0.9)[0], "the tiles are what saves it"
        assert not decide(seen(before), after, ON, 0.0)[0]


@given(x=st.integers(0, 55), y=st.integers(0, 55))
def test_a_moved_patch_counts_the_same_wherever_the_tiles_lie(x: int, y: int) -> None:
    thumb = flat(0.5)
    thumb[y : y + 4, x : x + 4] += 0.4
    assert tile_change(thumb, flat(0.5)) >= 0.4 * 16 / 64 * 0.99, "a 4x4 patch always lies in one of the overlapping tiles"


def test_tile_change_is_the_mean_over_the_worst_window() -> None:
    rng = np.random.default_rng(5)
    a, b = rng.random((64, 64, 3), np.float32), rng.random((64, 64, 3), np.float32)
    worst = max(
        float(np.abs(a[i : i + 8, j : j + 8] - b[i : i + 8, j : j + 8]).mean()) for i in range(0, 57, 4) for j in range(0, 57, 4)
    )
    assert tile_change(a, b) == pytest.approx(worst, abs=1e-6)


def test_the_gate_repeats_itself_for_a_seed_and_differs_between_seeds() -> None:
    rng = np.random.default_rng(6)
    frames = [camera(128, rng, (0.5, 0.5), 120 + 3 * (i % 3)) for i in range(60)]
    rule = replace(ON, threshold=0.9999, tile_threshold=0.5)

    def run(seed: int) -> list[bool]:
        gate = Gate(seed)
        return [gate.decide(frame, rule, 0).skip for frame in frames]

    assert run(1) == run(1)
    assert run(1) != run(2)
    assert 0 < sum(run(1)) < 60


def test_the_gate_agrees_with_the_pure_rule_and_its_own_dice() -> None:
    rng = np.random.default_rng(8)
    frames = [camera(128, rng, (0.5, 0.5), 120 + 3 * (i % 3)) for i in range(40)]
    rule, gate, dice, state = replace(ON, threshold=0.9999, tile_threshold=0.5), Gate(9), np.random.default_rng(9), GateState()
    for i, frame in enumerate(frames):
        skip, state = decide(state, thumbnail(frame), rule, float(dice.random()), i // 15)
        answer = gate.decide(frame, rule, i // 15)
        assert answer.skip is skip
        if skip:
            assert answer.scores.p_skip > 0 and answer.scores.cosine > 0.99


def test_the_gate_throws_one_die_per_frame_whatever_it_answers() -> None:
    frame, off, dice = camera(128, np.random.default_rng(0)), GateSettings(enabled=False), np.random.default_rng(5)
    gate = Gate(5)
    gate.decide(frame, ON, 0)
    gate.decide(frame, off, 0)
    gate.decide(None, ON, 0)
    dice.random(3)
    assert gate._dice.random() == dice.random()


def test_nothing_is_compared_across_a_pause_of_the_gate_or_a_lost_frame() -> None:
    frame, gate = camera(128, np.random.default_rng(0)), Gate(0)
    assert [gate.decide(frame, ON, 0).skip for _ in range(2)] == [False, True]
    gate.forget()
    assert [gate.decide(frame, ON, 0).skip for _ in range(2)] == [False, True]
    gate.decide(frame, GateSettings(enabled=False), 0)
    assert [gate.decide(frame, ON, 0).skip for _ in range(2)] == [False, True]
    gate.decide(None, ON, 0)
    assert not gate.decide(frame, ON, 0).skip


def test_another_picture_size_compares_by_content() -> None:
    gate = Gate(0)
    gate.decide(np.full((256, 256, 3), 90, np.uint8), ON, 0)
    assert gate.decide(np.full((128, 512, 3), 90, np.uint8), ON, 0).skip, (
        "thumbnails have one shape; the spec's change is the owner's"
    )
