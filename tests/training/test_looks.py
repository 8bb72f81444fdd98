"""Looks are deterministic functions of the picture, in range, unlike each other, and independent of their batch."""

import itertools

import pytest
import torch

from tests.training.likeness import histogram_distance, ssim
from training import scenes
from training.looks import GROUP_OF, LOOKS


@pytest.fixture(scope="module")
def pictures() -> torch.Tensor:
    return scenes.landscape(2, 96, torch.Generator().manual_seed(3))


@pytest.mark.parametrize("name", LOOKS)
def test_shape_range_and_repetition(name: str, pictures: torch.Tensor) -> None:
    x = pictures[..., :88]  # not square
    y = LOOKS[name](x)
    assert y.shape == x.shape and torch.isfinite(y).all()
    assert y.min() >= 0 and y.max() <= 1
    assert torch.equal(y, LOOKS[name](x))


@pytest.mark.parametrize("name", LOOKS)
def test_a_picture_does_not_depend_on_its_batch(name: str, pictures: torch.Tensor) -> None:
    torch.testing.assert_close(LOOKS[name](pictures)[1:], LOOKS[name](pictures[1:]), atol=1e-4, rtol=1e-4)


def test_looks_are_distinct(pictures: torch.Tensor) -> None:
    painted = {name: look(pictures) for name, look in LOOKS.items()}
    for (a, x), (b, y) in itertools.combinations(painted.items(), 2):
        assert histogram_distance(x, y) > 0.3 or ssim(x, y) < 0.75, (a, b)


def test_black_and_white_stay_finite() -> None:
    for name, look in LOOKS.items():
        for value in (0.0, 1.0):
            y = look(torch.full((1, 3, 64, 64), value))
            assert torch.isfinite(y).all() and y.min() >= 0 and y.max() <= 1, name


def test_at_least_24_looks_of_seven_groups() -> None:
    assert len(LOOKS) >= 24 and next(iter(LOOKS)) == "photo"
    assert set(GROUP_OF) == set(LOOKS) and len(set(GROUP_OF.values())) == 7


@pytest.mark.parametrize("name", LOOKS)
def test_a_window_shows_the_same_look(name: str) -> None:
    """Moved by multiples of 8 pixels a look moves along: what lies beyond 24 pixels has no effect, apart from wide halos."""
    x = scenes.landscape(1, 192, torch.Generator().manual_seed(5))
    whole, window = LOOKS[name](x), LOOKS[name](x[..., 24:184, 16:176])
    inside = slice(48, -48)
    difference = (whole[..., 24:184, 16:176] - window)[..., inside, inside].abs()
    assert difference.mean() < 0.004


@pytest.mark.parametrize("name", LOOKS)
def test_sensor_noise_stays_noise(name: str) -> None:
    """Noise of 2/255 changes no look by more than 1.5 times itself: no sign flips, no jumps between strokes."""
    rng = torch.Generator().manual_seed(7)
    x = scenes.landscape(2, 96, rng) * 0.9 + 0.05
    noise = torch.randn(x.shape, generator=rng) * 2 / 255
    change = (LOOKS[name](x + noise) - LOOKS[name](x)).abs().mean()
    assert change < 1.5 * noise.abs().mean()


@pytest.mark.parametrize("name", ["pixel", "mosaic", "embroidery", "halftone", "blueprint"])
def test_even_areas_show_the_look(name: str) -> None:
    """A sky in it is no photograph of a sky: what repeats with 8 pixels is there where the picture has nothing."""
    y = LOOKS[name](torch.full((1, 3, 64, 64), 0.6))[..., 24:40, 24:40]
    assert y.std((2, 3)).max() > 0.02
    torch.testing.assert_close(y[..., :8, :8], y[..., 8:, 8:], atol=1e-3, rtol=0)


def test_pixel_art_has_dark_gaps_between_blocks_of_one_colour(pictures: torch.Tensor) -> None:
    cells = torch.nn.functional.pixel_unshuffle(LOOKS["pixel"](pictures), 8).unflatten(1, (3, 8, 8))
    inside = cells[:, :, :7, :7]
    assert float((inside - inside[:, :, :1, :1]).abs().max()) == 0
    torch.testing.assert_close(cells[:, :, 7], 0.75 * cells[:, :, :1, 0].expand_as(cells[:, :, 7]))
    torch.testing.assert_close(cells[:, :, :7, 7], 0.75 * inside[:, :, :, 0])
