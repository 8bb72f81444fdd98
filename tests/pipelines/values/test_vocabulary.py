"""The list of looks in a model folder: read, absent, and refused with the field that is wrong."""

import json
from pathlib import Path

import pytest

from pipelines import REGISTRY, ModelError, ModelInfo
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
    assert len(known.looks) >= 15 and len(known.painted) >= 24 and {"oil", "pencil", "photo"} <= set(names)
    assert len(set(names)) == len(names)
