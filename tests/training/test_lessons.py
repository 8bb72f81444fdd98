"""Lessons: what is noised, what shall come out, and what is said about it."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Generator

from training import lessons
from training.lessons import Dreams, Mixture, Scenes
from training.scenes import SUBJECTS
from training.teacher import Request
from training.words import parse


@pytest.fixture(scope="module")
def store() -> np.ndarray:
    steep = np.random.default_rng(0).integers(0, 256, (4, 3, 8, 8), dtype=np.uint8)
    return steep.repeat(8, 2).repeat(8, 3)


@pytest.fixture(scope="module")
def named(tmp_path_factory: pytest.TempPathFactory) -> Scenes:
    return lessons.scene_pool(tmp_path_factory.mktemp("pool") / "scenes.npy", 20, 3)


def only(kind: str) -> Mixture:
    shares = {"again": 0.0, "plain": 0.0, "scene": 0.0}
    return Mixture(**shares) if kind == "look" else Mixture(**{**shares, kind: 1.0})


def drawn(store: np.ndarray, named: Scenes, kind: str, n: int = 12) -> lessons.Lessons:
    return lessons.batch(store, named, n, 64, 6, only(kind), Generator().manual_seed(7))


def test_a_look_turns_the_source_into_something_else(store: np.ndarray, named: Scenes) -> None:
    lesson = drawn(store, named, "look")
    changed = (lesson.start - lesson.target).abs().mean((1, 2, 3))
    asked = [parse(prompt) != Request() for prompt in lesson.prompts]
    assert sum(asked) >= 6
    assert all(change > 0.005 for change, other in zip(changed.tolist(), asked, strict=True) if other)


def test_what_has_the_look_already_stays(store: np.ndarray, named: Scenes) -> None:
    lesson = drawn(store, named, "again")
    assert torch.equal(lesson.start, lesson.target) and all(lesson.prompts)


def test_an_empty_prompt_changes_nothing(store: np.ndarray, named: Scenes) -> None:
    lesson = drawn(store, named, "plain")
    assert lesson.prompts == [""] * 12 and torch.equal(lesson.start, lesson.target)


def test_a_scene_is_called_by_its_name(store: np.ndarray, named: Scenes) -> None:
    lesson = drawn(store, named, "scene")
    assert torch.equal(lesson.start, lesson.target) and all(lesson.prompts)
    assert len(set(lesson.prompts)) > 3


def blocks(x: torch.Tensor) -> torch.Tensor:
    """Stands in for an encoder: 8 x 8 means."""
    return torch.nn.functional.avg_pool2d(x, 8)


@pytest.fixture(scope="module")
def dreams(tmp_path_factory: pytest.TempPathFactory) -> Dreams:
    return lessons.dreams(tmp_path_factory.mktemp("dreams") / "dreams.npy", 3, 1, blocks)


def test_every_subject_can_be_dreamt_and_the_file_is_made_once(dreams: Dreams, tmp_path: Path) -> None:
    assert dreams.pictures.shape == (3 * len(SUBJECTS), 3, 512, 512) and dreams.subjects == tuple(SUBJECTS)
    np.save(tmp_path / "dreams.npy", dreams.pictures)
    again = lessons.dreams(tmp_path / "dreams.npy", 3, 99, blocks)
    assert np.array_equal(again.pictures, dreams.pictures) and torch.equal(again.directions, dreams.directions)
    assert dreams.directions.flatten(2).norm(dim=2).flatten().tolist() == pytest.approx([1.0] * 81, abs=1e-4)
    assert float(dreams.directions.sum(1).abs().max()) < 1.5  # they point away from each other


def test_coarse_noise_decides_what_is_dreamt(dreams: Dreams) -> None:
    lesson, coarse = dreams.batch(40, 64, Generator().manual_seed(5))
    assert lesson.target.shape == (40, 3, 64, 64) and coarse.shape == (40, 3, 4, 4) and lesson.timesteps.tolist() == [999] * 40
    assert float(coarse.std()) == pytest.approx(1, abs=0.05), "as normal as any noise"
    shown, plain = [], 0
    for row, subject in enumerate(lesson.subjects):
        k = dreams.subjects.index(subject)
        near = max(range(3), key=lambda j: float((dreams.directions[k, j] * coarse[row]).sum()))
        shown.append(near)
        plain += torch.equal(lesson.target[row], lessons.shrunk(dreams.pictures[3 * k + near][None], 64)[0])
    assert set(shown) == {0, 1, 2} and 20 <= plain < 36, "two of three are as they are, the others in a look"


def test_coarse_noise_sets_the_cells_and_leaves_the_rest() -> None:
    rng = Generator().manual_seed(2)
    noise, coarse = torch.randn((2, 3, 16, 32), generator=rng), torch.randn((2, 3, 4, 4), generator=rng)
    found = lessons.coarsely(noise, coarse)
    cells = found.unflatten(3, (4, 8)).unflatten(2, (4, 4)).mean((3, 5))
    torch.testing.assert_close(cells * 32**0.5, coarse)
    rest = (found - noise).unflatten(3, (4, 8)).unflatten(2, (4, 4))
    assert float(rest.std((3, 5)).max()) < 1e-5


def test_shares_and_noise_levels() -> None:
    rng, mixture = Generator().manual_seed(1), Mixture()
    kinds = lessons.kinds(20_000, mixture, rng)
    for kind, share in (("again", mixture.again), ("plain", mixture.plain), ("scene", mixture.scene)):
        assert kinds.count(kind) / 20_000 == pytest.approx(share, abs=0.01)
    t = lessons.timesteps(kinds, mixture, rng)
    assert t.min() >= 0 and t.max() <= 999
    middle = {kind: t[torch.tensor([k == kind for k in kinds])].float().median() for kind in lessons.KINDS}
    assert middle["again"] < middle["look"] < middle["scene"]


def test_scenes_are_continued_where_they_stopped(tmp_path: Path) -> None:
    whole = lessons.scene_pool(tmp_path / "whole.npy", 40, 5)
    lessons.scene_pool(tmp_path / "parts.npy", 40, 5)
    names = tmp_path / "parts.json"
    names.write_text(json.dumps(json.loads(names.read_text())[:20]))
    parts = lessons.scene_pool(tmp_path / "parts.npy", 40, 5)
    assert parts.subjects == whole.subjects and np.array_equal(parts.pictures, whole.pictures)
