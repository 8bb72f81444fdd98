"""Names of a session's styles in its prompts: which are found, what is left of the words, how many are known."""

from __future__ import annotations

import numpy as np
import pytest

from pipelines import PictureStyle
from pipelines.values.style_names import MOST, StyleNames

PAINTER = "0123456789ab"


def style(name: str, painter: str = PAINTER) -> PictureStyle:
    return PictureStyle(np.ones(4, np.float32), painter, name)


NAMES = StyleNames([style("red waves"), style("red"), style("Straße c++ (2)"), style("波"), style("strange", "ffffffffffff")])


@pytest.mark.parametrize(
    ("prompt", "rest", "found"),
    [
        ("red waves", "", ["red waves"]),
        ("a cat,  RED Waves , at night", "a cat, at night", ["RED Waves"]),
        ("red waves over red sand", "over sand", ["red waves", "red"]),
        ("redder wavesred", "redder wavesred", []),
        ("straße C++ (2)", "straße C++ (2)", []),
        ("波, sea", "sea", ["波"]),
        ("strange sea", "strange sea", []),
        ("", "", []),
    ],
)
def test_names_are_taken_out_of_the_words(prompt: str, rest: str, found: list[str]) -> None:
    words, named = NAMES.read(prompt, PAINTER)
    assert words == rest and [typed for typed, _ in named] == found
    assert NAMES.read(prompt, None) == (prompt, ())


def test_the_newest_of_a_name_counts_and_the_oldest_is_forgotten() -> None:
    names, newest = StyleNames(), style("Red")
    for other in (style("red"), newest):
        names = names.with_style(other)
    assert len(names) == 1 and names.read("red", PAINTER)[1][0][1] is newest
    for index in range(MOST):
        names = names.with_style(style(f"number {index:02}"))
    assert len(names) == MOST and names.read("red", PAINTER)[1] == () and names.read("number 00", PAINTER)[1]
