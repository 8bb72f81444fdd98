"""The shipped table of free words: made of the committed lists, complete, and good for what people type."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from pipelines.checkpoints.loader.files import Folder
from pipelines.checkpoints.loader.words import kinds_of, read_words
from pipelines.techniques.free_words.reader import Reader
from pipelines.techniques.free_words.tokens import key
from pipelines.values.models import ASSETS
from pipelines.values.vocabulary import read_vocabulary
from training.__main__ import main as training
from training.free_words import build, score, sources
from training.free_words.__main__ import main

POCKET = ASSETS / "pocket"
VOCABULARY = read_vocabulary(POCKET)
MOST_BYTES = 4_000_000
FLOOR = 0.8


@pytest.fixture(scope="module")
def reader() -> Reader:
    made = read_words(Folder(POCKET), VOCABULARY)
    assert made is not None
    return made


def test_the_table_is_what_the_committed_lists_make_and_is_small() -> None:
    shipped = json.loads((POCKET / "words" / "words.json").read_text(encoding="utf-8"))
    for field, made in sources.table().items():
        assert shipped[field] == made, f"{field}: run `python -m training words build`"
    kinds = kinds_of(VOCABULARY)
    assert shipped["prompts"] == [prompt for prompt, kind in kinds.items() if kind not in ("intensity", "style")]
    assert sum(path.stat().st_size for path in (POCKET / "words").iterdir()) <= MOST_BYTES


@pytest.mark.parametrize("name", sources.LANGUAGES)
def test_every_alias_stands_for_something_that_pocket_draws(name: str) -> None:
    kinds = kinds_of(VOCABULARY)
    listed = sources.language(name)
    assert {prompt for target in listed.aliases for prompt in target.split(", ")} <= set(kinds)
    assert len({key(phrase) for phrases in listed.aliases.values() for phrase in phrases}) >= 300


@pytest.mark.parametrize("name", ["prompts", "prompts_held_out"])
def test_enough_prompts_get_a_look_that_a_person_would_accept(reader: Reader, name: str) -> None:
    results = score.score(reader.read, sources.wishes(name))
    refused = [result for result in results if not result.accepted]
    assert score.share(results) >= FLOOR, refused


def test_the_lists_are_as_long_and_as_mixed_as_declared() -> None:
    listed, held_out = sources.wishes("prompts"), sources.wishes("prompts_held_out")
    assert (len(listed), len(held_out)) == (120, 40)
    assert not {wish.prompt for wish in listed} & {wish.prompt for wish in held_out}
    for wishes in (listed, held_out):
        assert sum(wish.language != "en" for wish in wishes) >= len(wishes) // 5
        assert {look for wish in wishes for look in wish.accepted} <= set(kinds_of(VOCABULARY))


def test_a_prompt_counts_only_if_all_of_its_looks_are_accepted(reader: Reader) -> None:
    (right, both, none, some) = score.score(
        reader.read,
        [
            sources.Wish("en", "make me an anime", ("cartoon",)),
            sources.Wish("en", "mosaic and embroidery", ("mosaic",)),
            sources.Wish("en", "spreadsheet", ()),
            sources.Wish("en", "mosaic", ()),
        ],
    )
    assert (right.accepted, both.accepted, none.accepted, some.accepted) == (True, False, True, False)


def test_every_name_of_the_model_stays_as_it_is(reader: Reader) -> None:
    for prompt in (*kinds_of(VOCABULARY), *(phrase for phrases in sources.own().values() for phrase in phrases)):
        reading = reader.read(prompt)
        assert reading.text == prompt and reading.understood and {one.by for one in reading.understood} == {"name"}, prompt


def test_composed_prompts_are_the_models_own_words(reader: Reader) -> None:
    for wish in sources.wishes("prompts"):
        text = reader.read(wish.prompt).text
        assert reader.read(text).text == text, wish


def test_no_thing_or_mood_is_taken_for_a_look_nor_has_a_nearest(reader: Reader) -> None:
    things = json.loads((POCKET / "words" / "words.json").read_text(encoding="utf-8"))["things"]
    assert {"fox", "quiet", "rabbit", "loud"} <= set(things)
    for thing in things:
        reading = reader.read(f"a {thing}")
        assert (reading.understood, [(one.words, one.nearest) for one in reading.unknown]) == ((), [(thing, None)])
    assert reader.read("cartoon of a quiet fox").text == "cartoon"


def test_names_of_looks_are_no_painters() -> None:
    painters = {"gogh", "monet", "picasso", "hokusai", "warhol", "klimt", "banksy", "matisse", "munch", "dali", "miro"}
    assert not painters & {word for prompt in kinds_of(VOCABULARY) for word in prompt.split()}


@pytest.mark.parametrize(
    ("name", "word", "other"),
    [("german", "grün", "gruenes"), ("german", "Ölgemälde", "Oelgemaelde"), ("spanish", "rojo", "rojas")],
)
def test_lists_have_the_spellings_and_endings_that_people_use(name: str, word: str, other: str) -> None:
    phrases = {phrase for listed in sources.language(name).aliases.values() for phrase in listed}
    assert {word, other} <= phrases


def test_the_command_prints_the_share_of_both_lists(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["training", "words", "score", "--model", str(POCKET)])
    training()
    printed = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [(line["list"], line["prompts"]) for line in printed] == [("prompts", 120), ("prompts_held_out", 40)]
    assert all(line["accepted"] >= FLOOR for line in printed)
    with pytest.raises(SystemExit):
        main(["score", "--model", str(Path(__file__).parent)])


def test_rare_words_weigh_more() -> None:
    weights = build.weights(1000)
    assert (weights[1:] > weights[:-1]).all() and 0 < weights[0] < weights[-1] < 1
