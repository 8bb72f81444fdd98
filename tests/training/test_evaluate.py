"""The whole evaluation on untrained weights and small pictures: every figure is there, unknown looks are left out."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from pipelines.networks.cosine_autoencoder import CosineAutoencoder
from pipelines.techniques import schedule
from pipelines.values.vocabulary import Word
from training import evaluate, photographs
from training.classifier import Classifier
from training.denoiser import Denoiser
from training.evaluate import Scope, Subject
from training.looks import LOOKS
from training.model import build_scheduler
from training.scenes import SUBJECTS
from training.sheet import imagine, paint

SCOPE = Scope(side=64, names=("coffee",), judged=("coffee",), seeds=2, frames=2, dream_side=64)


@pytest.fixture(scope="module")
def tested() -> Subject:
    torch.manual_seed(0)
    looks = (Word("oil", "Oil", "oil painting", "painting"), Word("ink", "Ink", "ink drawing", "drawing"))
    return Subject(Denoiser().eval(), CosineAutoencoder().eval(), looks, (Word("sea", "Sea", "sea", "scene"),))


@pytest.fixture(autouse=True)
def _untrained_judges(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(1)
    judges = {
        "classifier_looks.safetensors": Classifier(tuple(LOOKS)),
        "classifier_subjects.safetensors": Classifier(tuple(SUBJECTS), 3),
    }
    monkeypatch.setattr(evaluate.classifier, "load", lambda path: judges[path.name].eval())
    monkeypatch.setattr(evaluate.classifier, "examine_looks", lambda judge: torch.eye(3, dtype=torch.long))
    monkeypatch.setattr(evaluate.classifier, "examine_subjects", lambda judge: torch.tensor([[3, 1], [0, 4]]))
    small = torch.rand(1, 3, 304, 304, generator=torch.Generator().manual_seed(2))
    monkeypatch.setattr(photographs, "held_out", lambda: {"coffee": small})


def test_every_figure_is_there(tested: Subject) -> None:
    figures = evaluate.evaluate(tested, SCOPE, (1, 2))
    assert json.loads(json.dumps(figures)) == figures and set(figures["steps"]) == {"1", "2"}
    column = figures["steps"]["2"]
    assert set(column["looks"]) == {"oil", "ink"} and set(column["looks"]["ink"]) == {"ssim", "colour", "structure", "flicker"}
    assert 0 <= column["prompts"]["worst"] <= column["prompts"]["accuracy"] <= 1
    assert column["prompts"]["frechet"] >= 0 and column["scenes"]["per_subject"].keys() == {"sea"} and column["clip"] > 0
    assert 0 <= column["scenes"]["large"] <= 1
    first, second = tuple(SUBJECTS)[:2]
    assert figures["classifiers"] == {
        "looks": {"accuracy": 1.0, "mistakes": []},
        "subjects": {"accuracy": 0.875, "mistakes": [[first, second, 1]]},
    }
    table = evaluate.summary(figures)
    assert (
        table.splitlines()[0] == "| steps | 1 | 2 |"
        and "text to image accuracy" in table
        and "| oil |" in evaluate.by_look(figures)
    )


def test_what_is_chosen_by_is_not_what_is_reported(tested: Subject, monkeypatch: pytest.MonkeyPatch) -> None:
    kept_back = photographs.held_out()["coffee"]
    choosing = replace(evaluate.CHOOSING, side=64)
    crops = evaluate.held_out(choosing, choosing.judged)
    assert len(crops) == evaluate.CROPS and len(evaluate.held_out(choosing)) == evaluate.CROPS // 2
    assert all(x.shape == (1, 3, 64, 64) and not torch.equal(x, photographs.square(kept_back, 64)) for x in crops.values())

    seeds: list[int] = []
    plain = Subject(tested.model, tested.vae, tested.looks[:1], tested.scenes)

    def painted(
        model: object, vae: object, x: torch.Tensor, prompts: object, strength: float, seed: int, steps: int
    ) -> torch.Tensor:
        seeds.append(seed)
        return x

    monkeypatch.setattr(evaluate, "paint", painted)
    found = {}
    for name, scope in (("reported", replace(SCOPE, frames=0)), ("chosen by", replace(choosing, frames=0))):
        seeds.clear()
        evaluate.evaluate_looks(plain, scope, 1)
        evaluate.evaluate_prompts(plain, Classifier(tuple(LOOKS)).eval(), scope, 1)
        found[name] = set(seeds)
    assert len(found["chosen by"]) == evaluate.CROPS and found["chosen by"].isdisjoint(found["reported"])


def test_a_model_without_scenes_has_no_figures_for_them(tested: Subject) -> None:
    plain = Subject(tested.model, tested.vae, tested.looks[:1], ())
    figures = evaluate.evaluate(plain, SCOPE, (1,))
    assert figures["steps"]["1"]["scenes"] is None and "| text to image accuracy, 256 x 256 | – |" in evaluate.summary(figures)


def test_steps_go_down_as_the_engines_and_later_ones_change_the_picture(tested: Subject) -> None:
    plan = schedule.from_config(build_scheduler().config)
    x = torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(3))
    seen: list[int] = []
    with tested.model.register_forward_pre_hook(lambda _, given: seen.append(int(given[1][0]))):
        paint(tested.model, tested.vae, x, ["oil painting"], 0.5, steps=4)
    assert tuple(seen) == plan.timesteps(0.5, 4) == (500, 211, 62, 8)
    one, two = (paint(tested.model, tested.vae, x, ["oil painting"], 0.5, steps=steps) for steps in (1, 2))
    assert one.shape == x.shape and not torch.equal(one, two)
    assert torch.equal(two, paint(tested.model, tested.vae, x, ["oil painting"], 0.5, steps=2))


def test_imagined_pictures_differ_by_noise(tested: Subject) -> None:
    y = imagine(tested.model, tested.vae, ["sea", "sea"], 64)
    assert y.shape == (2, 3, 64, 64) and y.min() >= 0 and y.max() <= 1 and not torch.equal(y[0], y[1])


def test_the_shipped_model_is_read_with_the_looks_that_it_lists() -> None:
    folder = Path(evaluate.__file__).parents[1] / "assets" / "pocket"
    found = evaluate.subject(folder)
    assert {"halftone", "neon", "photo"} <= {look.name for look in found.looks}
    assert all(look.name in LOOKS for look in found.looks)
