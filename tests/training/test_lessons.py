"""Lessons: what is noised, what shall come out, and its prompt."""

import itertools
import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Generator

from training import lessons, scenes
from training.lessons import Dreams, Mixture, Scenes
from training.scenes import SUBJECTS, scene
from training.teacher import Request
from training.words import SCENES, parse

SIDE = 128


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
    changing = [parse(prompt) != Request() for prompt in lesson.prompts]
    assert sum(changing) >= 6
    assert all(change > 0.005 for change, other in zip(changed.tolist(), changing, strict=True) if other)


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


@pytest.fixture(scope="module")
def dreams(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Dreams]:
    """Dreams of a smaller side: drawing them takes its time pixel by pixel."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(lessons, "DREAM_SIDE", SIDE)
        yield lessons.dreams(tmp_path_factory.mktemp("dreams") / "dreams.npy", 1)


def test_every_subject_can_be_dreamt_and_the_file_is_made_once(
    dreams: Dreams, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert dreams.pictures.shape == (2 * len(SUBJECTS), 3, SIDE, SIDE) and dreams.subjects == tuple(SUBJECTS)
    np.save(tmp_path / "dreams.npy", dreams.pictures)
    assert np.array_equal(lessons.dreams(tmp_path / "dreams.npy", 99).pictures, dreams.pictures)
    few = 3
    monkeypatch.setattr(scenes, "SUBJECTS", dict(itertools.islice(SUBJECTS.items(), few)))
    made = lessons.dreams(tmp_path / "dreams.npy", 1).pictures
    assert np.array_equal(made, dreams.pictures[: few * lessons.EACH]), "a file of other subjects is replaced"


def test_some_subjects_are_dreamt_from_later_draws(dreams: Dreams) -> None:
    for subject, taken in lessons.TAKEN.items():
        k = dreams.subjects.index(subject)
        rng = Generator().manual_seed(1 * 100_003 + 70_000_000 + k)
        drawn = [scene(1, SIDE, rng, (subject,))[0] for _ in range(max(taken) + 1)]
        for place, which in enumerate(taken):
            pixels = (drawn[which][0].clamp(0, 1) * 255).round().to(torch.uint8).numpy()
            assert np.array_equal(dreams.pictures[k * lessons.EACH + place], pixels)


def test_the_words_decide_what_is_dreamt(dreams: Dreams) -> None:
    lesson = dreams.batch(200, 32, Generator().manual_seed(5))
    assert lesson.target.shape == (200, 3, 32, 32) and lesson.timesteps.tolist() == [999] * 200
    shown, plain = [], 0
    for target, subject, prompt in zip(lesson.target, lesson.subjects, lesson.prompts, strict=True):
        k, names = dreams.subjects.index(subject), SCENES[subject]
        shown.append(max((name for name in names if name in prompt), key=len) != names[0])
        if parse(prompt) == Request():
            plain += torch.equal(target, lessons.shrunk(dreams.pictures[2 * k + shown[-1]][None], 32)[0])
    assert 0.15 < sum(shown) / 200 < 0.35 and 140 < plain < 185, "a fifth is in a look"


def test_simple_dreams_are_first_scenes_by_their_bare_names(dreams: Dreams) -> None:
    lesson = dreams.batch(60, 32, Generator().manual_seed(6), awake=0.5, simple=True)
    assert lesson.timesteps.tolist() == [999] * 60 and len(set(lesson.subjects)) > 15
    for target, subject, prompt in zip(lesson.target, lesson.subjects, lesson.prompts, strict=True):
        first = dreams.pictures[2 * dreams.subjects.index(subject)][None]
        assert prompt == SCENES[subject][0] and torch.equal(target, lessons.shrunk(first, 32)[0])


def test_a_share_of_the_dreams_starts_from_less_than_noise(dreams: Dreams) -> None:
    levels = dreams.batch(300, 8, Generator().manual_seed(5), awake=0.4).timesteps
    less = levels[levels < 999]
    assert 0.3 < len(less) / 300 < 0.5 and less.min() >= 200 and less.max() <= 950


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
