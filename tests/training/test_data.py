"""Sources: in range, repeatable, never a picture that is kept for evaluation; an interrupted pool is continued."""

import numpy as np
import pytest
import torch

from training import data, photographs, scenes


@pytest.mark.parametrize("make", [scenes.leaves, scenes.landscape, scenes.portrait, scenes.scenery, photographs.crops])
def test_generators(make) -> None:
    x = make(2, 64, torch.Generator().manual_seed(1))
    assert x.shape == (2, 3, 64, 64) and x.dtype == torch.float32
    assert x.min() >= 0 and x.max() <= 1 and x.std() > 0.03
    assert torch.equal(x, make(2, 64, torch.Generator().manual_seed(1)))
    assert not torch.equal(x, make(2, 64, torch.Generator().manual_seed(2)))


def test_evaluation_pictures_are_held_back() -> None:
    assert not set(photographs.TRAINING) & set(photographs.HELD_OUT)
    held = photographs.held_out()
    assert {"astronaut", "coffee", "chelsea"} <= set(held)
    assert photographs.square(held["coffee"], 128).shape == (1, 3, 128, 128)


def test_pool_continues_and_batches_repeat(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(data, "SIDE", 32)
    monkeypatch.setattr(data, "CHUNK", 4)
    monkeypatch.setattr(data, "MIXTURE", ((scenes.landscape, 2), (scenes.portrait, 2)))
    monkeypatch.setattr(data, "chunk", lambda seed, index: torch.full((4, 3, 32, 32), (index + 1) / 10))
    whole = data.pool(tmp_path / "a.npy", 8, 0).copy()
    path = tmp_path / "b.npy"
    data.pool(path, 8, 0)
    np.lib.format.open_memmap(path, mode="r+")[4:] = 0
    path.with_suffix(".count").write_text("4")
    assert np.array_equal(data.pool(path, 8, 0), whole)
    a, b = (data.batch(whole, 3, 16, torch.Generator().manual_seed(0), align=8) for _ in range(2))
    assert a.shape == (3, 3, 16, 16) and torch.equal(a, b)


def test_detailed_batches_take_the_most_detailed_of_several() -> None:
    store = np.zeros((40, 3, 16, 16), np.uint8)
    store[:10] = np.random.default_rng(0).integers(0, 256, (10, 3, 16, 16))  # one picture in four has any detail
    shares = []
    for detailed in (0.0, 0.5, 1.0):
        x = data.batch(store, 400, 16, torch.Generator().manual_seed(3), detailed=detailed)
        assert x.shape == (400, 3, 16, 16)
        shares.append(float((x.std((1, 2, 3)) > 0).float().mean()))
    one_of_four = 1 - 0.75**data.AMONG
    assert shares == pytest.approx([0.25, (0.25 + one_of_four) / 2, one_of_four], abs=0.07)
