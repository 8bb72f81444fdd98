"""Lessons, losses, the meter and a short run: what the painter's training stands on."""

import json

import cv2
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from pipelines.networks.trunk import TrunkPainter
from training.loop import Run
from training.painter import crops, judge, losses, meter
from training.painter.crops import Photograph
from training.painter.hed import gram
from training.painter.lessons import GRID, SHIFTS, Class, Looks
from training.painter.sheet import Sheets
from training.painter.train import HINT_CHANNELS, Config, Trainer, _overlap

SIDE = 128


class Inverter:
    """A teacher whose picture and features of a window are known."""

    def paint(self, picture: torch.Tensor, look: str) -> torch.Tensor:
        return -picture

    def study(self, picture: torch.Tensor, look: str) -> list[torch.Tensor]:
        features = F.avg_pool2d(picture.mean(0, keepdim=True), GRID).repeat(HINT_CHANNELS, 1, 1)
        return [-picture, features, 2 * features]


LOOKS = Looks({"ink": {"0": 1.0}, "oil": {"0": 0.25, "1": 0.75}}, 2, ("wave",))


class TinyFeatures(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.convs = nn.ModuleList(nn.Conv2d(3, 4, 3, stride=k, padding=1) for k in (1, 2, 4, 8))
        self.requires_grad_(False)

    def forward(self, pictures: torch.Tensor, blocks: int = 3) -> list[torch.Tensor]:
        return [torch.relu(conv(pictures.float())) for conv in self.convs[:blocks]]


@pytest.fixture(scope="module")
def school() -> Class:
    rng = np.random.default_rng(0)
    blurred = [cv2.GaussianBlur(rng.integers(0, 120, (160, 200, 3), np.uint8), (0, 0), 4) for _ in range(3)]
    photographs = [Photograph(str(k), picture, None) for k, picture in enumerate(blurred)]
    repainted = [Photograph("0", blurred[0], 255 - blurred[0])]
    return Class(photographs, repainted, Inverter(), LOOKS, SIDE)


def test_looks_mix_the_teachers_styles_and_paintings_have_their_own() -> None:
    assert LOOKS.names == ["ink", "oil", "wave"] and LOOKS.styles == 3
    assert LOOKS.mixtures == {"ink": {"0": 1.0}, "oil": {"0": 0.25, "1": 0.75}, "wave": {"2": 1.0}}
    assert LOOKS.shares().tolist() == [[1, 0, 0], [0.25, 0.75, 0], [0, 0, 1]]
    assert list(LOOKS.of("published")) == [0, 1] and list(LOOKS.of("painting")) == [2]


def test_a_lesson_follows_from_seed_and_step(school: Class) -> None:
    counts = {"published": 2, "painting": 1}
    first, again, other = (school.lesson(0, step, counts, False) for step in (5, 5, 6))
    assert torch.equal(first.inputs, again.inputs) and torch.equal(first.looks, again.looks)
    assert not torch.equal(first.inputs, other.inputs)
    assert first.inputs.shape == (3, 3, SIDE, SIDE) and first.target.shape == (2, 3, SIDE, SIDE)
    assert first.looks[2] == 2 and set(first.looks[:2].tolist()) <= {0, 1}


def test_targets_and_hints_lie_where_their_windows_lie(school: Class) -> None:
    """Hints are only of windows that keep to the features' grid: more than a quarter of all."""
    hinted = 0
    for step in range(12):
        lesson = school.lesson(1, step, {"published": 3}, False)
        torch.testing.assert_close(lesson.target, -lesson.given)
        hinted += len(lesson.hinted)
        if len(lesson.hinted):
            wanted = F.avg_pool2d(lesson.given[lesson.hinted].mean(1, keepdim=True), GRID)
            torch.testing.assert_close(lesson.hints[0][:, :1], wanted)
            assert not (lesson.moved[lesson.hinted] % GRID).any()
        else:
            assert not lesson.hints
    assert 9 <= hinted < 36


def test_pairs_show_one_scene_twice_and_overlap_by_the_stated_shift(school: Class) -> None:
    lesson = school.lesson(0, 7, {"published": 2, "painting": 1}, True)
    assert lesson.looks.tolist() == [*lesson.looks[:2].tolist() * 2, 2, 2] and len(lesson.target) == 4
    for a, b in ((0, 2), (1, 3), (4, 5)):
        assert _overlap(lesson.given[a], lesson.given[b], lesson.moved[a] - lesson.moved[b]) == 0
    assert lesson.moved.max() < SHIFTS and not torch.equal(lesson.inputs[0], lesson.given[0])  # a sensor's noise
    alone = school.lesson(0, 7, {"published": 2}, False)
    assert torch.equal(alone.inputs, alone.given)


def test_a_third_of_the_rows_are_what_pocket_repainted(school: Class) -> None:
    """Here that is the negative of one of the photographs, which are dark; the teacher paints what is given."""
    rows = [school.lesson(2, step, {"published": 4}, False) for step in range(8)]
    bright = torch.cat([lesson.given.mean((1, 2, 3)) for lesson in rows]) > 0
    assert 0.1 < bright.float().mean() < 0.7
    assert all(torch.equal(lesson.target, -lesson.given) for lesson in rows)


def test_losses_are_nothing_for_equal_pictures_and_something_else() -> None:
    torch.manual_seed(0)
    a, b = torch.rand(2, 3, 32, 32), torch.rand(2, 3, 32, 32)
    assert losses.colour(a, a) == losses.edges(a, a) == losses.style([gram(a)], [gram(a)]) == losses.content(a, a) == 0
    assert min(losses.colour(a, b), losses.edges(a, b), losses.style([gram(a)], [gram(0.2 * b)]), losses.content(a, b)) > 0.01


def test_gram_ignores_where_things_are() -> None:
    feature = torch.rand(1, 4, 8, 8)
    torch.testing.assert_close(gram(feature), gram(feature.roll((3, 2), (2, 3))))


@pytest.mark.parametrize("period", [2, 4, 8])
def test_the_meter_sees_lattices_and_no_other_stripes(period: int) -> None:
    rng = np.random.default_rng(0)
    grey = cv2.GaussianBlur(rng.integers(0, 256, (512, 512), np.uint8), (0, 0), 2).astype(float)
    x = np.arange(512)
    screen = grey + 8 * (np.cos(2 * np.pi * x / period)[:, None] + np.cos(2 * np.pi * x / period)[None])
    other = grey + 8 * (np.cos(2 * np.pi * x / 7.3)[:, None] + np.cos(2 * np.pi * x / 7.3)[None])

    def figure(picture: np.ndarray) -> float:
        return meter.lattice(np.repeat(picture.clip(0, 255).astype(np.uint8)[..., None], 3, 2))

    assert figure(screen) > 10 * figure(grey) and figure(other) < 2 * figure(grey) + 1


def test_grain_is_of_flat_places_alone() -> None:
    rng = np.random.default_rng(0)
    source = np.full((64, 64, 3), 120, np.uint8)
    noisy = (source + rng.normal(0, 12, source.shape)).clip(0, 255).astype(np.uint8)
    assert meter.grain(source, source)[0] < 1e-3 and meter.grain(noisy, source)[0] > 5
    busy = rng.integers(0, 256, source.shape, dtype=np.uint8)
    assert np.isnan(meter.grain(noisy, busy)).all()


def test_a_stopped_run_goes_on_as_if_it_had_not_stopped(school: Class, tmp_path) -> None:
    """Through all stages: six steps, stopped after four and resumed, give the very weights of six at once."""
    hed = TinyFeatures()
    paintings = [[gram(feature)[0] for feature in hed(torch.rand(1, 3, 64, 64), 4)]]
    config = Config(steps=8, palette=2, paintings=5, side=SIDE)

    def advanced(trainer: Trainer, to: int) -> dict[str, torch.Tensor]:
        while trainer.step < to:
            values = trainer.once()
            trainer.step += 1
        return values

    whole = Trainer(config, school, hed, paintings, Run(tmp_path / "whole"))
    advanced(whole, 6)
    first = Trainer(config, school, hed, paintings, Run(tmp_path / "parts"))
    assert "edges" in advanced(first, 2) and "style" in advanced(first, 4)
    first.save()
    second = Trainer(config, school, hed, paintings, Run(tmp_path / "parts"))
    assert second.step == 4
    assert {"time", "painting", "style"} <= advanced(second, 6).keys()
    for ours, theirs in zip(second.model.parameters(), whole.model.parameters(), strict=True):
        torch.testing.assert_close(ours, theirs)


def test_hints_move_only_what_lies_before_them(school: Class, tmp_path) -> None:
    """They hold the content of blocks, not how it is drawn."""
    trainer = Trainer(Config(side=SIDE), school, TinyFeatures(), [[torch.eye(4)] * 4], Run(tmp_path))
    lesson = next(found for step in range(9) if (found := school.lesson(0, step, {"published": 2}, False)).hints)
    _, features = trainer.model.features(lesson.inputs, trainer.shares[lesson.looks] @ trainer.model.styles)
    trainer._hints(lesson, features).backward()
    assert trainer.model.from_picture.weight.grad.abs().sum() > 0 and trainer.model.to_picture.conv.weight.grad is None


def test_every_kind_of_step_comes_and_paintings_come_later() -> None:
    config = Config()
    early, late = ([config.counts(start + k) for k in range(8)] for start in (0, config.paintings // 8 * 8 + 8))
    assert [pairs for _, pairs in early].count(True) == [pairs for _, pairs in late].count(True) == 1
    assert all("painting" not in counts for counts, _ in early)
    assert sum("painting" in counts for counts, _ in late) == 4


def test_windows_are_of_the_repainted_picture_where_there_is_one() -> None:
    rng = np.random.default_rng(0)
    clean = np.full((90, 120, 3), 40, np.uint8)
    pair, single = Photograph("x", clean, 255 - clean), Photograph("y", clean, None)
    for _ in range(5):
        assert crops.window(pair, 64, rng, True).mean() > 128 > crops.window(single, 64, rng, True).mean()
        assert crops.window(pair, 64, rng, False).mean() < 128
        assert crops.window(pair, 64, rng, False).shape == (64, 64, 3)


def test_judged_looks_have_figures_and_the_closest_pair() -> None:
    """A look that is its teacher's is near 0, one that leaves the photograph as it is near 1."""
    photograph = cv2.GaussianBlur(np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8), (0, 0), 5)

    def paint(x: torch.Tensor, look: str) -> torch.Tensor:
        return {"negative": -x, "none": x, "dim": x * 0.9}[look]

    found = judge.judge(paint, ["negative", "none", "dim"], [photograph], lambda x, _: -x, {"negative", "none"})
    assert found["looks"]["negative"]["near"] == 0 and found["looks"]["none"]["near"] == 1
    assert found["looks"]["none"]["photograph"] == 0 and "near" not in found["looks"]["dim"]
    assert found["closest"]["looks"] == ["none", "dim"]


def test_sheets_go_on_with_the_next_looks_after_a_restart(tmp_path) -> None:
    looks = Looks({f"look {k}": {"0": 1.0} for k in range(8)}, 1, ("wave",))
    photograph = np.full((64, 64, 3), 90, np.uint8)
    model = TrunkPainter(channels=8, num_blocks=1, num_styles=2, looks=looks.mixtures).eval()
    shown = []
    for step in (10, 20):
        Sheets(tmp_path, [photograph], looks, Inverter())(model, step)
        shown.append(json.loads((tmp_path / "sheets.jsonl").read_text().splitlines()[-1])["looks"][0])
        assert (tmp_path / f"sheet-{step:06}.jpg").stat().st_size > 1000
    assert shown == [[f"look {k}" for k in range(6)], [f"look {k}" for k in (6, 7, 0, 1, 2, 3)]]
