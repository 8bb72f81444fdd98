"""Published styles in other colours."""

from __future__ import annotations

import json

import pytest
import torch

from pipelines.networks.painter import Painter
from pipelines.networks.trunk import TrunkPainter
from pipelines.values.models import ASSETS
from pipelines.values.picture_style import TONE
from training.painter import published

POCKET = ASSETS / "pocket" / "painter"


@pytest.fixture(scope="module")
def painters() -> tuple[Painter, Painter]:
    torch.manual_seed(2)
    painter = Painter(looks=published.LOOKS).eval()
    painter.styles.normal_(1.0, 0.3)
    return painter, published.recolour(painter)


@torch.no_grad()
def test_recoloured_looks_stand_behind_the_others_which_stay(painters: tuple[Painter, Painter]) -> None:
    before, after = painters
    picture = torch.rand(1, 3, 32, 32) * 2 - 1
    assert list(after.config["looks"]) == [*published.LOOKS, *published.RECOLOURED, *published.INKED]
    for look in published.LOOKS:
        torch.testing.assert_close(after(picture, after.style(look)[None]), before(picture, before.style(look)[None]))


@torch.no_grad()
@pytest.mark.parametrize("look", published.RECOLOURED)
def test_a_look_has_its_colours(painters: tuple[Painter, Painter], look: str) -> None:
    """A toned one nothing else; the others in the middle of each channel."""
    after, wanted = painters[1], published.RECOLOURED[look]
    style = after.style(look)[None]
    painted = (after(torch.rand(1, 3, 64, 64) * 2 - 1, style) + 1) * 127.5
    dark, light = (torch.tensor(colour, dtype=torch.float32) for colour in (wanted.dark, wanted.light))
    if wanted.toned:
        along = (painted[0].flatten(1).T - dark) @ (light - dark) / (light - dark).square().sum()
        assert along.min() > -0.01 and along.max() < 1.01
        torch.testing.assert_close(dark + along[:, None] * (light - dark), painted[0].flatten(1).T, atol=0.5, rtol=0)
        assert along.std() > 0.1
    else:
        assert style[0, -TONE] == 0.0
        middle = torch.logit(painted / 255, eps=1e-6).mean(dim=(0, 2, 3))
        ends = torch.logit(torch.stack([dark, light]) / 255, eps=0.02)
        torch.testing.assert_close(middle, ends.mean(0), atol=0.05, rtol=0)


def test_the_shipped_looks_are_those_of_the_tables() -> None:
    config = json.loads((POCKET / "config.json").read_text(encoding="utf-8"))
    assert config["looks"] == {**published.LOOKS, **published.behind(config["num_styles"] - len(published.RECOLOURED))}


@torch.no_grad()
@pytest.mark.parametrize("look", published.INKED)
def test_ink_has_no_colour(look: str) -> None:
    """Black on paper: all that the shipped painter paints of a colourful picture lies on one line, between two tones."""
    painter = TrunkPainter.from_pretrained(POCKET, torch_dtype=torch.float32)
    torch.manual_seed(3)
    picture = torch.nn.functional.interpolate(torch.rand(1, 3, 8, 8) * 2 - 1, size=(128, 128), mode="bilinear")
    painted = painter(picture, painter.style(look)[None])[0].flatten(1).T
    _, spread, _ = torch.linalg.svd(painted - painted.mean(0), full_matrices=False)
    assert spread[1] < 0.02 * spread[0], spread
    dark, light = painted.quantile(0.02, dim=0), painted.quantile(0.98, dim=0)
    assert dark.max() < -0.5 and light.min() > 0.5, "nearly black to nearly white"
