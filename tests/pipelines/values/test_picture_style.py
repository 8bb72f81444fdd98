"""The file of a style: what was written is read back; whatever else is there is refused with what is wrong."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from safetensors.numpy import save

from pipelines import ModelError, PictureStyle, read_style, write_style
from pipelines.values.picture_style import MAX_BYTES, MAX_NUMBERS, is_style

STYLE = PictureStyle(
    np.linspace(-5, 5, 90, dtype=np.float32),
    "0123456789ab",
    "red waves",
    b"\xff\xd8 a tile",
    "by nobody, 1890",
    "public domain",
    75,
)


def test_what_is_written_is_read_back() -> None:
    found = read_style(write_style(STYLE))
    for field in dataclasses.fields(PictureStyle):
        assert np.array_equal(getattr(found, field.name), getattr(STYLE, field.name)), field.name
    assert is_style(write_style(STYLE))


@given(st.integers(0, 10**6), st.integers(1, 255))
def test_a_flipped_byte_is_never_read_as_a_style(place: int, flip: int) -> None:
    data = bytearray(write_style(STYLE))
    data[place % len(data)] ^= flip
    with pytest.raises(ModelError, match=r"^wave\.safetensors: "):
        read_style(bytes(data), "wave.safetensors")


@given(st.integers(0, 10**6))
def test_a_file_that_is_cut_short_is_never_read(length: int) -> None:
    data = write_style(STYLE)
    with pytest.raises(ModelError):
        read_style(data[: length % len(data)])


@given(st.binary(max_size=600))
def test_other_bytes_are_refused_as_such(data: bytes) -> None:
    with pytest.raises(ModelError):
        read_style(data)


@pytest.mark.parametrize(
    ("numbers", "reason"),
    [
        ([np.nan] * 3, "not finite"),
        ([0.0, np.inf], "not finite"),
        ([1e6], "between -1000 and 1000"),
        ([], "has 0 numbers"),
        ([0.5] * (MAX_NUMBERS + 1), "1 to 16384 are allowed"),
    ],
)
def test_numbers_that_are_none_of_a_style_are_neither_written_nor_read(numbers: list[float], reason: str) -> None:
    broken = dataclasses.replace(STYLE, numbers=np.array(numbers, np.float32))
    with pytest.raises(ModelError, match=reason):
        write_style(broken)


def test_numbers_that_are_not_finite_are_refused_in_a_file_whose_checksum_is_right(monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patched:
        patched.setattr("pipelines.values.picture_style._check", lambda *args: None)
        data = write_style(dataclasses.replace(STYLE, numbers=np.array([1.0, np.nan], np.float32)))
    with pytest.raises(ModelError, match="not finite"):
        read_style(data)


def test_other_safetensors_files_are_refused() -> None:
    for tensors in ({"weight": np.zeros(3, np.float32)}, {"weight": np.zeros(3, np.float16)}):
        with pytest.raises(ModelError, match=r"no style's file|other numbers"):
            read_style(save(tensors))


def test_a_huge_file_is_refused_before_it_is_parsed() -> None:
    with pytest.raises(ModelError, match=f"at most {MAX_BYTES}"):
        read_style(bytes(MAX_BYTES + 1))


@pytest.mark.parametrize(
    ("name", "text"), [("name", "x" * 61), ("name", "two\nlines"), ("picture", "y" * 301), ("licence", "\x00")]
)
def test_texts_are_short_and_printable(name: str, text: str) -> None:
    with pytest.raises(ModelError, match=f"{name} must be at most"):
        write_style(dataclasses.replace(STYLE, **{name: text}))


def test_the_refusal_of_another_painters_style_names_that_painter() -> None:
    STYLE.check("0123456789ab", 90)
    with pytest.raises(ModelError, match=r"another painter \(0123456789ab\)"):
        STYLE.check("ffffffffffff", 90, "wave")
    with pytest.raises(ModelError, match="has 90 numbers; a style of this painter has 990"):
        STYLE.check("0123456789ab", 990)


@pytest.mark.parametrize("data", [b"", b"\xff\xd8\xff\xe0JFIF....", b"\x89PNG\r\n\x1a\n....", b"RIFF....WEBPVP8 "])
def test_pictures_are_no_styles(data: bytes) -> None:
    assert not is_style(data)
