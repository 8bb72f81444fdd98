"""Scenes: in range, repeatable, of any side, different from one another and from draw to draw."""

import itertools

import pytest
import torch

from training import filters, scenes
from training.scenes import base


@pytest.mark.parametrize("subject", scenes.SUBJECTS)
def test_range_repetition_and_variety(subject: str) -> None:
    make = scenes.SUBJECTS[subject]
    x = make(3, 64, torch.Generator().manual_seed(1))
    assert x.shape == (3, 3, 64, 64) and x.dtype == torch.float32 and torch.isfinite(x).all()
    assert x.min() >= 0 and x.max() <= 1 and (x.std((1, 2, 3)) > 0.02).all()
    assert torch.equal(x, make(3, 64, torch.Generator().manual_seed(1)))
    for a, b in itertools.combinations(x, 2):
        assert (a - b).abs().mean() > 0.01
    assert make(1, 96, torch.Generator().manual_seed(2)).shape == (1, 3, 96, 96)


def test_scene_names_what_it_draws() -> None:
    pictures, names = scenes.scene(6, 64, torch.Generator().manual_seed(3))
    assert pictures.shape == (6, 3, 64, 64) and len(names) == 6 and set(names) <= set(scenes.SUBJECTS)
    fires, names = scenes.scene(2, 64, torch.Generator().manual_seed(3), ("fire",))
    assert names == ["fire", "fire"] and (fires[:, 0].mean() > fires[:, 2].mean() + 0.1)
    assert len(scenes.SUBJECTS) >= 20


def test_subjects_by_their_brightness_and_colours() -> None:
    rng = torch.Generator().manual_seed(4)
    luma = {name: filters.luminance(make(6, 64, rng)).mean() for name, make in scenes.SUBJECTS.items()}
    assert max(luma[name] for name in ("galaxy", "planet", "aurora", "lightning")) < 0.3
    assert min(luma[name] for name in ("snow", "clouds", "desert")) > 0.35
    flames = scenes.SUBJECTS["fire"](6, 64, rng).mean((0, 2, 3))
    assert flames[0] > flames[1] > flames[2]


def test_noise_is_centred_and_of_unit_size() -> None:
    rng = torch.Generator().manual_seed(5)
    for x in (base.fractal(64, 64, rng), base.ridge(256, 64, rng, 4)):
        assert abs(float(x.mean())) < 0.1 and 0.3 < float(x.std()) < 0.8


def test_shifted_replicates_the_border() -> None:
    x = torch.arange(12.0).view(1, 1, 3, 4)
    expected = torch.tensor([[0.0, 0, 0, 1], [0, 0, 0, 1], [4, 4, 4, 5]])
    assert torch.equal(base.shifted(x, 1, 2)[0, 0], expected)


def test_picked_looks_up_each_row_of_its_own() -> None:
    table = torch.tensor([[1.0, 2, 3], [4, 5, 6]])
    index = torch.tensor([0.0, 2, 9, -1]).view(1, 1, 2, 2)
    assert base.picked(table, index).flatten(1).tolist() == [[1, 3, 3, 1], [4, 6, 6, 4]]
