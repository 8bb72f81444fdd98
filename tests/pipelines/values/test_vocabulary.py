"""The list of looks in a model folder: read, absent, and refused with the field that is wrong."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from pipelines import REGISTRY, ModelError, ModelInfo, PictureStyle, write_style
from pipelines.values.vocabulary import FILE, PAINTER, PaintedLook, Vocabulary, Word, read_vocabulary

LOOK = {"name": "oil", "title": "Oil painting", "prompt": "oil painting", "group": "painting"}

PAINTED = {"blue swirl": {"19": 0.75, "14": 0.25}}


def folder(path: Path, content: object) -> Path:
    (path / FILE).write_text(content if isinstance(content, str) else json.dumps(content))
    return path


def painter(path: Path, content: object) -> Path:
    (path / "painter").mkdir()
    (path / PAINTER).write_text(json.dumps(content))
    return path


def test_a_list_is_read(tmp_path: Path) -> None:
    night = {"name": "night", "title": "At night", "prompt": "at night", "group": "light"}
    found = read_vocabulary(folder(tmp_path, {"looks": [LOOK], "modifiers": [night]}))
    assert found == Vocabulary(
        (Word("oil", "Oil painting", "oil painting", "painting"),), (Word("night", "At night", "at night", "light"),)
    )


def test_painted_looks_are_read_and_count_among_the_prompts(tmp_path: Path) -> None:
    place = painter(folder(tmp_path, {"looks": [LOOK]}), {"looks": PAINTED})
    (look,) = read_vocabulary(place).painted
    assert look == PaintedLook("blue-swirl", "Blue swirl", "blue swirl", "painted", ((19, 0.75), (14, 0.25)), "photo")
    assert ModelInfo("x", "X", place, "unknown").prompts == ("oil painting", "blue swirl")


def test_a_painted_look_replaces_the_look_of_its_prompt(tmp_path: Path) -> None:
    """And keeps its name, by which presets and clients know it; nothing is listed twice."""
    place = painter(folder(tmp_path, {"looks": [LOOK]}), {"looks": {"oil painting": {"0": 1.0}}})
    found = read_vocabulary(place)
    assert found.looks == ()
    assert found.painted == (PaintedLook("oil", "Oil painting", "oil painting", "painting", ((0, 1.0),), "photo"),)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ([], "is not a JSON object"),
        ({"looks": ["ink"]}, "looks must be an object"),
        ({"looks": {"ink": {}}}, "'ink' must be an object of rows and shares"),
        ({"looks": {"ink": {"0": 0.5}}}, "sum to 1"),
        ({"looks": {"ink": {"-1": 1.0}}}, "rows and shares"),
        ({"looks": {"ink": {"0": "1"}}}, "rows and shares"),
        ({"looks": {"ink": [[0, 1.0]]}}, "rows and shares"),
    ],
)
def test_bad_painted_looks_are_refused(tmp_path: Path, content: object, message: str) -> None:
    place = painter(tmp_path, content)
    with pytest.raises(ModelError, match=f"painter/config.json: .*{message}"):
        read_vocabulary(place)


WAVES = PictureStyle(np.ones(4, np.float32), "0123456789ab", "red waves")


def styled(folder: Path, *files: bytes) -> Path:
    (folder / "styles").mkdir()
    for index, data in enumerate(files):
        (folder / f"styles/{index}.safetensors").write_bytes(data)
    return folder


def test_styles_of_pictures_are_painted_looks_by_their_names(tmp_path: Path) -> None:
    known = read_vocabulary(styled(folder(tmp_path, {"looks": [LOOK]}), write_style(WAVES)))
    (look,) = known.painted
    assert (look.name, look.title, look.prompt, look.group) == ("red-waves", "Red waves", "red waves", "paintings")
    assert look.made is not None and look.made.painter == WAVES.painter and look.over == "photo"


@pytest.mark.parametrize(
    ("style", "message"),
    [
        (write_style(WAVES)[:-2], "damaged"),
        (write_style(replace(WAVES, name="")), "must be one that no other look has"),
        (write_style(replace(WAVES, name="Oil Painting")), "'Oil Painting' must be one that no other look has"),
        (bytes(300_000), "larger than 0.25 MB"),
    ],
)
def test_bad_styles_of_a_folder_are_refused(tmp_path: Path, style: bytes, message: str) -> None:
    place = styled(folder(tmp_path, {"looks": [LOOK]}), style)
    with pytest.raises(ModelError, match=f"styles/0.safetensors: .*{message}"):
        read_vocabulary(place)


def test_a_name_is_given_to_one_style_only(tmp_path: Path) -> None:
    place = styled(tmp_path, write_style(WAVES), write_style(replace(WAVES, name="RED waves")))
    with pytest.raises(ModelError, match=r"styles/1\.safetensors: its name 'RED waves'"):
        read_vocabulary(place)


def test_a_folder_without_one_has_its_examples(tmp_path: Path) -> None:
    info = ModelInfo("x", "X", tmp_path, "unknown", examples=("a sketch",))
    assert info.vocabulary == Vocabulary() and info.prompts == ("a sketch",)


def test_prompts_are_those_of_the_looks(tmp_path: Path) -> None:
    info = ModelInfo("x", "X", folder(tmp_path, {"looks": [LOOK]}), "unknown", examples=("a sketch",))
    assert info.prompts == ("oil painting",)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "not readable"),
        ([], "JSON object"),
        ({"looks": [], "styles": []}, "may have the keys looks, modifiers, scenes"),
        ({"looks": {}}, "looks must be a list"),
        ({"looks": [LOOK, "oil"]}, r"looks\[1\]"),
        ({"scenes": [{**LOOK, "prompt": ""}]}, r"scenes\[0\]"),
        ({"looks": [{**LOOK, "extra": "x"}]}, r"looks\[0\]"),
        ({"modifiers": [LOOK, LOOK]}, "modifiers has a name twice"),
        (" " * 1_000_001, "larger than"),
    ],
)
def test_bad_lists_are_refused(tmp_path: Path, content: object, message: str) -> None:
    with pytest.raises(ModelError, match=message):
        read_vocabulary(folder(tmp_path, content))


def test_the_shipped_model_lists_its_looks() -> None:
    known = REGISTRY["pocket"].vocabulary
    names = [look.name for look in (*known.looks, *known.painted)]
    assert len(names) >= 40 and len(known.painted) >= 24 and {"oil", "pencil", "photo"} <= set(names)
    assert len(set(names)) == len(names)
