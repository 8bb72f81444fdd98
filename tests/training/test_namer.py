"""The namer of the refinement's loss: shapes, files, resuming, and the shipped one on fresh pictures of the teachers."""

from pathlib import Path

import numpy as np
import pytest
import torch

from training import namer
from training.looks import LOOKS
from training.loop import Run
from training.namer import Classifier, NamerConfig
from training.teacher import Request, teacher


def named(model: Classifier, x: torch.Tensor) -> list[str]:
    return [model.names[k] for k in model(x).argmax(1).tolist()]


@torch.no_grad()
def test_save_and_load(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = Classifier(("a", "b", "c")).eval()
    namer.save(model, tmp_path / "x.safetensors")
    again = namer.load(tmp_path / "x.safetensors")
    x = torch.rand(2, 3, 72, 96)
    assert again.names == model.names and again.features(x).shape == (2, namer.FEATURES)
    torch.testing.assert_close(again(x), model(x), atol=2e-2, rtol=0)
    assert (tmp_path / "x.safetensors").stat().st_size < 1_000_000
    with pytest.raises(FileNotFoundError, match=r"training\.namer"):
        namer.load(tmp_path / "y.safetensors")


def test_batches_are_functions_of_the_generator() -> None:
    store = np.random.default_rng(0).integers(0, 256, (4, 3, 96, 96), dtype=np.uint8)
    config = NamerConfig(batch=16, side=64)
    x, labels = namer.look_batch(store, config, torch.Generator().manual_seed(3))
    again, _ = namer.look_batch(store, config, torch.Generator().manual_seed(3))
    assert x.shape == (16, 3, 64, 64) and labels.unique().numel() == 16 and torch.equal(x, again)
    windows = list(namer.look_pictures(store, 2, 64, torch.Generator().manual_seed(3)))
    assert len(windows) == 2 and windows[0][0].shape == (len(LOOKS), 3, 64, 64)


def test_training_is_repeatable_and_resumes(tmp_path: Path) -> None:
    store = np.random.default_rng(0).integers(0, 256, (4, 3, 96, 96), dtype=np.uint8)
    config = NamerConfig(steps=2, batch=16, side=64, warmup=1)

    def train(folder: Path) -> Classifier:
        return namer.train(config, Run(folder), tuple(LOOKS), store)

    first, second = train(tmp_path / "a"), train(tmp_path / "b")
    assert all(map(torch.equal, first.parameters(), second.parameters()))
    assert all(map(torch.equal, first.parameters(), train(tmp_path / "a").parameters()))  # done already: nothing changes


def test_upper_layers_can_be_trained_from_descriptors() -> None:
    rng = torch.Generator().manual_seed(0)
    x = torch.rand(60, 3, 64, 64, generator=rng) * torch.linspace(0.2, 1, 60).view(60, 1, 1, 1)
    labels = (torch.arange(60) >= 30).long()
    torch.manual_seed(0)
    model = Classifier(("dark", "bright")).eval()
    namer.fit(model, *namer.described(model, [(x, labels)]), seed=0, epochs=80)
    found = named(model, x)
    assert found[:25] == ["dark"] * 25 and found[35:] == ["bright"] * 25


@torch.no_grad()
def test_the_shipped_one_names_what_the_teachers_draw(tmp_path: Path) -> None:
    from training import photographs

    model = namer.load_kept(tmp_path)
    assert set(model.names) == set(LOOKS)
    x = photographs.square(photographs.held_out()["coffee"], 256)
    right = [named(model, teacher(x, Request(look))) == [look] for look in LOOKS]
    assert sum(right) / len(right) > 0.8
