"""The trunk: rows that know nothing of each other, any size, no frame, statistics that can be kept."""

import pytest
import torch
import torch.nn.functional as F

from pipelines.networks.painter import Painter
from pipelines.networks.trunk import Doubling, Norm, TrunkPainter


@pytest.fixture
def tiny() -> TrunkPainter:
    torch.manual_seed(0)
    model = TrunkPainter(channels=8, num_blocks=1, half_channels=4, num_styles=2, looks={"a": {"0": 1.0}}).eval()
    model.styles.data.add_(torch.randn_like(model.styles))
    return model


@torch.no_grad()
def test_a_folded_style_paints_the_same_without_statistics(tiny: TrunkPainter) -> None:
    pictures = torch.rand(2, 3, 24, 40) * 2 - 1
    wanted = tiny(pictures, tiny.styles)
    folded = tiny.fold(pictures, tiny.styles)
    torch.testing.assert_close(tiny(pictures, folded, kept=True), wanted, atol=1e-4, rtol=1e-4)
    assert (tiny(pictures, tiny.styles, kept=True) - wanted).abs().mean() > 0.01  # it is the folding that does it
    nearby = (pictures + 0.02 * torch.randn_like(pictures)).clamp(-1, 1)
    assert (tiny(nearby, folded, kept=True) - tiny(nearby, tiny.styles)).abs().mean() < 0.05


@torch.no_grad()
@pytest.mark.parametrize("tone", [0, 7])
def test_a_packed_picture_is_painted_as_a_whole_one(tiny: TrunkPainter, tone: int) -> None:
    published = Painter(channels=4, blocks=1, num_styles=2)
    published.styles = torch.rand_like(published.styles)
    x = torch.rand(2, 3, 24, 40) * 2 - 1
    for model in (tiny, published):
        styles = torch.cat([model.styles.detach(), torch.rand(2, tone)], 1)
        wanted = F.pixel_unshuffle(model(x, styles), 2)
        torch.testing.assert_close(model.paint_packed(F.pixel_unshuffle(x, 2), styles), wanted, atol=1e-5, rtol=1e-4)


@torch.no_grad()
def test_one_style_folds_to_one_for_each_row(tiny: TrunkPainter) -> None:
    pictures = torch.rand(3, 3, 16, 16) * 2 - 1
    folded = tiny.fold(pictures, tiny.styles[:1])
    assert folded.shape == (3, tiny.style_numbers) and not torch.equal(folded[0], folded[1])
    torch.testing.assert_close(tiny(pictures, folded, kept=True), tiny(pictures, tiny.styles[:1]), atol=1e-4, rtol=1e-4)


def test_trunk_rows_are_independent_and_sizes_are_free(tiny: TrunkPainter) -> None:
    model = tiny
    pictures = torch.rand(2, 3, 24, 40) * 2 - 1
    with torch.no_grad():
        together = model(pictures, model.styles)
        for row in range(2):
            torch.testing.assert_close(together[row : row + 1], model(pictures[row : row + 1], model.styles[row : row + 1]))
    assert together.shape == pictures.shape and together.abs().max() <= 1
    assert (together[0] - model(pictures[:1], model.styles[1:])[0]).abs().mean() > 0.01
    with pytest.raises(ValueError, match="'c' is not one of a"):
        model.style("c")


def test_trunk_saves_and_loads(tmp_path) -> None:
    model = TrunkPainter(channels=8, num_blocks=1, num_styles=1)
    model.save_pretrained(tmp_path)
    again = TrunkPainter.from_pretrained(tmp_path)
    assert all(torch.equal(value, again.state_dict()[name]) for name, value in model.state_dict().items())


def test_the_published_network_and_the_trunk_take_the_same_pictures() -> None:
    x = torch.rand(1, 3, 16, 16) * 2 - 1
    for model in (Painter(channels=4, blocks=1, num_styles=1), TrunkPainter(channels=8, num_blocks=1, num_styles=1)):
        assert model(x, torch.zeros(1, model.style_numbers)).shape == x.shape


@torch.no_grad()
def test_a_flat_picture_stays_flat_up_to_its_border() -> None:
    """Padding by zeros would draw a frame. Without statistics, which make a pattern of rounding errors where all is flat."""
    torch.manual_seed(0)
    model = TrunkPainter(channels=8, num_blocks=1, num_styles=1)
    model.styles.data.add_(torch.randn_like(model.styles))
    painted = model(torch.full((1, 3, 32, 32), 0.3), model.styles, kept=True)
    assert painted.std((2, 3)).max() < 1e-3


@torch.no_grad()
def test_a_doubling_is_a_convolution_of_the_doubled_picture() -> None:
    torch.manual_seed(0)
    doubling, x = Doubling(5, 3), torch.randn(2, 5, 7, 9)
    doubled = F.interpolate(x, scale_factor=2.0, mode="bilinear", align_corners=False)
    wanted = F.conv2d(F.pad(doubled, (1, 1, 1, 1), mode="replicate"), doubling.conv.weight)
    torch.testing.assert_close(F.pixel_shuffle(doubling(x), 2), wanted, atol=1e-5, rtol=1e-5)


@torch.no_grad()
def test_a_doubling_of_a_flat_picture_has_no_pattern() -> None:
    """What a free convolution before a shuffle draws for nothing."""
    torch.manual_seed(0)
    made = F.pixel_shuffle(Doubling(5, 3)(torch.ones(1, 5, 8, 8) * torch.randn(1, 5, 1, 1)), 2)
    assert made.std((2, 3)).max() < 1e-5


@torch.no_grad()
def test_phases_of_one_channel_are_normalised_together() -> None:
    """As they would be after the shuffle."""
    torch.manual_seed(0)
    norm, h, style = Norm(3, start=0, parts=4), 2 + torch.randn(2, 12, 6, 8), torch.randn(2, 6)
    after = F.pixel_shuffle(norm(h, style), 2)
    wanted = F.instance_norm(F.pixel_shuffle(h, 2)) * style[:, :3, None, None] + style[:, 3:, None, None]
    torch.testing.assert_close(after, wanted, atol=1e-4, rtol=1e-4)


@torch.no_grad()
def test_features_are_what_each_block_left(tiny: TrunkPainter) -> None:
    pictures = torch.rand(2, 3, 24, 40) * 2 - 1
    painted, found = tiny.features(pictures, tiny.styles)
    assert [tuple(h.shape) for h in found] == [(2, 8, 6, 10)]
    assert torch.equal(painted, tiny(pictures, tiny.styles))


def test_looks_mix_rows_of_styles(tiny: TrunkPainter) -> None:
    torch.testing.assert_close(tiny.style({0: 0.25, 1: 0.75}), 0.25 * tiny.styles[0] + 0.75 * tiny.styles[1])
    assert torch.equal(tiny.style("a"), tiny.styles[0])


@torch.no_grad()
def test_nothing_far_away_changes_how_the_last_layers_draw(tiny: TrunkPainter) -> None:
    """A bright blob in a corner is of no use to the rest of the picture where there are no statistics."""
    norm, h, style = tiny.norms[-1], torch.randn(1, 12, 8, 8), tiny.styles[:1]
    blob = h.clone()
    blob[..., 0, 0] = 100
    changed = (norm(h, style) != norm(blob, style)).any(1)[0]
    assert changed[0, 0] and changed.sum() == 1
    assert not torch.equal(tiny.norms[0](h[:, :8], style)[..., 1:, 1:], tiny.norms[0](blob[:, :8], style)[..., 1:, 1:])
