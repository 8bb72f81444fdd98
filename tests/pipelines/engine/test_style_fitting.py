"""A fit with what a model's folder has for it: from the predicted numbers on, step by step, or not at all."""

from __future__ import annotations

import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest

from pipelines import ModelError
from pipelines.checkpoints.loader.parts import ModelParts
from pipelines.checkpoints.naming import describe
from pipelines.engine.style_fitting import fitted
from pipelines.techniques.style_fit import CHECK_EVERY, Plan
from tests.pipelines.engine.test_painted import LOOKS, add_painter
from tests.pipelines.engine.test_picture_prompt import add_reader

PLAN = Plan(steps=CHECK_EVERY, side=48, half=False)
PICTURE = np.random.default_rng(2).integers(0, 256, (60, 90, 3), dtype=np.uint8)


def parts(folder: Path) -> ModelParts:
    return ModelParts(describe(str(folder)))


@pytest.fixture
def folder(mini_model: Path, tmp_path: Path) -> Path:
    made = tmp_path / "model"
    shutil.copytree(mini_model, made)
    add_painter(made, LOOKS)
    add_reader(made)
    return made


def test_a_fit_goes_from_the_predicted_numbers_to_the_best_ones(folder: Path) -> None:
    (folder / "calibration").mkdir()
    cv2.imwrite(str(folder / "calibration/0.jpg"), np.random.default_rng(1).integers(0, 256, (80, 80, 3), dtype=np.uint8))
    model = parts(folder)
    predicted = model.style_reader(PICTURE)
    news = list(fitted(model, PICTURE, PLAN))
    assert [round(done * PLAN.steps) for done, _, _ in news] == list(range(1, PLAN.steps + 1))
    assert np.array_equal(news[0][2].numbers, predicted.numbers)
    gain, style = news[-1][1:]
    assert gain > 0.0 and not np.array_equal(style.numbers, predicted.numbers)
    assert (style.painter, style.fitted) == (model.painter_fingerprint, PLAN.steps) and style.source is PICTURE
    assert model.painter.dtype == parts(folder).painter.dtype  # the model's own network is as it was


def test_without_photographs_or_a_reader_there_is_no_fit(folder: Path) -> None:
    with pytest.raises(ModelError, match="calibration: has no photographs"):
        next(fitted(parts(folder), PICTURE, PLAN))
    shutil.rmtree(folder / "style_reader")
    with pytest.raises(ModelError, match="nothing that reads a picture's style"):
        next(fitted(parts(folder), PICTURE, PLAN))
