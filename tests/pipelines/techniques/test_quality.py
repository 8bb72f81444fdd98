"""SSIM, PSNR and flicker against skimage and against values worked out by hand."""

import math

import numpy as np
import pytest
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from pipelines import quality


def picture(shape: tuple[int, int], seed: int = 0) -> np.ndarray:
    """Smooth shapes, edges and texture."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[0 : shape[0], 0 : shape[1]]
    waves = np.stack([127 + 90 * np.sin(x / 17 + c) * np.cos(y / (11 + c)) for c in range(3)], axis=2)
    waves[(x // 23 + y // 31) % 2 == 0] *= 0.6
    return np.clip(waves + rng.normal(0, 6, waves.shape), 0, 255).astype(np.uint8)


def worse(a: np.ndarray, how: str) -> np.ndarray:
    rng = np.random.default_rng(9)
    if how == "noise":
        return np.clip(a + rng.normal(0, 25, a.shape), 0, 255).astype(np.uint8)
    if how == "shift":
        return np.roll(a, 3, axis=1)
    if how == "dark":
        return (a * 0.5).astype(np.uint8)
    if how == "negative":
        return 255 - a
    return a.copy()


@pytest.mark.parametrize("shape", [(11, 11), (37, 53), (128, 96), (257, 300)])
@pytest.mark.parametrize("how", ["same", "noise", "shift", "dark", "negative"])
def test_ssim_and_psnr_agree_with_skimage(shape: tuple[int, int], how: str) -> None:
    a = picture(shape)
    b = worse(a, how)
    weights = np.array([0.299, 0.587, 0.114])
    peer = structural_similarity(
        a @ weights, b @ weights, data_range=255, gaussian_weights=True, sigma=1.5, use_sample_covariance=False
    )
    assert quality.ssim(a, b) == pytest.approx(peer, abs=1e-3)
    if how != "same":
        assert quality.psnr(a, b) == pytest.approx(peak_signal_noise_ratio(a, b, data_range=255), abs=1e-6)


def test_identical_pictures() -> None:
    a = picture((64, 80))
    assert quality.ssim(a, a) == pytest.approx(1.0, abs=1e-6)
    assert quality.psnr(a, a) == math.inf


@pytest.mark.parametrize(("p", "q"), [(100, 100), (0, 255), (0, 0), (255, 255), (40, 60)])
def test_ssim_of_flat_pictures_is_the_luminance_term(p: int, q: int) -> None:
    a, b = (np.full((32, 32, 3), v, np.uint8) for v in (p, q))
    expected = (2 * p * q + 2.55**2) / (p * p + q * q + 2.55**2)
    assert quality.ssim(a, b) == pytest.approx(expected, abs=2e-4)


def test_psnr_by_hand() -> None:
    a = np.zeros((16, 16, 3), np.uint8)
    assert quality.psnr(a, a + 255) == pytest.approx(0.0)
    assert quality.psnr(a, a + 1) == pytest.approx(48.1308, abs=1e-3)
    one = a.copy()
    one[0, 0, 0] = 255
    assert quality.psnr(a, one) == pytest.approx(10 * math.log10(16 * 16 * 3))


def test_measures_do_not_depend_on_the_order_and_leave_their_arguments_alone() -> None:
    a = picture((40, 40))
    b = worse(a, "noise")
    kept = a.copy(), b.copy()
    assert quality.ssim(a, b) == pytest.approx(quality.ssim(b, a), abs=1e-9)
    assert quality.psnr(a, b) == quality.psnr(b, a)
    assert (a == kept[0]).all() and (b == kept[1]).all()


def test_views_that_are_not_contiguous() -> None:
    a = picture((60, 90))
    b = worse(a, "noise")
    cut = np.s_[5:55, 10:80:1, ::-1]
    plain = quality.ssim(np.ascontiguousarray(a[cut]), np.ascontiguousarray(b[cut]))
    assert quality.ssim(a[cut], b[cut]) == plain
    assert quality.psnr(a[cut], b[cut]) == quality.psnr(np.ascontiguousarray(a[cut]), np.ascontiguousarray(b[cut]))
    assert quality.flicker(a[cut], b[cut], a[cut], a[cut]) is not None


def test_flicker_by_hand() -> None:
    source = np.full((8, 8, 3), 100, np.uint8)
    moved = source.copy()
    moved[:, 4:, 1] += 5  # one channel is enough to call the pixel moved
    moved[:, :4, 2] += 4  # sensor noise is not
    out, before = np.full((8, 8, 3), 50, np.uint8), np.full((8, 8, 3), 50, np.uint8)
    out[:, 4:] = 200  # where the input moved, the output may do as it likes
    assert quality.flicker(out, before, moved, source) == 0.0
    out[:, 0] = 53
    out[:, 1, 0] = 44
    # 8 pixels at 3 in each channel, 8 at 6 in one: over the 32 still pixels and 3 channels
    assert quality.flicker(out, before, moved, source) == pytest.approx((8 * 9 + 8 * 6) / (32 * 3))
    assert quality.flicker(out, before, moved, source, still=5) > quality.flicker(out, before, moved, source)


def test_flicker_of_a_scene_in_motion_is_unknown() -> None:
    black, white = np.zeros((8, 8, 3), np.uint8), np.full((8, 8, 3), 255, np.uint8)
    assert quality.flicker(black, white, black, white) is None


def test_compare_fills_what_an_output_carries() -> None:
    a = picture((32, 32))
    b = worse(a, "noise")
    result = quality.compare(a, b, 1.5)
    assert (result.ssim, result.psnr, result.flicker) == (quality.ssim(a, b), quality.psnr(a, b), 1.5)
    assert quality.compare(a, b).flicker is None


def test_what_cannot_be_compared_is_refused() -> None:
    a = picture((32, 32))
    with pytest.raises(ValueError, match="one shape"):
        quality.psnr(a, a[:16])
    with pytest.raises(ValueError, match="uint8"):
        quality.ssim(a, a.astype(np.float32))
    with pytest.raises(ValueError, match="11x11"):
        quality.ssim(a[:10], a[:10])
    with pytest.raises(ValueError, match="one shape"):
        quality.flicker(a, a, a, a[:16])
