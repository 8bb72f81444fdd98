"""Free words in the engine: typed words give the picture of the model's own words, and a report on how they were read."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from pipelines import Entry, ModelError, PictureStyle, Pixels, Settings, StreamPipeline, StreamSpec, describe, load, write_style
from pipelines.checkpoints.loader.parts import ModelParts
from tests.pipelines.engine.test_painted import LOOKS, SIZE, add_painter, frame
from tests.words_folder import add_words, table, tensors


@pytest.fixture(scope="module")
def folder(mini_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("worded") / "model"
    shutil.copytree(mini_model, made)
    add_painter(made, LOOKS)
    add_words(made)
    return made


@pytest.fixture(scope="module")
def pipeline(folder: Path) -> StreamPipeline:
    made = load(StreamSpec(str(folder), SIZE, SIZE, "eager", "float32"))
    made.prepare(Settings().patched({"prompt": "ink wash", "guidance_mode": "full"}))
    return made


def settings_of(**changes: object) -> Settings:
    return Settings().patched(changes)


def once(pipeline: StreamPipeline, **changes: object) -> Pixels:
    settings = settings_of(**changes)
    (output,) = pipeline.step([Entry(pipeline.open(settings), frame(), settings)])
    assert output.pixels is not None
    return output.pixels.numpy()


def test_a_named_style_is_understood_as_a_style_and_stands_for_a_look(folder: Path, tmp_path: Path) -> None:
    shutil.copytree(folder, tmp_path / "model")
    (tmp_path / "model/styles").mkdir()
    parts = ModelParts(describe(str(folder)))
    style = PictureStyle(parts.plain_styles[0].numpy(), parts.painter_fingerprint, "red waves")
    (tmp_path / "model/styles/red.safetensors").write_bytes(write_style(style))
    made = load(StreamSpec(str(tmp_path / "model"), SIZE, SIZE, "eager", "float32"), warm=False)
    found = made.understood(Settings().patched({"prompt": "make a Red Waves spreadsheet"})).listed()
    named = {"setting": "prompt", "words": "Red Waves", "meaning": "red waves", "kind": "style", "by": "name"}
    assert found["understood"] == [named] and [one["words"] for one in found["unknown"]] == ["spreadsheet"]
    assert made.graphs.parts.read_words("spreadsheet red waves after dark").text == "red waves, night"


@pytest.mark.parametrize(
    ("typed", "own"),
    [
        ({"prompt": "make a van gogh"}, {"prompt": "ink wash"}),
        ({"prompt": "梵高, after dark"}, {"prompt": "ink wash, night"}),
        ({"prompt": "ink wash spreadsheet"}, {"prompt": "ink wash"}),
        (
            {"prompt": "van gogh", "prompt_b": "anime", "blend": 0.4},
            {"prompt": "ink wash", "prompt_b": "blue swirl", "blend": 0.4},
        ),
        (
            {"prompt": "photo", "negative": "after dark", "guidance_mode": "full", "guidance": 3.0},
            {"prompt": "photo", "negative": "night", "guidance_mode": "full", "guidance": 3.0},
        ),
    ],
)
def test_typed_words_draw_what_the_models_own_words_draw(
    pipeline: StreamPipeline, typed: dict[str, object], own: dict[str, object]
) -> None:
    assert np.array_equal(once(pipeline, **typed), once(pipeline, **own))


def test_a_known_look_draws_what_it_draws_without_a_table(pipeline: StreamPipeline, folder: Path, tmp_path: Path) -> None:
    shutil.copytree(folder, tmp_path / "model")
    shutil.rmtree(tmp_path / "model" / "words")
    without = load(StreamSpec(str(tmp_path / "model"), SIZE, SIZE, "eager", "float32"))
    without.prepare(settings_of(prompt="ink wash"))
    for prompt in ("ink wash", "Blue Swirl, a cat", "photo, night", "a cat", ""):
        assert np.array_equal(once(pipeline, prompt=prompt), once(without, prompt=prompt)), prompt
        assert without.understood(settings_of(prompt=prompt)).listed()["understood"] == []


def test_the_report_names_the_setting_of_each_prompt(pipeline: StreamPipeline) -> None:
    report = pipeline.understood(settings_of(prompt="make a Van Gogh", prompt_b="lamp", negative="spreadsheet")).listed()
    assert report["understood"] == [
        {"setting": "prompt", "words": "Van Gogh", "meaning": "ink wash", "kind": "look", "by": "alias"},
        {"setting": "prompt_b", "words": "lamp", "meaning": "photo", "kind": "look", "by": "meaning"},
    ]
    (unknown,) = report["unknown"]
    assert (unknown["setting"], unknown["words"], unknown["nearest"]) == ("negative", "spreadsheet", None)
    assert unknown["message"] == "no style known for 'spreadsheet'" and report["cut"] == []
    assert pipeline.understood(settings_of(prompt="")).listed() == {"understood": [], "unknown": [], "cut": []}


def test_a_prompt_beyond_the_context_is_reported_with_its_cut(pipeline: StreamPipeline) -> None:
    parts = pipeline.graphs.parts
    length = parts.embedding_shape[0]
    prompt = " ".join(["a"] * (length - 2))  # a token each
    assert pipeline.understood(settings_of(prompt=prompt)).listed()["cut"] == []
    (cut,) = pipeline.understood(settings_of(prompt=f"{prompt} cat a cat")).listed()["cut"]
    assert (cut["setting"], cut["tokens"], cut["kept"], cut["lost"]) == ("prompt", length, prompt, "cat a cat")
    assert "'cat a cat'" in cut["message"]
    (kept,) = parts.encode_prompt(cut["kept"])
    torch.testing.assert_close(kept, parts.encode_prompt(f"{prompt} cat a cat")[0])


@pytest.mark.parametrize(
    ("listed", "weights", "message"),
    [
        (table(own=[]), None, "own must be an object"),
        (table(aliases={"cubism": ["x"]}), None, "aliases: 'cubism' is no look, modifier or scene"),
        (table(prompts=["cubism"]), None, "prompts: 'cubism' is no look"),
        (table(general=[""]), None, "general must be a list of texts"),
        ({**table(), "more": []}, None, "must have the keys"),
        (table(vocabulary=["lamp"]), None, "do not fit"),
        (None, {"vectors": tensors()["vectors"]}, "must have the tensors"),
        (None, {**tensors(), "owners": torch.tensor([0, 2], dtype=torch.int16)}, "owners must rise"),
        (None, {**tensors(), "anchors": torch.zeros(2, 3, dtype=torch.int8)}, "do not fit"),
        (None, {**tensors(), "vectors": torch.zeros((), dtype=torch.int8)}, "do not fit"),
    ],
)
def test_a_broken_table_is_an_error_that_names_the_field(
    mini_model: Path, tmp_path: Path, listed: dict[str, Any] | None, weights: dict[str, torch.Tensor] | None, message: str
) -> None:
    shutil.copytree(mini_model, tmp_path / "model")
    add_painter(tmp_path / "model", LOOKS)
    add_words(tmp_path / "model", listed, weights)
    with pytest.raises(ModelError, match=message):
        _ = ModelParts(describe(str(tmp_path / "model"))).read_words


def test_each_text_of_a_composed_prompt_is_read_by_itself(pipeline: StreamPipeline) -> None:
    found = pipeline.understood(settings_of(prompt="left: 梵高 | rest: van gogh, qwxzy", travel=2.0)).listed()
    taken = [(one["setting"], one["region"], one["words"], one["meaning"]) for one in found["understood"]]
    assert taken == [("prompt", "left", "梵高", "ink wash"), ("prompt", "rest", "van gogh", "ink wash")]
    assert [(one["region"], one["words"]) for one in found["unknown"]] == [("rest", "qwxzy")]
    assert found["idle"] == [{"setting": "travel", "message": "a prompt with regions or weights changes at once"}]
    weighted = pipeline.understood(settings_of(prompt="梵高 :0.5 | van gogh :1")).listed()
    assert [one["region"] for one in weighted["understood"]] == ["1", "2"]
    assert "region" not in pipeline.understood(settings_of(prompt="van gogh")).listed()["understood"][0]


def test_a_region_that_is_not_known_is_said_with_all_that_are(pipeline: StreamPipeline) -> None:
    typed = "sky: van gogh | person: anime"
    found = pipeline.understood(settings_of(prompt=typed)).listed()
    (remark,) = found["idle"]
    assert remark["setting"] == "prompt"
    assert all(word in str(remark["message"]) for word in ("'sky'", "'person'", "left", "upper third", "painted", "rest"))
    assert {one["meaning"] for one in found["understood"]} >= {"ink wash", "blue swirl"}, "its words are read as ever"
    (other,) = pipeline.understood(settings_of(prompt="van gogh", prompt_b="left: a | right: b")).listed()["idle"]
    assert other["setting"] == "prompt_b"
