"""Lessons: what is noised, what shall come out, and what is said about it."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Generator

from training import lessons
from training.lessons import Mixture, Scenes
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
    shares = {"again": 0.0, "plain": 0.0, "scene": 0.0, "dream": 0.0}
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


def test_the_noise_of_dreams_is_normal_and_leans_towards_its_scene(named: Scenes) -> None:
    pool = lessons.with_noise(Scenes(named.pictures, ["one"] * 20), blocks, seed=1, draws=3)
    assert pool.noise is not None and pool.noise.shape == (3, 20, 2, 3, 4, 4)
    noise = pool.noise.float()
    assert abs(float(noise.mean())) < 0.05 and float(noise.std()) == pytest.approx(1, abs=0.05)
    x = torch.from_numpy(named.pictures.copy()).float() / 255
    coarse = torch.nn.functional.adaptive_avg_pool2d(torch.stack([x, x.flip(3)], 1).flatten(0, 1), 4)
    coarse = (coarse - coarse.mean(0)).unflatten(0, (20, 2))
    mine, others = (coarse * noise).mean(), (coarse * noise.roll(1, 1)).mean()
    assert mine > 0.05 * coarse.std() and mine > 4 * others.abs()


def test_the_assigned_noise_is_drawn_with_the_scene(store: np.ndarray, named: Scenes) -> None:
    pool = lessons.with_noise(named, blocks, seed=1)
    lesson = drawn(store, pool, "dream")
    assert lesson.dreams.tolist() == list(range(12)) and lesson.timesteps.tolist() == [999] * 12
    assert lesson.noise.shape == (12, 3, 4, 4) and len(drawn(store, pool, "look").dreams) == 0
    assert pool.noise is not None
    known = {tuple(entry.flatten()[:4].tolist()) for entry in pool.noise.flatten(0, 2).float()}
    assert {tuple(entry.flatten()[:4].tolist()) for entry in lesson.noise} <= known
    assert all(subject in lessons.words.SCENES for subject in lesson.subjects)


def test_coarse_noise_sets_the_cells_and_leaves_the_rest() -> None:
    rng = Generator().manual_seed(2)
    noise, coarse = torch.randn((2, 3, 16, 32), generator=rng), torch.randn((2, 3, 4, 4), generator=rng)
    found = lessons.coarsely(noise, coarse)
    cells = found.unflatten(3, (4, 8)).unflatten(2, (4, 4)).mean((3, 5))
    torch.testing.assert_close(cells * 32**0.5, coarse)
    rest = (found - noise).unflatten(3, (4, 8)).unflatten(2, (4, 4))
    assert float(rest.std((3, 5)).max()) < 1e-5


def test_a_large_dream_is_a_scene_of_its_own_size() -> None:
    lesson = lessons.large_dream(64, 36, Generator().manual_seed(3))
    assert lesson.target.shape == (1, 3, 64, 64) and lesson.noise.shape == (1, 36, 4, 4)
    assert lesson.subjects[0] in lessons.words.SCENES and lesson.timesteps.tolist() == [999]


def test_shares_and_noise_levels() -> None:
    rng, mixture = Generator().manual_seed(1), Mixture()
    kinds = lessons.kinds(20_000, mixture, rng)
    for kind, share in (("again", mixture.again), ("plain", mixture.plain), ("scene", mixture.scene), ("dream", mixture.dream)):
        assert kinds.count(kind) / 20_000 == pytest.approx(share, abs=0.01)
    t = lessons.timesteps(kinds, mixture, rng)
    assert t.min() >= 0 and t.max() <= 999
    middle = {kind: t[torch.tensor([k == kind for k in kinds])].float().median() for kind in lessons.KINDS}
    assert middle["again"] < middle["look"] < middle["scene"] < middle["dream"]


def test_scenes_are_continued_where_they_stopped(tmp_path: Path) -> None:
    whole = lessons.scene_pool(tmp_path / "whole.npy", 40, 5)
    lessons.scene_pool(tmp_path / "parts.npy", 40, 5)
    names = tmp_path / "parts.json"
    names.write_text(json.dumps(json.loads(names.read_text())[:20]))
    parts = lessons.scene_pool(tmp_path / "parts.npy", 40, 5)
    assert parts.subjects == whole.subjects and np.array_equal(parts.pictures, whole.pictures)
