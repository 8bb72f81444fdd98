import math

import pytest
import torch

from pipelines.techniques.noise import LevelNoise, SessionNoise, motion_strength

SHAPE = (4, 32, 32)


def test_seed_and_level_fix_the_noise() -> None:
    assert torch.equal(SessionNoise(7, SHAPE).level(2), SessionNoise(7, SHAPE).level(2))
    draws = [SessionNoise(seed, SHAPE).level(level) for seed in (0, 1) for level in (0, 1)]
    for i, a in enumerate(draws):
        for b in draws[:i]:
            assert abs(torch.corrcoef(torch.stack([a.flatten(), b.flatten()]))[0, 1]) < 0.06  # 4 sigma of 4096 samples


def test_levels_do_not_depend_on_the_order_of_use() -> None:
    forward, backward = SessionNoise(3, SHAPE), SessionNoise(3, SHAPE)
    a = [forward.level(level) for level in (0, 1, 2)]
    b = [backward.level(level) for level in (2, 1, 0)]
    assert all(torch.equal(x, y) for x, y in zip(a, reversed(b), strict=True))


def test_walk_stays_standard_normal_and_smooth_across_targets() -> None:
    noise = LevelNoise(5, 0, SHAPE)
    step = 0.2
    previous = noise.value
    for _ in range(30):  # passes several quarter circles
        noise.advance(step)
        assert noise.value.std().item() == pytest.approx(1.0, abs=0.05)
        moved = (noise.value - previous).norm() / previous.norm()
        assert moved.item() == pytest.approx(2 * math.sin(step / 2), abs=0.06)
        previous = noise.value


def test_standing_still_changes_nothing() -> None:
    noise = LevelNoise(5, 0, SHAPE)
    before = noise.value.clone()
    noise.advance(0.0)
    assert torch.equal(before, noise.value)


@pytest.mark.parametrize(
    "difference, amount, expected", [(0, 1, 0.6), (0.1, 1, 0.45), (0.2, 1, 0.3), (9, 1, 0.3), (9, 0, 0.6), (0.2, 0.5, 0.45)]
)
def test_motion_lowers_the_strength(difference: float, amount: float, expected: float) -> None:
    assert motion_strength(0.6, difference, amount) == pytest.approx(expected)
