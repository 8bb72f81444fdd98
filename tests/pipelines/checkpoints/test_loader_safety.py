from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers.pipelines.stable_diffusion.safety_checker import StableDiffusionSafetyChecker
from PIL import Image

from pipelines import Entry, Frame, ModelError, Pixels, SafetyChecker, Settings, StreamSpec, load
from tests.miniature import save_safety_checker

MEAN = np.array([0.48145466, 0.4578275, 0.40821073], dtype=np.float32)
STD = np.array([0.26862954, 0.26130258, 0.27577711], dtype=np.float32)


def pictures(count: int, height: int = 64, width: int = 96) -> list[Pixels]:
    rng = np.random.default_rng(2)
    smooth = rng.integers(0, 256, (count, 8, 8, 3), dtype=np.uint8)
    return [np.array(Image.fromarray(small).resize((width, height), Image.Resampling.BICUBIC)) for small in smooth]


def scores(folder: Path, shown: list[Pixels]) -> torch.Tensor:
    """Cosine of each picture to each concept, by Pillow's resizing and the published network's parts: [N, 17]."""
    model = StableDiffusionSafetyChecker.from_pretrained(folder / "safety_checker").eval()
    views = []
    for picture in shown:
        image = Image.fromarray(picture)
        scale = 56 / min(image.size)
        image = image.resize((round(image.width * scale), round(image.height * scale)), Image.Resampling.BICUBIC)
        left, top = (image.width - 56) // 2, (image.height - 56) // 2
        cut = np.asarray(image.crop((left, top, left + 56, top + 56)), dtype=np.float32) / 255
        views.append(torch.from_numpy((cut - MEAN) / STD).permute(2, 0, 1))
    with torch.no_grad():
        seen = model.visual_projection(model.vision_model(torch.stack(views))[1])
        return torch.nn.functional.normalize(seen) @ torch.nn.functional.normalize(model.concept_embeds).T


def test_what_lies_near_a_concept_is_flagged(tmp_path: Path) -> None:
    shown = pictures(8)
    nearest = scores(save_safety_checker(tmp_path / "plain"), shown).max(dim=1).values
    threshold = float(nearest.median())
    checker = SafetyChecker(str(save_safety_checker(tmp_path / "strict", concept=threshold)))
    expected = [float(value) > threshold for value in nearest]
    verdicts = checker(shown)
    assert any(expected) and not all(expected)
    # Where the two ways of resizing put a picture on different sides of the threshold, it lies on it.
    assert all(a == b or abs(float(value) - threshold) < 0.01 for a, b, value in zip(verdicts, expected, nearest, strict=True))
    assert not any(SafetyChecker(str(tmp_path / "plain"))(shown))


def stream(mini_model: Path, safety: object) -> list[Pixels]:
    pipeline = load(StreamSpec(str(mini_model), 128, 128, "eager", "float32"), safety=safety)
    settings = Settings().patched({"probe.enabled": True, "probe.every": 1, "probe.share": 0.9})
    state, shown = pipeline.open(settings), []
    for number, picture in enumerate(pictures(3, 128, 128)):
        (answer,) = pipeline.step([Entry(state, Frame(number, number / 25, picture), settings)])
        shown += [view.numpy() for view in (answer.pixels, answer.reference) if view is not None]
    return shown


def test_flagged_pictures_and_references_are_shown_black(mini_model: Path, tmp_path: Path) -> None:
    everything = SafetyChecker(str(save_safety_checker(tmp_path / "all", concept=-2.0)))
    nothing = SafetyChecker(str(save_safety_checker(tmp_path / "none")))
    assert len(stream(mini_model, everything)) > 3 and not any(shown.any() for shown in stream(mini_model, everything))
    for shown, plain in zip(stream(mini_model, nothing), stream(mini_model, None), strict=False):
        assert np.array_equal(shown, plain)


def test_broken_checkers_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="is missing"):
        SafetyChecker(str(tmp_path / "nowhere"))
    folder = save_safety_checker(tmp_path / "checker")
    weights = folder / "safety_checker" / "model.safetensors"
    whole = weights.read_bytes()
    weights.write_bytes(whole[:-9])
    with pytest.raises(ModelError, match="truncated"):
        SafetyChecker(str(folder))
    weights.unlink()
    torch.save({}, folder / "safety_checker" / "pytorch_model.bin")
    with pytest.raises(ModelError, match="pickled"):
        SafetyChecker(str(folder))
    weights.write_bytes(whole)
    config = folder / "feature_extractor" / "preprocessor_config.json"
    config.write_text(json.dumps({**json.loads(config.read_text()), "crop_size": {"height": 112, "width": 112}}))
    with pytest.raises(ModelError, match="takes pictures of 56 pixels, not of 112"):
        SafetyChecker(str(folder))
    config.write_text("{}")
    with pytest.raises(ModelError, match="mean and deviation"):
        SafetyChecker(str(folder))


def test_the_published_checker_is_not_downloaded_offline() -> None:
    with pytest.raises(ModelError, match="is not downloaded yet"):
        SafetyChecker(offline=True)
