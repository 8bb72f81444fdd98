"""The trunk as the shipped painter: its looks, and the recoloured ones in the published network's colours."""

from __future__ import annotations

import pytest
import torch

from pipelines.networks.painter import Painter
from pipelines.networks.trunk import TrunkPainter
from pipelines.values.picture_style import TONE
from training.painter import published, release

LOOKS = {**published.LOOKS, "a painting": {"26": 1.0}}


@pytest.fixture(scope="module")
def made() -> tuple[TrunkPainter, Painter, TrunkPainter, list[torch.Tensor]]:
    torch.manual_seed(4)
    teacher = Painter(looks=published.LOOKS).eval()
    teacher.styles.normal_(1.0, 0.3)
    trunk = TrunkPainter(channels=8, num_blocks=1, half_channels=4, num_styles=27, looks=LOOKS).eval()
    trunk.styles.data.normal_(1.0, 0.3)
    trunk.styles.data[:, -6:] *= 0.1  # so that nothing is cut
    photographs = [torch.rand(1, 3, 48, 48) * 2 - 1 for _ in range(2)]
    teacher = published.recolour(teacher)
    return trunk, teacher, release.released(trunk, teacher, photographs), photographs


@torch.no_grad()
def test_taught_looks_stay_and_paintings_keep_their_rows_without_a_name(made) -> None:
    trunk, _, shipped, (picture, _) = made
    assert list(shipped.config["looks"]) == [*published.LOOKS, *published.RECOLOURED, *published.INKED]
    for look in published.LOOKS:
        torch.testing.assert_close(shipped(picture, shipped.style(look)[None]), trunk(picture, trunk.style(look)[None]))
    torch.testing.assert_close(shipped.styles[26, :-TONE], trunk.styles[26])
    assert not shipped.styles[:27, -TONE:].any()


@torch.no_grad()
@pytest.mark.parametrize("look", published.RECOLOURED)
def test_a_recoloured_look_has_the_teachers_colours_and_tone(made, look: str) -> None:
    _, teacher, shipped, photographs = made
    assert torch.equal(shipped.style(look)[-TONE:], teacher.style(look)[-TONE:])
    plain = torch.zeros(TONE)
    ours, theirs = (
        torch.cat([network(x, torch.cat([network.style(look)[:-TONE], plain])[None])[0].flatten(1) for x in photographs], 1)
        for network in (shipped, teacher)
    )
    logits = [values.clamp(-release.CUT, release.CUT).atanh() for values in (ours, theirs)]
    torch.testing.assert_close(logits[0].mean(1), logits[1].mean(1), atol=0.1, rtol=0)
    torch.testing.assert_close(logits[0].std(1), logits[1].std(1), atol=0.1, rtol=0.15)


@torch.no_grad()
def test_what_is_light_in_the_target_becomes_light(made) -> None:
    trunk, _, _, photographs = made
    numbers = trunk.style({3: 1.0})
    painted = [trunk(x, numbers[None]) for x in photographs]
    for sign in (1.0, -1.0):
        again = release.in_colours(trunk, numbers, photographs, [sign * picture for picture in painted])
        torch.testing.assert_close(trunk(photographs[0], again[None]), sign * painted[0], atol=0.05, rtol=0)
