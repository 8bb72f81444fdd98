"""Prompts as people type them, by kind: phrases, plurals, case, accents, signs, typos, mixed scripts, the empty and the huge."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.techniques.free_words.lexicon import Lexicon, Phrase, one_letter_off
from pipelines.techniques.free_words.meanings import Meanings
from pipelines.techniques.free_words.reader import MOST_WORDS, PLAIN, Reader, Unknown, untouched
from pipelines.techniques.free_words.tokens import fold, key, stem, tokens

KINDS = {
    "oil painting": "look",
    "cartoon": "look",
    "blue swirl": "look",
    "mosaic": "look",
    "in warm colours": "palette",
    "at night": "light",
    "slightly": "intensity",
    "sea": "scene",
}
OWN = {"oil painting": ("painting",), "cartoon": ("comic cartoon",), "at night": ("moonlit",), "slightly": ("a little",)}
ALIASES = {
    "oil painting": ("Ölgemälde", "peinture à l'huile", "油画", "rembrandt"),
    "cartoon": ("anime", "アニメ", "8-bit hero"),
    "blue swirl": ("van gogh", "starry night", "梵高"),
    "mosaic": ("tile", "mosaik stein"),
    "at night": ("night", "夜"),
    "sea": ("ocean",),
    "in warm colours, at night": ("candle light",),
}
# The first two directions are water and warmth; "thing" lies between them.
VOCABULARY = ("beach", "ship", "lamp", "thing", "spreadsheet", "paint", "haze", "fox")
VECTORS = np.array([[90, 5, 0], [99, 9, 0], [5, 90, 0], [70, 70, 0], [0, 0, 99], [9, 9, 90], [60, 0, -80], [99, 9, 0]], np.int8)
MEANINGS = Meanings(
    VOCABULARY,
    VECTORS,
    np.ones(len(VOCABULARY)),
    ("sea", "in warm colours", "mosaic"),
    np.array([[99, 0, 0], [0, 99, 0], [0, 0, 99], [20, 0, 99]], np.int8),
    np.array([0, 1, 2, 2]),
)


def lexicon(ordinary: tuple[str, ...] = ("spreadsheet", "pint")) -> Lexicon:
    phrases = {word: Phrase() for word in ("make", "me", "my", "style", "の", "風")}
    phrases |= {"castle": Phrase(own=True, subject=True), "fox": Phrase(subject=True)}
    phrases |= {word: Phrase(own=True) for word in ("a", "an", "the", "it", "of")}
    phrases |= {text: Phrase(tuple(target.split(", "))) for target, texts in ALIASES.items() for text in texts}
    general = ("painting",)
    phrases |= {text: Phrase((target,), True, text in general) for target, texts in OWN.items() for text in texts}
    phrases |= {prompt: Phrase((prompt,), own=True) for prompt in KINDS}
    return Lexicon(phrases, ordinary, ("stein", "mosaik", "öl", "bild"))


READER = Reader(lexicon(), KINDS, None, frozenset({"blue swirl"}))
GUESSING = Reader(lexicon(), KINDS, MEANINGS, frozenset({"blue swirl"}))


def meanings(prompt: str, reader: Reader = READER) -> list[tuple[str, str]]:
    return [(one.words, one.meaning) for one in reader.read(prompt).understood]


def unknown(prompt: str, reader: Reader = READER) -> list[str]:
    return [one.words for one in reader.read(prompt).unknown]


@pytest.mark.parametrize(
    ("prompt", "text"),
    [
        ("van gogh starry night", "blue swirl"),  # the longest phrase, not the night in it
        ("make me an anime", "cartoon"),
        ("VAN GOGH!!! (style)", "blue swirl"),  # case and signs
        ("Peinture à l’huile", "oil painting"),  # accents, a typographic apostrophe
        ("ölgemälde", "oil painting"),
        ("o\u0308lgema\u0308lde", "oil painting"),  # accents as letters of their own
        ("ＡＮＩＭＥ", "cartoon"),  # full width
        ("tiles", "mosaic"),  # plural
        ("animes of my castle", "cartoon"),
        ("rembrant", "oil painting"),  # one letter missing
        ("rembrandtt", "oil painting"),
        ("rambrandt", "oil painting"),
        ("rembradnt", "oil painting"),  # two changed places
        ("梵高星空", "blue swirl"),  # no spaces: the longest match
        ("アニメ風の海", "cartoon"),
        ("anime風 at night", "cartoon, at night"),  # mixed scripts
        ("夜の油画", "oil painting, at night"),
        ("8 bit hero", "cartoon"),
        ("mosaikstein", "mosaic"),  # a compound
        ("ocean, candle light, anime", "cartoon, sea, in warm colours, at night"),
        ("slightly anime", "slightly cartoon"),
        ("rembrandt painting", "oil painting"),
        ("van gogh painting", "blue swirl"),  # a general look gives way
    ],
)
def test_what_is_typed_becomes_the_models_own_words(prompt: str, text: str) -> None:
    assert READER.read(prompt).text == text


@pytest.mark.parametrize(
    "prompt",
    ["oil painting", "Oil Painting", "  blue  swirl ", "a cartoon", "oil painting, at night", "slightly cartoon of a castle", ""],
)
def test_a_prompt_of_the_models_own_words_stays_as_it_is(prompt: str) -> None:
    assert READER.read(prompt).text == prompt and GUESSING.read(prompt).text == prompt


def test_understood_parts_carry_the_way_and_the_typed_words() -> None:
    reading = READER.read("A Rembrant of my Castle, Night and oil painting")
    assert [(one.words, one.meaning, one.kind, one.by) for one in reading.understood] == [
        ("Rembrant", "oil painting", "look", "spelling"),
        ("Night", "at night", "light", "alias"),
        ("oil painting", "oil painting", "look", "name"),
    ]
    assert [one.words for one in reading.unknown] == ["Castle", "and"] and reading.looks == ("oil painting",)


def test_unknown_words_are_named_and_dropped() -> None:
    assert unknown("quarterly earnings of anime") == ["quarterly earnings"]
    assert READER.read("quarterly earnings of anime").text == "cartoon"
    assert READER.read("quarterly earnings").text == PLAIN
    assert READER.read("spreadsheet").unknown[0].message == "no style known for 'spreadsheet'"
    assert GUESSING.read("paint").unknown == () and meanings("paint", GUESSING) == [("paint", "mosaic")]


def test_a_word_that_is_right_as_it_is_is_not_mended() -> None:
    assert meanings("anme") == [] and meanings("animee") == [("animee", "cartoon")]  # less than five letters differ too much
    assert Reader(lexicon(("rembrant",)), KINDS).read("rembrant").understood == ()


def test_words_of_intensity_need_a_look_that_takes_them() -> None:
    assert READER.read("a little van gogh").text == "blue swirl" and unknown("a little van gogh") == ["a little"]


def test_likeness_of_meaning_comes_last_and_has_to_be_clear() -> None:
    assert meanings("ship anime", GUESSING) == [("ship", "sea"), ("anime", "cartoon")]
    assert GUESSING.read("ship anime").understood[0].by == "meaning"
    assert GUESSING.read("thing").unknown == (Unknown("thing"),)  # as near to one prompt as to the other: none is named
    hazy = GUESSING.read("haze").unknown[0]  # near, not clear
    assert (hazy.words, hazy.nearest) == ("haze", "sea") and "sea" in hazy.message
    assert meanings("beach ship", GUESSING) == [("beach ship", "sea")]  # what stands together is one
    assert meanings("ship, lamp", GUESSING) == [("ship", "sea"), ("lamp", "in warm colours")]
    assert meanings("ship lamp", GUESSING) == [("ship", "sea"), ("lamp", "in warm colours")]  # or each alone
    assert meanings("paint anime", GUESSING) == [("anime", "cartoon")]  # a guessed look does not join a named one


def test_the_meaning_of_a_thing_is_not_guessed() -> None:
    """Not even where its vector is that of a ship."""
    assert GUESSING.read("foxes").unknown == (Unknown("foxes"),) and GUESSING.read("a fox, anime").text == "cartoon"


@given(st.text(max_size=60))
def test_any_text_is_read_and_nothing_is_lost_silently(prompt: str) -> None:
    reading = GUESSING.read(prompt)
    assert reading == GUESSING.read(prompt)
    assert all(one.meaning in KINDS for one in reading.understood)
    for one in (*reading.understood, *reading.unknown):
        assert one.words
    if reading.text != prompt:  # it consists of prompts of the model
        assert all(part in KINDS or part.removeprefix("slightly ") in KINDS or part == PLAIN for part in reading.text.split(", "))


@pytest.mark.parametrize(
    "prompt", ["x" * 10_000, "anime " * 2_000, "zq " * 4_000, "夜" * 10_000, "\0\x07\u200b" * 3_000, "," * 10_000]
)
def test_ten_thousand_characters_are_read_as_far_as_it_goes(prompt: str) -> None:
    reading = GUESSING.read(prompt)
    assert len(reading.understood) <= MOST_WORDS
    if len(tokens(prompt)) > MOST_WORDS:  # what was not read is named
        assert len(reading.unknown[-1].words) > 1000


def test_control_characters_part_words_and_mean_nothing() -> None:
    assert READER.read("\x00anime\x1b[31m").text == "cartoon" and READER.read("\x00\x01").understood == ()


def test_a_model_without_a_table_takes_prompts_as_they_are() -> None:
    assert untouched("make me an anime").text == "make me an anime" and untouched("x").unknown == ()


@pytest.mark.parametrize(
    ("letter", "folded"),
    [("É", "e"), ("ß", "ss"), ("ø", "o"), ("Œ", "oe"), ("が", "が"), ("ｶ", "カ"), ("\u0301", ""), ("水", "水")],
)
def test_letters_are_folded(letter: str, folded: str) -> None:
    assert fold(letter) == folded


def test_places_of_words_count_in_the_prompt_as_it_was_typed() -> None:
    prompt = "Straße, Éa  水彩"
    assert [prompt[token.start : token.end] for token in tokens(prompt)] == ["Straße", "Éa", "水", "彩"]
    assert [token.apart for token in tokens(prompt)] == [False, True, False, False]
    assert key("  Peinture à l'HUILE ") == "peinture a l huile"


@pytest.mark.parametrize(
    ("word", "singular"),
    [("tiles", "tile"), ("cities", "city"), ("glass", "glass"), ("gas", "gas"), ("colors", "colour"), ("ties", "tie")],
)
def test_plurals_and_american_spelling(word: str, singular: str) -> None:
    assert stem(word) == singular


@given(st.text("abc", min_size=1, max_size=6), st.text("abc", min_size=1, max_size=6))
def test_one_letter_off_is_symmetric_and_matches_its_definition(a: str, b: str) -> None:
    shorter = {a[:at] + a[at + 1 :] for at in range(len(a))} | {b[:at] + b[at + 1 :] for at in range(len(b))}
    other = {a[:at] + letter + a[at + 1 :] for at in range(len(a)) for letter in "abc"}
    swapped = {a[:at] + a[at + 1] + a[at] + a[at + 2 :] for at in range(len(a) - 1)}
    expected = a != b and ((len(a) != len(b) and (a in shorter or b in shorter)) or b in other | swapped)
    assert one_letter_off(a, b) == one_letter_off(b, a) == expected
