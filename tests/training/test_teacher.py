"""Requests are validated; modifiers keep shape and range, do what their names promise, and show in every kind of look."""

import collections

import pytest
import torch

from training import filters, scenes
from training.looks import LOOKS
from training.modifiers import LIGHTS, PALETTES, TEXTURES
from training.teacher import PLAINLY, SLIGHTLY, VERY, Request, draw, teacher

ALL = [("palette", name) for name in PALETTES] + [("light", name) for name in LIGHTS] + [("texture", name) for name in TEXTURES]


@pytest.fixture(scope="module")
def pictures() -> torch.Tensor:
    return scenes.landscape(2, 64, torch.Generator().manual_seed(3))


@pytest.mark.parametrize(("field", "name"), ALL)
def test_modifiers_change_photographs_paintings_and_drawings(field: str, name: str, pictures: torch.Tensor) -> None:
    for look in ("photo", "watercolour", "neon"):
        plain, changed = teacher(pictures, Request(look)), teacher(pictures, Request(look, **{field: name}))
        assert changed.shape == pictures.shape and changed.min() >= 0 and changed.max() <= 1
        assert (changed - plain).abs().mean() > 0.01, look


def test_there_are_enough_of_each() -> None:
    assert len(PALETTES) >= 8 and len(LIGHTS) >= 4 and len(TEXTURES) >= 4


def test_palettes_by_their_colours(pictures: torch.Tensor) -> None:
    means = {name: teacher(pictures, Request(palette=name)).mean((0, 2, 3)) for name in PALETTES}
    assert means["warm"][0] > means["warm"][2] + 0.15 and means["cold"][2] > means["cold"][0] + 0.15
    assert means["green"].argmax() == 1 and means["red_black"].argmax() == 0
    grey = teacher(pictures, Request(palette="grey"))
    assert torch.equal(grey[:, 0], grey[:, 1]) and torch.equal(grey[:, 0], grey[:, 2])


def test_lights_by_their_brightness(pictures: torch.Tensor) -> None:
    plain = filters.luminance(pictures)
    assert filters.luminance(teacher(pictures, Request(light="night"))).mean() < 0.5 * plain.mean()
    assert filters.luminance(teacher(pictures, Request(light="bright"))).mean() > plain.mean() + 0.1
    assert filters.luminance(teacher(pictures, Request(light="fog"))).std() < 0.6 * plain.std()


def test_slightly_is_half_way_and_very_keeps_grey_grey(pictures: torch.Tensor) -> None:
    look = LOOKS["oil"](pictures)
    torch.testing.assert_close(teacher(pictures, Request("oil", SLIGHTLY)), (pictures + look) / 2, atol=1e-5, rtol=0)
    very = teacher(pictures, Request("noir", VERY))
    plain = teacher(pictures, Request("noir"))
    assert very.std() > plain.std() and (very[:, 0] - very[:, 2]).abs().max() < 0.08


def test_unknown_names_are_refused() -> None:
    for wrong in ({"look": "xerox"}, {"palette": "mauve"}, {"light": "strobe"}, {"texture": "fur"}):
        with pytest.raises(ValueError, match=next(iter(wrong))):
            Request(**wrong)
    with pytest.raises(ValueError, match="intensity"):
        Request("oil", 0.7)


def test_the_shares_of_what_is_drawn() -> None:
    rng = torch.Generator().manual_seed(0)
    requests = [draw(rng) for _ in range(3000)]
    intense = sum(r.intensity != PLAINLY for r in requests) / 3000
    shares = collections.Counter(r.modifiers for r in requests)
    assert intense == pytest.approx(0.1, abs=0.02)
    assert shares[1] / 3000 == pytest.approx(0.22, abs=0.03) and shares[2] / 3000 == pytest.approx(0.08, abs=0.02)
    assert {r.look for r in requests} == set(LOOKS)
    again = torch.Generator().manual_seed(0)
    assert requests[:50] == [draw(again) for _ in range(50)]
    assert {draw(rng, ("oil", "ink")).look for _ in range(30)} == {"oil", "ink"}
