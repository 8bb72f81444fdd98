"""The trunk: rows that know nothing of each other, any size, no frame, statistics that can be kept."""

import pytest
import torch

from pipelines.networks.painter import Painter
from pipelines.networks.trunk import TrunkPainter


@pytest.fixture
def tiny() -> TrunkPainter:
    torch.manual_seed(0)
    model = TrunkPainter(channels=8, num_blocks=1, half_channels=4, full_channels=4, looks=["a", "b"]).eval()
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
def test_one_style_folds_to_one_for_each_row(tiny: TrunkPainter) -> None:
    pictures = torch.rand(3, 3, 16, 16) * 2 - 1
    folded = tiny.fold(pictures, tiny.styles[:1])
    assert folded.shape == (3, tiny.style_numbers) and not torch.equal(folded[0], folded[1])
    torch.testing.assert_close(tiny(pictures, folded, kept=True), tiny(pictures, tiny.styles[:1]), atol=1e-4, rtol=1e-4)


def test_trunk_rows_are_independent_and_sizes_are_free() -> None:
    torch.manual_seed(0)
    model = TrunkPainter(channels=8, num_blocks=1, half_channels=4, full_channels=4, looks=["a", "b"]).eval()
    model.styles.data.add_(torch.randn_like(model.styles))
    pictures = torch.rand(2, 3, 24, 40) * 2 - 1
    with torch.no_grad():
        together = model(pictures, model.styles)
        for row in range(2):
            torch.testing.assert_close(together[row : row + 1], model(pictures[row : row + 1], model.styles[row : row + 1]))
    assert together.shape == pictures.shape and together.abs().max() <= 1
    assert (together[0] - model(pictures[:1], model.styles[1:])[0]).abs().mean() > 0.01
    with pytest.raises(ValueError, match="'c' is none of a, b"):
        model.style("c")


def test_trunk_saves_and_loads(tmp_path) -> None:
    model = TrunkPainter(channels=8, num_blocks=1, looks=["a"])
    model.save_pretrained(tmp_path)
    again = TrunkPainter.from_pretrained(tmp_path)
    assert all(torch.equal(value, again.state_dict()[name]) for name, value in model.state_dict().items())


def test_the_published_network_and_the_trunk_take_the_same_pictures() -> None:
    x = torch.rand(1, 3, 16, 16) * 2 - 1
    for model in (Painter(channels=4, blocks=1, num_styles=1), TrunkPainter(channels=8, num_blocks=1, looks=["a"])):
        assert model(x, torch.zeros(1, model.style_numbers)).shape == x.shape


@torch.no_grad()
def test_a_flat_picture_stays_flat_up_to_its_border() -> None:
    """Padding by zeros would draw a frame."""
    torch.manual_seed(0)
    model = TrunkPainter(channels=8, num_blocks=1, looks=["a"])
    model.styles.data.add_(torch.randn_like(model.styles))
    painted = model(torch.full((1, 3, 32, 32), 0.3), model.styles)
    assert painted.std((2, 3)).max() < 1e-3
