"""The optical flow of the input, and where it is trusted."""

import cv2
import numpy as np
import pytest

from pipelines.techniques import motion
from pipelines.techniques.motion import Follower, follow, small
from pipelines.values.types import Pixels

RNG = np.random.default_rng(5)


def texture(height: int, width: int, seed: int = 0) -> Pixels:
    """A smooth random picture with the full range of greys."""
    noise = np.random.default_rng(seed).random((height, width, 3)).astype(np.float32)
    soft = cv2.GaussianBlur(noise, (0, 0), 2.5)
    return np.rint((soft - soft.min()) / (soft.max() - soft.min()) * 255).astype(np.uint8)


@pytest.mark.parametrize(("x", "y"), [(0, 0), (3, 0), (0, -2), (-4, 3), (2.5, -1.25)])
@pytest.mark.parametrize("size", [(128, 128), (64, 96), (32, 32)])
def test_a_known_translation_is_found_and_trusted(x: float, y: float, size: tuple[int, int]) -> None:
    height, width = size
    wide = texture(height + 40, width + 40)
    older = wide[20 : 20 + height, 20 : 20 + width]
    shift = np.array([[1, 0, -20 + x], [0, 1, -20 + y]], np.float32)
    newer = cv2.warpAffine(wide, shift, (width, height), flags=cv2.INTER_LINEAR)
    found = follow(np.ascontiguousarray(older), newer)
    inner = (slice(8, -8), slice(8, -8))
    wrong = np.linalg.norm(found.back - (-x, -y), axis=-1)[inner]
    trust = found.trust[inner]
    assert np.quantile(wrong[trust > 0.5], 0.95) < 0.75, "what is trusted is right"
    if min(size) >= 64:
        assert np.median(wrong) < 0.15 and trust.mean() > 0.9


def test_what_comes_from_outside_is_not_trusted() -> None:
    wide = texture(64, 100)
    found = follow(np.ascontiguousarray(wide[:, 6:70]), np.ascontiguousarray(wide[:, :64]))  # the view moves 6 to the left
    assert found.trust[:, :5].max() == 0.0 and found.trust[8:-8, 20:-8].min() > 0.9


def test_ground_that_was_covered_is_not_trusted() -> None:
    ground = texture(96, 96, 1)
    older, newer = ground.copy(), ground.copy()
    thing = np.zeros((24, 24, 3), np.uint8)
    thing[::4], thing[:, ::4] = 255, 255
    older[36:60, 24:48], newer[36:60, 34:58] = thing, thing
    found = follow(older, newer)
    bared = found.trust[40:56, 25:32]  # seen in the newer input only
    assert bared.mean() < 0.2
    assert found.trust[:24].min() > 0.9 and found.trust[-24:].min() > 0.9


@pytest.mark.parametrize("seed", range(4))
def test_a_scene_cut_is_trusted_nowhere(seed: int) -> None:
    assert follow(texture(128, 128, seed), texture(128, 128, seed + 10)).lost


def test_a_flash_is_trusted_nowhere_and_sensor_noise_everywhere() -> None:
    picture = texture(128, 128)
    assert follow(picture // 3, picture).lost
    noisy = np.clip(picture + RNG.normal(0, 2, picture.shape), 0, 255).astype(np.uint8)
    assert follow(picture, noisy).trust.min() > 0.95


@pytest.mark.parametrize("value", [0, 128, 255])
@pytest.mark.parametrize("size", [(128, 128), (32, 64), (16, 16)])
def test_even_pictures_have_finite_flow_and_stand_still(value: int, size: tuple[int, int]) -> None:
    flat = np.full((*size, 3), value, np.uint8)
    found = follow(flat, flat.copy())
    assert np.isfinite(found.back).all() and np.isfinite(found.trust).all()
    assert np.abs(found.back).max() < 0.1 and found.trust.min() > 0.9


@pytest.mark.parametrize("sizes", [((8, 8), (8, 8)), ((15, 64), (15, 64)), ((32, 32), (64, 64)), ((1, 1), (1, 1))])
def test_other_sizes_and_tiny_ones_have_nothing_in_common(sizes: tuple[tuple[int, int], tuple[int, int]]) -> None:
    older, newer = (np.zeros((*size, 3), np.uint8) for size in sizes)
    found = follow(older, newer)
    assert found.lost and found.back.shape == (*sizes[1], 2) and found.trust.shape == sizes[1]


def test_trust_lies_between_0_and_1_whatever_comes() -> None:
    for height, width in [(16, 40), (33, 47), (128, 128)]:
        found = follow(*(RNG.integers(0, 256, (height, width, 3), dtype=np.uint8) for _ in range(2)))
        assert np.isfinite(found.back).all() and 0 <= found.trust.min() <= found.trust.max() <= 1


def test_places_and_trust_at_another_size_are_in_its_pixels() -> None:
    found = motion.Motion(np.full((8, 16, 2), (2.0, -1.0), np.float32), np.full((8, 16), 0.5, np.float32))
    places = found.places(32, 64)
    assert places.shape == (32, 64, 2)
    np.testing.assert_allclose(places[5, 9], (9 + 8, 5 - 4))
    assert found.trusted(4, 8).shape == (4, 8) and found.trusted(4, 8).max() == 0.5


def test_a_small_input_is_a_quarter_and_bad_arrays_are_refused() -> None:
    pixels = RNG.integers(0, 256, (64, 128, 3), dtype=np.uint8)
    made = small(pixels)
    assert made.shape == (16, 32, 3)
    expected = pixels.reshape(16, 4, 32, 4, 3).mean(axis=(1, 3))
    assert np.abs(made - expected).max() <= 0.5
    for bad in (pixels[..., 0], pixels.astype(np.float32), pixels[:0]):
        with pytest.raises(ValueError, match="uint8"):
            small(bad)


def test_a_follower_computes_each_pair_once() -> None:
    a, b, c = (texture(32, 32, seed) for seed in range(3))
    follower = Follower()
    first = follower.between(a, b)
    assert follower.between(a, b) is first
    assert follower.between(b, c) is not first and follower.between(a.copy(), b) is not first
