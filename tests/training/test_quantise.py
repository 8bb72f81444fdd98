"""What the comparison of int8 with float32 reports: likeness at one step and at four, apart from each other."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from pipelines import Pixels, Settings, StreamSpec
from training import quantise

PICTURE = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)


def test_a_loss_at_four_steps_is_not_hidden_behind_one_step(monkeypatch: pytest.MonkeyPatch) -> None:
    def load(spec: StreamSpec) -> Any:
        return SimpleNamespace(spec=spec, info=SimpleNamespace(prompts=("ink", "oil")))

    def made(pipeline: Any, picture: Pixels, settings: Settings) -> tuple[Pixels, list[float]]:
        lost = pipeline.spec.dtype == "int8" and (settings.steps, settings.prompt) == (4, "oil")
        return 255 - picture if lost else picture, [20.0 if pipeline.spec.dtype == "int8" else 40.0]

    monkeypatch.setattr(quantise, "load", load)
    monkeypatch.setattr(quantise, "_made", made)
    monkeypatch.setattr(quantise, "photographs_at", lambda side: [PICTURE])
    found = quantise.compare(Path("model"))
    assert (found["looks"], found["ratio"], found["ssim_worst"]) == (2, 2.0, 1.0)
    assert found["at_four"]["ssim_worst"] < 0 < found["at_four"]["ssim_mean"] < 1
