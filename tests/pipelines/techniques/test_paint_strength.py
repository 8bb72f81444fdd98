"""What the strength does to a painted look."""

from itertools import pairwise

import pytest
import torch
import torch.nn.functional as F

from pipelines.networks import pixels
from pipelines.techniques import paint_strength
from pipelines.techniques.paint_strength import FREEST, FULL, LEVELS


def softened(x: torch.Tensor, softness: torch.Tensor) -> torch.Tensor:
    """Of pictures [B, 3, H, W]."""
    return F.pixel_shuffle(pixels.softened(F.pixel_unshuffle(x, 2), softness), 2)


def test_the_pyramid_is_that_of_whole_pictures() -> None:
    """Two levels by plain operations at full size."""
    x = torch.rand(1, 3, 48, 40)
    taps = torch.tensor([1.0, 3.0, 3.0, 1.0]) / 8
    half = F.conv2d(x, torch.outer(taps, taps).expand(3, 1, 4, 4), stride=2, padding=1, groups=3)
    expected = F.interpolate(half, scale_factor=2.0, mode="bilinear")
    torch.testing.assert_close(softened(x, torch.tensor([1.0]))[..., 4:-4, 4:-4], expected[..., 4:-4, 4:-4])


def test_paint_grows_up_to_full_and_blur_beyond() -> None:
    strengths = [0.0, 0.2, 0.35, FULL, 0.65, 0.8, FREEST]
    assert [paint_strength.amount(s) for s in strengths] == pytest.approx([0, 0.4, 0.7, 1, 1, 1, 1])
    softness = [paint_strength.softness(s) for s in strengths]
    assert softness[:4] == [0, 0, 0, 0] and all(a < b for a, b in pairwise(softness[3:])) and softness[-1] == LEVELS


def test_a_prompt_alone_is_painted_as_it_is_and_the_way_there_has_no_jump() -> None:
    assert paint_strength.softness(1.0) == 0.0 and paint_strength.amount(1.0) == 1.0
    steps = [paint_strength.softness(FREEST + k / 1000) for k in range(101)]
    assert max(a - b for a, b in pairwise(steps)) < 0.05 and steps[-1] == 0.0


def test_a_style_moves_away_from_the_mean_beyond_full_and_keeps_its_tone() -> None:
    mean, numbers = torch.tensor([1.0, 2.0]), torch.cat([torch.tensor([2.0, 0.0]), torch.arange(7.0)])
    for strength in (0.2, FULL, 1.0):
        torch.testing.assert_close(paint_strength.freed(numbers, mean, strength), numbers)
    found = paint_strength.freed(numbers, mean, FREEST)
    torch.testing.assert_close(found, torch.cat([torch.tensor([2.5, -1.0]), torch.arange(7.0)]))
    between = paint_strength.freed(numbers, mean, (FULL + FREEST) / 2)
    torch.testing.assert_close(between[:2], torch.tensor([2.25, -0.5]))


def test_softening_widens_a_point_level_by_level_and_keeps_its_light() -> None:
    x = torch.zeros(1, 3, 64, 64)
    x[..., 32, 32] = 1.0
    across = (torch.arange(64.0) - 32).square()
    spreads = []
    for level in (0.0, 0.5, 1.0, 1.5, 2.0, 3.0):
        found = softened(x, torch.tensor([level]))[0, 0]
        assert float(found.sum()) == pytest.approx(1.0, abs=1e-4)
        spreads.append(float((found.sum(0) * across).sum()) ** 0.5)
    assert spreads[0] == 0.0 and all(a < b for a, b in pairwise(spreads))
    assert [spreads[2], *spreads[4:]] == pytest.approx([1.225, 2.739, 4.848], abs=0.01)


def test_each_row_has_its_own_softness_and_a_flat_picture_stays_flat() -> None:
    x = torch.rand(2, 3, 24, 32) * 2 - 1
    found = softened(x, torch.tensor([0.0, 2.5]))
    torch.testing.assert_close(found[0], x[0])
    torch.testing.assert_close(found[1], softened(x[1:], torch.tensor([2.5]))[0])
    flat = torch.full((1, 3, 16, 16), 0.3)
    torch.testing.assert_close(softened(flat, torch.tensor([3.0])), flat)


def test_softening_has_hardly_a_grid() -> None:
    """A picture moved by a pixel is softened to the same picture, moved: but for some of what is as fine as a pixel."""
    x = F.avg_pool2d(torch.rand(1, 3, 96, 96, generator=torch.Generator().manual_seed(0)), 3, 1, 1)
    for level, share in ((1.0, 0.07), (2.0, 0.04), (3.0, 0.01)):
        found, moved = softened(x, torch.tensor([level])), softened(x.roll(1, 3), torch.tensor([level]))
        assert (found.roll(1, 3) - moved)[..., 36:60, 36:60].abs().mean() < share * x.std()
