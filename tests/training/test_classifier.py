"""The classifiers: shapes, files, resuming; the Frechet distance against its closed form; the shipped ones on fresh pictures."""

from pathlib import Path

import numpy as np
import pytest
import torch

from training import classifier
from training.classifier import Classifier, ClassifierConfig
from training.looks import LOOKS
from training.loop import Run
from training.scenes import SUBJECTS


def test_save_and_load(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = Classifier(("a", "b", "c"), 3).eval()
    classifier.save(model, tmp_path / "x.safetensors")
    again = classifier.load(tmp_path / "x.safetensors")
    x = torch.rand(2, 3, 72, 96)
    assert again.names == model.names and again.bands == 3 and again.features(x).shape == (2, classifier.FEATURES)
    torch.testing.assert_close(again(x), model(x), atol=2e-2, rtol=0)
    assert (tmp_path / "x.safetensors").stat().st_size < 1_000_000
    with pytest.raises(FileNotFoundError, match=r"training\.classifier"):
        classifier.load(tmp_path / "y.safetensors")


def test_frechet_distance_of_gaussians() -> None:
    rng = torch.Generator().manual_seed(1)
    a = torch.randn(20_000, 3, generator=rng)
    assert classifier.frechet(a, a) == pytest.approx(0, abs=1e-6)
    moved = 2 * torch.randn(20_000, 3, generator=rng) + torch.tensor([3.0, 0, 0])
    assert classifier.frechet(a, moved) == pytest.approx(9 + 3 * (2 - 1) ** 2, rel=0.05)


def test_directions_tell_stripes_checks_and_noise_apart() -> None:
    place = torch.arange(64.0) / 5
    stripes = torch.sin(0.8 * place[:, None] + 0.6 * place[None])
    checks = torch.sin(place)[:, None] * torch.sin(place)[None] > 0
    noise = torch.rand(64, 64, generator=torch.Generator().manual_seed(0))
    x = torch.stack([stripes * 0.5 + 0.5, checks.float(), noise])[:, None].expand(-1, 3, -1, -1)
    one, _, either, _ = classifier.directions(x).T
    assert one[0] > 0.95 and either[0] > 0.9
    assert one[1] < 0.2 and either[1] > 0.8
    assert one[2] < 0.1 and either[2] < 0.2


def test_batches_are_functions_of_the_generator() -> None:
    store = np.random.default_rng(0).integers(0, 256, (4, 3, 96, 96), dtype=np.uint8)
    config = ClassifierConfig(batch=16, side=64)
    x, labels = classifier.look_batch(store, config, torch.Generator().manual_seed(3))
    again, _ = classifier.look_batch(store, config, torch.Generator().manual_seed(3))
    assert x.shape == (16, 3, 64, 64) and labels.unique().numel() == 16 and torch.equal(x, again)
    windows = list(classifier.look_pictures(store, 2, 64, torch.Generator().manual_seed(3)))
    assert len(windows) == 2 and windows[0][0].shape == (len(LOOKS), 3, 64, 64)
    pairs = list(classifier.scene_pictures(2, torch.Generator().manual_seed(3)))
    assert len(pairs) == len(SUBJECTS) and pairs[3][1].tolist() == [3, 3]


def test_training_is_repeatable_and_goes_on(tmp_path: Path) -> None:
    store = np.random.default_rng(0).integers(0, 256, (4, 3, 96, 96), dtype=np.uint8)
    config = ClassifierConfig(steps=2, batch=16, side=64, warmup=1)

    def train(folder: Path) -> Classifier:
        return classifier.train(config, Run(folder), tuple(LOOKS), store)

    first, second = train(tmp_path / "a"), train(tmp_path / "b")
    assert all(map(torch.equal, first.parameters(), second.parameters()))
    assert all(map(torch.equal, first.parameters(), train(tmp_path / "a").parameters()))  # done already: nothing changes


def test_upper_layers_can_be_trained_from_descriptors() -> None:
    rng = torch.Generator().manual_seed(0)
    x = torch.rand(60, 3, 64, 64, generator=rng) * torch.linspace(0.2, 1, 60).view(60, 1, 1, 1)
    labels = (torch.arange(60) >= 30).long()
    torch.manual_seed(0)
    trunk = Classifier(("a", "b", "c")).eval()
    model = classifier.with_trunk_of(trunk, ("dark", "bright"), 3)
    assert all(map(torch.equal, trunk.convolutions.parameters(), model.convolutions.parameters()))
    classifier.fit(model, *classifier.described(model, [(x, labels)]), seed=0, epochs=80)
    found = classifier.predicted(model, x)
    assert found[:25] == ["dark"] * 25 and found[35:] == ["bright"] * 25


def test_confusion_and_mistakes() -> None:
    class Fixed(Classifier):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.eye(2)[(x.mean((1, 2, 3)) > 0.5).long()]

    model = Fixed(("dark", "bright"))
    dark, bright = torch.zeros(3, 3, 64, 64), torch.ones(2, 3, 64, 64)
    table = classifier.confusion(model, {"dark": torch.cat([dark, bright]), "bright": bright})
    assert table.tolist() == [[3, 2], [0, 2]] and classifier.accuracy(table) == pytest.approx(5 / 7)
    assert classifier.mistakes(model.names, table) == [("dark", "bright", 2)]


@pytest.mark.long
@pytest.mark.parametrize("kind", ["looks", "subjects"])
def test_the_shipped_classifiers(kind: str) -> None:
    model = classifier.load(classifier.FOLDER / f"classifier_{kind}.safetensors")
    if kind == "looks":
        assert set(model.names) == set(LOOKS)
        table = classifier.examine_looks(model, per_picture=1, seed=5)
    else:
        assert set(model.names) == set(SUBJECTS)
        table = classifier.examine_subjects(model, each=2, seed=5)
    assert classifier.accuracy(table) > 0.9, classifier.mistakes(model.names, table)
