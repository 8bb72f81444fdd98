"""Which painted look a prompt names, and how styles mix."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from pipelines.techniques.styles import Style, StyleBook, mixed
from pipelines.values.vocabulary import PaintedLook

TABLE = torch.tensor([[1.0, 0.0, 5.0], [0.0, 2.0, 7.0], [4.0, 4.0, 4.0]])


def look(prompt: str, *paint: tuple[int, float], over: str = "photo") -> PaintedLook:
    return PaintedLook(prompt.replace(" ", "-"), prompt.title(), prompt, "painted", paint, over)


BOOK = StyleBook(
    (look("ink", (2, 1.0)), look("ink wash", (0, 1.0)), look("blue swirl", (0, 0.75), (1, 0.25), over="oil painting")), TABLE
)


@pytest.mark.parametrize(
    ("prompt", "words"),
    [
        ("ink wash", "photo"),
        ("  Ink Wash ", "photo"),
        ("ink wash, a cat", "photo, a cat"),
        ("a cat, ink wash , at night", "photo, a cat, at night"),
        ("blue swirl at night", "oil painting, at night"),
    ],
)
def test_a_look_is_replaced_by_what_it_is_painted_over(prompt: str, words: str) -> None:
    assert BOOK.read(prompt)[0] == words and BOOK.read(prompt)[1] is not None


@pytest.mark.parametrize("prompt", ["", "a cat", "drinking", "inks", "İnk", "blue  swirling", "ink_wash"])
def test_a_prompt_that_names_no_painted_look_stays_as_it_is(prompt: str) -> None:
    assert BOOK.read(prompt) == (prompt, None)


def test_the_longest_name_counts_and_weights_mix_the_table() -> None:
    wash, swirl = BOOK.read("ink wash")[1], BOOK.read("blue swirl")[1]
    assert wash is not None and swirl is not None
    torch.testing.assert_close(wash.numbers, TABLE[0])
    torch.testing.assert_close(swirl.numbers, 0.75 * TABLE[0] + 0.25 * TABLE[1])
    assert wash.amount == swirl.amount == 1.0


def test_several_looks_mix_in_equal_shares_whatever_their_order() -> None:
    words, style = BOOK.read("ink, blue swirl, a cat")
    assert words == "photo, oil painting, a cat" and style is not None
    torch.testing.assert_close(style.numbers, 0.5 * TABLE[2] + 0.5 * (0.75 * TABLE[0] + 0.25 * TABLE[1]))
    other = BOOK.read("blue swirl and ink")[1]
    assert other is not None
    torch.testing.assert_close(other.numbers, style.numbers)


def test_without_a_painter_no_prompt_is_changed() -> None:
    assert not StyleBook() and StyleBook().read("ink wash") == ("ink wash", None)
    assert StyleBook((look("ink", (0, 1.0)),)).read("ink") == ("ink", None)


AMOUNTS = st.one_of(st.none(), st.floats(0.0, 1.0))


@given(a=AMOUNTS, b=AMOUNTS, weight=st.floats(0.0, 1.0))
def test_a_mix_has_the_mean_amount_and_numbers_weighted_by_amount(a: float | None, b: float | None, weight: float) -> None:
    one = None if a is None else Style(torch.tensor([1.0, 3.0]), a)
    other = None if b is None else Style(torch.tensor([5.0, -1.0]), b)
    share, rest = (1 - weight) * (a or 0.0), weight * (b or 0.0)
    made = mixed((one, 1 - weight), (other, weight))
    if share == 0.0 and rest == 0.0:
        assert made is None
        return
    assert made is not None and made.amount == pytest.approx(share + rest)
    part = share / (share + rest)
    expected = part * torch.tensor([1.0, 3.0]) + (1 - part) * torch.tensor([5.0, -1.0])
    torch.testing.assert_close(made.numbers, expected, atol=1e-4, rtol=1e-4)
