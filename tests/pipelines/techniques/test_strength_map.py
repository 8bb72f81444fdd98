"""The strength map against ordinary image-to-image, and pixel by pixel against a loop written out here."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from pipelines.techniques.strength_map import coefficients, from_mask, from_motion, merge, shares

T = 1000
ᾱ = torch.cumprod(1 - torch.linspace(0.00085**0.5, 0.012**0.5, T, dtype=torch.float64) ** 2, 0)
SIGNAL, SIGMA = ᾱ.sqrt().float(), (1 - ᾱ).sqrt().float()


def even(t0: int, n: int) -> tuple[int, ...]:
    return tuple(round(t0 * (n - k) / n) for k in range(n))


def draw(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def network(x: Tensor, t: int) -> Tensor:
    """Some ε̂ that depends on the pixel and the timestep alone, so that pixels can be followed one by one."""
    return torch.tanh(0.7 * x + t / T - 0.3)


def stream(z: Tensor, m: Tensor, timesteps: tuple[int, ...], noise: list[Tensor]) -> Tensor:
    """Differential diffusion with the module under test."""
    x0 = z
    for k, t in enumerate(timesteps):
        a, s = coefficients(m, timesteps, k, SIGNAL, SIGMA)
        x = a * x0 + s * noise[k]
        x0 = merge((x - s * network(x, t)) / a, z, m, timesteps, k)
    return x0


def ordinary(z: Tensor, timesteps: tuple[int, ...], noise: list[Tensor]) -> Tensor:
    """Image-to-image without a map."""
    x0 = z
    for t, ε in zip(timesteps, noise, strict=True):
        x = SIGNAL[t] * x0 + SIGMA[t] * ε
        x0 = (x - SIGMA[t] * network(x, t)) / SIGNAL[t]
    return x0


@pytest.mark.parametrize("n", [1, 2, 3, 4, 8])
@pytest.mark.parametrize("t0", [999, 500, 37, 1])
def test_a_map_of_ones_is_the_ordinary_stream_and_of_zeros_the_source(n: int, t0: int) -> None:
    z, noise, steps = draw(2, 4, 5, 7), [draw(2, 4, 5, 7, seed=k + 1) for k in range(n)], even(t0, n)
    assert torch.equal(stream(z, torch.ones(2, 1, 5, 7), steps, noise), ordinary(z, steps, noise))
    assert torch.equal(stream(z, torch.zeros(2, 1, 5, 7), steps, noise), z)


def test_one_step_noises_and_blends_every_pixel_by_its_own_share() -> None:
    z, ε, t0 = draw(1, 4, 6, 6), draw(1, 4, 6, 6, seed=1), 600
    m = torch.linspace(0, 1, 36).reshape(1, 1, 6, 6)
    got = stream(z, m, (t0,), [ε])
    for y in range(6):
        for x in range(6):
            share = float(m[0, 0, y, x])
            t = round(share * t0)
            noised = SIGNAL[t] * z[0, :, y, x] + SIGMA[t] * ε[0, :, y, x]
            x0 = (noised - SIGMA[t] * network(noised, t0)) / SIGNAL[t]
            expected = share * x0 + (1 - share) * z[0, :, y, x]
            torch.testing.assert_close(got[0, :, y, x], expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("n", [2, 3, 4, 5])
def test_a_pixel_joins_when_the_level_falls_to_its_strength(n: int) -> None:
    # A map of exactly the levels' shares: each pixel must come out as an ordinary stream that begins at its own level.
    z, steps = draw(1, 4, 1, n), even(800, n)
    noise = [draw(1, 4, 1, n, seed=k + 1) for k in range(n)]
    m = torch.tensor([t / 800 for t in steps]).reshape(1, 1, 1, n)
    got = stream(z, m, steps, noise)
    for j in range(n):
        late = ordinary(z, steps[j:], noise[j:])
        torch.testing.assert_close(got[..., j], late[..., j], rtol=1e-5, atol=1e-5)


def test_a_waiting_position_is_the_source_at_the_present_level() -> None:
    m = torch.tensor([0.0, 0.1, 0.49, 0.5, 0.8, 1.0]).reshape(1, 1, 1, 6)
    a, s = coefficients(m, (800, 400), 0, SIGNAL, SIGMA)
    levels = [800, 800, 800, 400, 640, 800]  # waits, waits, waits, joins at 0.5 and 0.8 of 800, takes part
    assert torch.equal(a.flatten(), SIGNAL[levels]) and torch.equal(s.flatten(), SIGMA[levels])
    a, s = coefficients(m, (800, 400), 1, SIGNAL, SIGMA)
    levels = [0, 80, 392, 400, 400, 400]
    assert torch.equal(a.flatten(), SIGNAL[levels]) and torch.equal(s.flatten(), SIGMA[levels])


def test_the_blend_fills_its_band_linearly() -> None:
    m = torch.tensor([0.0, 0.25, 0.5, 0.6, 0.75, 1.0]).reshape(1, 1, 1, 6)
    x0, z = torch.ones(1, 3, 1, 6), torch.zeros(1, 3, 1, 6)
    first, last = (merge(x0, z, m, (800, 400), k)[0, 0, 0] for k in (0, 1))
    torch.testing.assert_close(first, torch.tensor([0, 0, 0, 0.2, 0.5, 1.0]))
    torch.testing.assert_close(last, torch.tensor([0, 0.5, 1.0, 1.0, 1.0, 1.0]))


@given(
    t0=st.integers(0, 999),
    n=st.integers(1, 8),
    map_seed=st.integers(0, 100),
    coarse=st.booleans(),
)
@settings(max_examples=60)
def test_pixels_do_not_mix_and_stay_finite(t0: int, n: int, map_seed: int, coarse: bool) -> None:
    m = torch.rand(2, 1, 3, 5, generator=torch.Generator().manual_seed(map_seed))
    m = (m * 4).round() / 4 if coarse else m
    z, noise = draw(2, 4, 3, 5), [draw(2, 4, 3, 5, seed=k + 1) for k in range(n)]
    out = stream(z, m, even(t0, n), noise)
    assert out.isfinite().all()
    flipped = stream(z.flip(-1), m.flip(-1), even(t0, n), [ε.flip(-1) for ε in noise]).flip(-1)
    torch.testing.assert_close(out, flipped)
    assert torch.equal(out[:, :, m[0, 0] == 0][0], z[:, :, m[0, 0] == 0][0])
    one_row = stream(z[1], m[1], even(t0, n), [ε[1] for ε in noise])
    torch.testing.assert_close(one_row, out[1], msg="a row without its batch dimension")


def test_more_strength_never_leaves_the_source_closer() -> None:
    z, ε, m = torch.zeros(1, 1, 1, 11), torch.ones(1, 1, 1, 11), torch.linspace(0, 1, 11).reshape(1, 1, 1, 11)
    a, s = coefficients(m, (700,), 0, SIGNAL, SIGMA)
    moved = (merge(a * z + s * ε, z, m, (700,), 0)).flatten()
    assert (moved.diff() > 0).all()


def test_shares() -> None:
    assert shares((800, 600, 200)) == (1.0, 0.75, 0.25, 0.0)
    assert shares((0, 0)) == (1.0, 0.5, 0.0)
    assert shares((999,)) == (1.0, 0.0)


def test_timesteps_that_meet_make_a_threshold() -> None:
    m = torch.tensor([0.9, 1.0]).reshape(1, 1, 1, 2)
    out = merge(torch.ones(1, 1, 1, 2), torch.zeros(1, 1, 1, 2), m, (500, 500), 0)
    assert out.flatten().tolist() == [0.0, 1.0]


@pytest.mark.parametrize("shape", [(512, 512), (512, 512, 1), (384, 640, 3), (60, 44)])
def test_a_painted_mask_is_averaged_to_the_latent(shape: tuple[int, ...]) -> None:
    mask = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    h, w = (shape[0] // 4, shape[1] // 4)
    got = from_mask(mask, h, w)
    means = mask.reshape(h, 4, w, 4, -1).astype(np.float64).mean(axis=(1, 3, 4)) / 255
    assert got.shape == (1, 1, h, w) and got.dtype == torch.float32
    np.testing.assert_allclose(got[0, 0], means, atol=1e-5)


def test_full_and_empty_masks_are_exact() -> None:
    assert (from_mask(np.full((500, 300, 3), 255, np.uint8), 24, 40) == 1).all()
    assert (from_mask(np.zeros((16, 16), np.uint8), 64, 64) == 0).all()


@pytest.mark.parametrize(
    "bad",
    [np.zeros((8, 8), np.float32), np.zeros(8, np.uint8), np.zeros((8, 8, 4), np.uint8), np.zeros((0, 8), np.uint8)],
)
def test_other_masks_are_refused(bad: np.ndarray) -> None:
    with pytest.raises(ValueError, match="mask must be uint8"):
        from_mask(bad, 8, 8)


def test_motion_marks_where_it_happens() -> None:
    before = np.full((64, 64, 3), 0.5, np.float32)
    after = before.copy()
    after[20:28, 40:48] = 0.9
    m = from_motion(after, before, 64, 64, still=0.2, moving=1.0)[0, 0]
    assert (m[20:28, 40:48] == 1).all(), "the whole patch, to its edges"
    assert torch.equal(m[:16], torch.full((16, 64), 0.2)) and torch.equal(m[:, :36], torch.full((64, 36), 0.2))
    assert from_motion(after, before, 24, 40, 0.2, 1.0).shape == (1, 1, 24, 40)
    turned = from_motion(after, before, 64, 64, still=1.0, moving=0.2)[0, 0]
    torch.testing.assert_close(turned, 1.2 - m)


def test_noise_and_a_first_frame_are_no_motion() -> None:
    rng = np.random.default_rng(0)
    before, after = ((0.5 + rng.normal(0, 2 / 255 / 4, (64, 64, 3))).astype(np.float32) for _ in range(2))
    for previous in (before, None):
        m = from_motion(after, previous, 32, 48, 0.3, 1.0)
        assert torch.equal(m, torch.full((1, 1, 32, 48), 0.3))


def test_motion_is_proportional_between_quiet_and_fast() -> None:
    before = np.full((64, 64, 3), 0.5, np.float32)
    m = from_motion(before + np.float32(0.11), before, 16, 16, 0.0, 1.0)
    torch.testing.assert_close(m, torch.full_like(m, 0.5), atol=1e-5, rtol=0)
