"""Pictures and latents that follow the input's motion, against loops over their pixels."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from pipelines.techniques import consistency
from pipelines.techniques.motion import Motion
from tests.pipelines.techniques.test_motion import texture

Kernel = Callable[[float], float]


def linear(distance: float) -> float:
    return max(0.0, 1.0 - abs(distance))


def cubic(distance: float, a: float = -0.75) -> float:
    """Keys' kernel."""
    d = abs(distance)
    if d <= 1:
        return (a + 2) * d**3 - (a + 3) * d**2 + 1
    return a * d**3 - 5 * a * d**2 + 8 * a * d - 4 * a if d < 2 else 0.0


def sampled(values: NDArray[np.float64], x: float, y: float, kernel: Kernel) -> NDArray[np.float64]:
    """values [H, W, C] at a place, with its border repeated outside."""
    height, width = values.shape[:2]
    found = np.zeros(values.shape[2])
    for row in range(int(np.floor(y)) - 1, int(np.floor(y)) + 3):
        for column in range(int(np.floor(x)) - 1, int(np.floor(x)) + 3):
            pixel = values[min(max(row, 0), height - 1), min(max(column, 0), width - 1)]
            found += kernel(y - row) * kernel(x - column) * pixel
    return found


def moved(values: NDArray[np.float64], motion: Motion, kernel: Kernel) -> NDArray[np.float64]:
    """values [H, W, C] moved along by a loop; the motion has their size."""
    found = np.empty_like(values)
    for y in range(values.shape[0]):
        for x in range(values.shape[1]):
            dx, dy = motion.back[y, x]
            found[y, x] = sampled(values, x + dx, y + dy, kernel)
    return found


def a_motion(height: int, width: int) -> Motion:
    """Motion in quarters of a pixel, some of it from outside, and every trust."""
    rng = np.random.default_rng(1)
    back = rng.integers(-12, 13, (height, width, 2)).astype(np.float32) / 4
    return Motion(back, rng.random((height, width)).astype(np.float32))


@pytest.mark.parametrize("size", [(16, 16), (7, 13), (1, 5)])
@pytest.mark.parametrize("amount", [0.3, 0.9])
def test_a_picture_is_mixed_with_the_last_one_as_a_loop_does_it(size: tuple[int, int], amount: float) -> None:
    height, width = size
    new, last, motion = texture(height, width, 1), texture(height, width, 2), a_motion(height, width)
    weight = amount * motion.trust[..., None]
    expected = (1 - weight) * new + weight * moved(last.astype(float), motion, cubic).clip(0, 255)
    got = consistency.fed_back(torch.from_numpy(new), torch.from_numpy(last), motion, amount)
    assert got.dtype == torch.uint8 and got.shape == (height, width, 3)
    assert np.abs(got.numpy() - expected).max() <= 1.01


@pytest.mark.parametrize("size", [(16, 16), (7, 13)])
def test_other_devices_compute_what_a_cpu_does(size: tuple[int, int]) -> None:
    new, last = (torch.from_numpy(texture(*size, seed)) for seed in (1, 2))
    motion = a_motion(*size)
    host = consistency.fed_back(new, last, motion, 0.7)
    other = consistency.by_torch(new, last, motion, 0.7)
    assert (host.int() - other.int()).abs().max() <= 1


def test_a_latent_is_moved_as_a_loop_does_it() -> None:
    latent, motion = torch.randn(5, 9, 12, generator=torch.Generator().manual_seed(0)), a_motion(9, 12)
    got, trust = consistency.moved(latent, motion)
    expected = moved(latent.permute(1, 2, 0).double().numpy(), motion, linear)
    np.testing.assert_allclose(got.permute(1, 2, 0).numpy(), expected, atol=1e-5)
    assert trust.shape == (1, 9, 12) and np.array_equal(trust[0].numpy(), motion.trust)


@pytest.mark.parametrize(("x", "y"), [(3, -2), (0, 0), (-5, 1)])
def test_a_translation_by_whole_pixels_is_exact(x: int, y: int) -> None:
    last = texture(40, 48, 3)
    still = Motion(np.full((10, 12, 2), (-x / 4, -y / 4), np.float32), np.ones((10, 12), np.float32))
    black = torch.zeros(40, 48, 3, dtype=torch.uint8)
    got = consistency.fed_back(black, torch.from_numpy(last), still, 1.0).numpy()
    rolled = np.roll(last, (y, x), axis=(0, 1))
    inner = (slice(8, -8), slice(8, -8))
    assert np.array_equal(got[inner], rolled[inner])


def test_without_trust_the_picture_stays_bit_by_bit() -> None:
    new, last = (torch.from_numpy(texture(32, 32, seed)) for seed in (4, 5))
    lost = Motion(np.full((8, 8, 2), 3.0, np.float32), np.zeros((8, 8), np.float32))
    assert consistency.fed_back(new, last, lost, 0.9) is new
    assert consistency.fed_back(new, last, Motion(lost.back, lost.trust + 1), 0.0) is new
    half = Motion(lost.back, np.repeat(np.float32([[0.0, 1.0]]), 4, axis=1).repeat(8, axis=0))
    for got in (consistency.fed_back(new, last, half, 0.9), consistency.by_torch(new, last, half, 0.9)):
        assert torch.equal(got[:, :12], new[:, :12]) and not torch.equal(got[:, 20:], new[:, 20:])


def test_extreme_pictures_do_not_overflow() -> None:
    edge = torch.zeros(32, 32, 3, dtype=torch.uint8)
    edge[:, 16:] = 255
    motion = Motion(np.full((8, 8, 2), 0.6, np.float32), np.ones((8, 8), np.float32))
    for got in (consistency.fed_back(edge, edge, motion, 1.0), consistency.by_torch(edge, edge, motion, 1.0)):
        assert got[:, :8].max() == 0 and got[:, -8:].min() == 255


def test_pictures_that_are_views_are_taken() -> None:
    new, last = (torch.from_numpy(texture(3, 32, seed).copy()).permute(2, 1, 0)[..., :3] for seed in (4, 5))
    motion = a_motion(3, 32)
    assert torch.equal(
        consistency.fed_back(new, last, motion, 0.5), consistency.fed_back(new.contiguous(), last.contiguous(), motion, 0.5)
    )
