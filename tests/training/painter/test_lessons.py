"""Lessons, losses, the meter and a short run: what the painter's training stands on."""

import json

import cv2
import numpy as np
import pytest
import torch
from torch import nn

from pipelines.networks.trunk import TrunkPainter
from training.loop import Run
from training.painter import crops, judge, losses, meter
from training.painter.crops import Photograph
from training.painter.hed import gram
from training.painter.lessons import SHIFTS, Class, Looks
from training.painter.sheet import Sheets
from training.painter.train import Config, Trainer, _overlap

SIDE = 128


class Inverter:
    """A teacher whose picture of a window is known."""

    def paint(self, picture: torch.Tensor, look: str) -> torch.Tensor:
        return -picture


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
    blurred = [cv2.GaussianBlur(rng.integers(0, 256, (160, 200, 3), np.uint8), (0, 0), 4) for _ in range(3)]
    photographs = [Photograph(str(k), picture, None) for k, picture in enumerate(blurred)]
    repainted = [Photograph("0", blurred[0], 255 - blurred[0])]
    return Class(photographs, repainted, Inverter(), Looks(("ink", "oil"), ("wave",)), SIDE)


def test_looks_are_ordered_as_the_styles() -> None:
    looks = Looks(("ink", "oil"), ("wave",))
    assert looks.names == ["photograph", "ink", "oil", "wave"]
    assert [looks.names[k] for k in looks.rows("published")] == ["ink", "oil"]
    assert [looks.names[k] for k in looks.rows("painting")] == ["wave"] and list(looks.rows("photograph")) == [0]


def test_a_lesson_follows_from_seed_and_step(school: Class) -> None:
    counts = {"published": 2, "painting": 1, "photograph": 1}
    first, again, other = (school.lesson(0, step, counts, False) for step in (5, 5, 6))
    assert torch.equal(first.inputs, again.inputs) and torch.equal(first.looks, again.looks)
    assert not torch.equal(first.inputs, other.inputs)
    assert first.inputs.shape == (4, 3, SIDE, SIDE) and first.target.shape == (2, 3, SIDE, SIDE)
    assert first.looks[2] == 3 and first.looks[3] == 0 and set(first.looks[:2].tolist()) <= {1, 2}


def test_targets_lie_where_their_windows_lie(school: Class) -> None:
    for step in range(6):
        lesson = school.lesson(1, step, {"published": 3}, False)
        torch.testing.assert_close(lesson.target, -lesson.clean)


def test_pairs_show_one_scene_twice_and_overlap_where_moved_says(school: Class) -> None:
    lesson = school.lesson(0, 7, {"published": 2, "painting": 1}, True)
    assert lesson.looks.tolist() == [*lesson.looks[:2].tolist() * 2, 3, 3] and lesson.paintings == 2
    for a, b in ((0, 2), (1, 3), (4, 5)):
        assert not torch.equal(lesson.moved[a], lesson.moved[b]) or torch.equal(lesson.clean[a], lesson.clean[b])
        assert _overlap(lesson.clean[a], lesson.clean[b], lesson.moved[a] - lesson.moved[b]) == 0
    assert lesson.moved.max() < SHIFTS and not torch.equal(lesson.inputs[0], lesson.clean[0])  # a sensor's noise


def test_repainted_inputs_keep_the_clean_target(school: Class) -> None:
    """A third of the painted rows look as pocket's decoder gives them; here that is the negative."""
    rows = [school.lesson(2, step, {"published": 4}, False) for step in range(8)]
    gaps = torch.cat([(lesson.inputs - lesson.clean).abs().mean((1, 2, 3)) for lesson in rows])
    assert 0.1 < (gaps > 0.05).float().mean() < 0.7
    assert all(torch.equal(lesson.target, -lesson.clean) for lesson in rows)


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
    """Through both stages: two steps, stopped after one and resumed, give the very weights of two at once."""
    hed = TinyFeatures()
    paintings = [[gram(feature)[0] for feature in hed(torch.rand(1, 3, 64, 64), 4)]]

    def trainer(folder: str, steps: int) -> Trainer:
        return Trainer(Config(steps=4, palette=1, side=SIDE, every=2), school, hed, paintings, Run(tmp_path / folder))

    whole = trainer("whole", 4)
    for _ in range(2):
        whole.once()
        whole.step += 1
    first = trainer("parts", 4)
    first.once()
    first.step += 1
    first.save()
    second = trainer("parts", 4)
    assert second.step == 1
    values = second.once()
    assert {"time", "painting", "style"} <= values.keys()
    for ours, theirs in zip(second.model.parameters(), whole.model.parameters(), strict=True):
        torch.testing.assert_close(ours, theirs)


def test_windows_keep_their_twin_in_step() -> None:
    rng = np.random.default_rng(0)
    clean = cv2.GaussianBlur(rng.integers(0, 256, (90, 120, 3), np.uint8), (0, 0), 3)
    pair = Photograph("x", clean, clean.copy())
    for _ in range(5):
        a, b = crops.window(pair, 64, rng, True)
        np.testing.assert_array_equal(a, b)
        assert a.shape == (64, 64, 3)


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
    looks = Looks(tuple(f"look {k}" for k in range(8)), ("wave",))
    photograph = np.full((64, 64, 3), 90, np.uint8)
    model = TrunkPainter(channels=8, num_blocks=1, looks=looks.names).eval()
    shown = []
    for step in (10, 20):
        Sheets(tmp_path, [photograph], looks, Inverter())(model, step)
        shown.append(json.loads((tmp_path / "sheets.jsonl").read_text().splitlines()[-1])["looks"][0])
        assert (tmp_path / f"sheet-{step:06}.jpg").stat().st_size > 1000
    assert shown == [[f"look {k}" for k in range(6)], [f"look {k}" for k in (6, 7, 0, 1, 2, 3)]]
