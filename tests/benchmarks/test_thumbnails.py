"""The presets of the page and their thumbnails."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import cv2
import numpy as np
import pytest

from benchmarks import thumbnails
from pipelines import REGISTRY, Settings, SettingsError

MODEL, PRESETS = thumbnails.read_presets()


def test_the_presets_are_for_a_model_that_ships_and_use_its_looks() -> None:
    vocabulary = REGISTRY[MODEL].vocabulary
    looks = {word.prompt for word in (*vocabulary.looks, *vocabulary.painted)}
    modifiers = {word.prompt for word in vocabulary.modifiers}
    for preset in PRESETS:
        look, *rest = preset.settings.prompt.split(", ")
        assert look in looks and set(rest) <= modifiers, preset.name
        assert not preset.settings.prompt_b or preset.settings.prompt_b in looks, preset.name
    assert {preset.settings.prompt for preset in PRESETS} >= looks, "every look has a picture"


@pytest.mark.parametrize("preset", PRESETS, ids=lambda preset: preset.name)
def test_every_preset_has_a_small_picture(preset: thumbnails.Preset) -> None:
    path = thumbnails.FOLDER / preset.picture
    picture = cv2.imread(str(path))
    assert picture is not None and picture.shape == (thumbnails.SIDE, thumbnails.SIDE, 3)
    assert path.stat().st_size < 12_000
    assert picture.std(axis=(0, 1)).max() > 15, "something is to be seen"


def test_no_two_presets_look_alike() -> None:
    pictures = [cv2.imread(str(thumbnails.FOLDER / preset.picture)).astype(float) for preset in PRESETS]
    for index, picture in enumerate(pictures):
        for other in pictures[:index]:
            assert np.abs(picture - other).mean() > 3


def test_neighbours_show_different_pictures_whose_terms_are_named() -> None:
    readme = (thumbnails.FOLDER / "README.md").read_text(encoding="utf-8")
    for before, preset in pairwise(PRESETS):
        assert preset.source != before.source, preset.name
    assert {preset.source for preset in PRESETS} == set(thumbnails.SOURCES)
    assert all(f"| `{name}` |" in readme for name in thumbnails.SOURCES)


@pytest.mark.parametrize("name", thumbnails.SOURCES)
def test_a_source_is_a_colour_square_of_the_model_s_size(name: str) -> None:
    picture = thumbnails.SOURCES[name].picture(96, 96)
    assert (picture.shape, picture.dtype) == ((96, 96, 3), np.uint8) and picture.std() > 20
    with pytest.raises(ValueError, match="square"):
        thumbnails.SOURCES[name].picture(96, 64)


def test_a_name_that_no_preset_has_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert thumbnails.main(["Oil painting", "Odd"]) == 2 and "Odd" in capsys.readouterr().err


def test_thumbnails_are_what_the_model_gave(tmp_path: Path) -> None:
    colours = {"red": (210, 30, 30), "blue": (30, 30, 210)}
    presets = [thumbnails.Preset(name, Settings().patched({"prompt": name}), "cat", f"{name}.jpg") for name in colours]

    def render(preset: thumbnails.Preset) -> np.ndarray:
        return np.full((256, 256, 3), colours[preset.settings.prompt], np.uint8)

    thumbnails.write_thumbnails(presets, render, tmp_path)
    for name, colour in colours.items():
        mean = cv2.imread(str(tmp_path / f"{name}.jpg"))[..., ::-1].reshape(-1, 3).mean(axis=0)
        assert np.abs(mean - colour).max() < 6


def test_a_setting_that_does_not_exist_is_named_with_its_preset(tmp_path: Path) -> None:
    preset = '{"name": "Odd", "settings": {"glow": 1}, "source": "cat", "picture": "x"}'
    (tmp_path / "presets.json").write_text(f'{{"model": "pocket", "presets": [{preset}]}}')
    with pytest.raises(SettingsError, match=r"glow.*Odd"):
        thumbnails.read_presets(tmp_path)
