"""The fit of a style's numbers: it comes nearer to the picture, keeps the best, and repeats itself."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from pipelines.networks.painter import Painter
from pipelines.networks.texture import Texture, gram
from pipelines.techniques.style_fit import CHECK_EVERY, Plan, StyleFit

PLAN = Plan(steps=2 * CHECK_EVERY, side=48, half=False)


def fit(plan: Plan = PLAN, start: float = 0.0) -> StyleFit:
    torch.manual_seed(0)
    painter = Painter(channels=8, blocks=1, up_channels=(8, 4), num_styles=4).eval().requires_grad_(False)
    texture = Texture(((3, 6), (6, 8), (8, 8))).eval().requires_grad_(False)
    painter.styles.normal_(1.0, 0.5)
    rng = np.random.default_rng(1)
    contents = [rng.integers(0, 256, (64, 80, 3), dtype=np.uint8) for _ in range(3)]
    picture = painter(torch.rand(1, 3, 96, 96) * 2 - 1, painter.styles[:1]).detach()
    return StyleFit(painter, texture, painter.styles.clone(), painter.styles[1] + start, picture, contents, plan)


def test_the_best_numbers_are_nearer_to_the_picture_than_the_first() -> None:
    one = fit()
    first, before = one._distance(one.best), one.best.clone()
    while not one.over:
        one.step()
    assert one._distance(one.best) < 0.9 * first
    assert one.gain == pytest.approx(1 - one._distance(one.best) / first, abs=1e-5)
    assert not torch.equal(one.best, before)


def test_a_fit_repeats_itself_and_another_seed_does_not() -> None:
    made = []
    for seed in (0, 0, 1):
        one = fit(Plan(steps=CHECK_EVERY, side=48, half=False, seed=seed))
        while not one.over:
            one.step()
        made.append(one.best)
    assert torch.equal(made[0], made[1]) and not torch.equal(made[0], made[2])


def test_steps_that_make_it_worse_leave_the_start() -> None:
    one = fit(Plan(steps=CHECK_EVERY, side=48, half=False, rate=50.0))
    start = one.best.clone()
    while not one.over:
        one.step()
    assert torch.equal(one.best, start) and one.gain == 0.0


def test_a_gram_matrix_is_the_mean_product_of_channels() -> None:
    x = torch.randn(2, 3, 4, 5)
    by_hand = torch.einsum("bihw,bjhw->bij", x, x) / 20
    torch.testing.assert_close(gram(x), by_hand)
