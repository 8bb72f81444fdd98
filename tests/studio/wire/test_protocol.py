"""Whatever arrives, the protocol raises nothing but ProtocolError; what is packed is read back as it was."""

from __future__ import annotations

import json
import math
from dataclasses import fields

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines import FIELDS, Settings, StageTimings
from studio.wire import protocol
from studio.wire.protocol import Answer, Bye, Hello, Patch, Pause, PictureEncoding, Ping, ProtocolError

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=10), inner, max_size=3),
    max_leaves=10,
)
KNOWN = st.sampled_from(
    [
        "type",
        "protocol",
        "token",
        "resume",
        "settings",
        "picture",
        "client",
        "patch",
        "request",
        "paused",
        "t",
        "format",
        "quality",
    ]
)
TYPES = st.sampled_from(["hello", "settings", "pause", "ping", "bye"])
MESSAGES = st.builds(lambda kind, rest: {**rest, "type": kind}, TYPES, st.dictionaries(KNOWN, JSON, max_size=5))
finite32 = st.floats(width=32, allow_nan=False, allow_infinity=False)
finite64 = st.floats(allow_nan=False, allow_infinity=False)
ids = st.integers(0, 2**32 - 1)


def text(**message: object) -> str:
    return json.dumps(message)


@given(st.text() | JSON.map(json.dumps) | MESSAGES.map(json.dumps))
def test_any_text_is_a_message_or_a_protocol_error(message: str) -> None:
    try:
        parsed = protocol.parse_text(message)
    except ProtocolError as error:
        protocol.error_text(error.code, error.message, field=error.field, request=error.request).encode()
    else:
        assert isinstance(parsed, Hello | Patch | Pause | Ping | Bye)


@given(st.binary(max_size=200) | st.binary(max_size=100).map(lambda tail: bytes([0x52, 1, 1]) + tail))
def test_any_bytes_are_a_frame_or_a_protocol_error(message: bytes) -> None:
    try:
        frame = protocol.parse_frame(message)
    except ProtocolError as error:
        assert error.code == "bad_frame"
    else:
        assert math.isfinite(frame.captured_at) and (frame.format == "none") == (len(frame.picture) == 0)


@given(st.binary(max_size=40) | st.binary(max_size=40).map(lambda tail: bytes([0x52, 1, 3]) + tail))
def test_any_bytes_are_a_mask_or_a_protocol_error(message: bytes) -> None:
    try:
        mask = protocol.parse_mask(message)
    except ProtocolError as error:
        assert error.code == "bad_mask" and error.message
    else:
        assert protocol.is_mask(message) and (message[3] == 0) == (len(mask.picture) == 0)


@given(
    st.binary(max_size=40) | st.tuples(st.sampled_from([5, 6]), st.binary(max_size=30)).map(lambda p: bytes([82, 1, p[0]]) + p[1])
)
def test_any_bytes_are_a_picture_prompt_or_a_protocol_error(message: bytes) -> None:
    try:
        given = protocol.parse_picture(message)
    except ProtocolError as error:
        assert error.code == "bad_picture" and error.message
    else:
        assert protocol.is_picture(message) and (given.format == "none") == (len(given.picture) == 0)


@given(ids, st.sampled_from(["jpeg", "png", "webp", "style"]), st.binary(min_size=1, max_size=30), st.booleans())
def test_a_picture_prompt_survives_the_wire(request: int, form: str, picture: bytes, second: bool) -> None:
    message = protocol.pack_picture(request, form, picture, second)
    given = protocol.parse_picture(message)
    assert (given.request, given.format, bytes(given.picture), given.second) == (request, form, picture, second)
    assert protocol.is_picture(message) and not protocol.is_mask(message)
    none = protocol.parse_picture(protocol.pack_picture(request, second=second))
    assert (none.format, none.second) == ("none", second)


@given(ids, st.binary(max_size=30))
def test_a_mask_survives_the_wire(request: int, png: bytes) -> None:
    message = protocol.pack_mask(request, png)
    mask = protocol.parse_mask(message)
    assert (mask.request, bytes(mask.picture)) == (request, png)
    assert protocol.is_mask(message) and not protocol.is_mask(protocol.pack_frame(1, 0.0))


@given(st.binary(max_size=200) | st.binary(min_size=76, max_size=120).map(lambda tail: bytes([0x52, 1, 2, 0]) + tail))
def test_any_bytes_are_an_answer_or_a_protocol_error(message: bytes) -> None:
    try:
        assert isinstance(protocol.parse_answer(message), Answer)
    except ProtocolError as error:
        assert error.message


@given(st.text() | JSON.map(json.dumps))
def test_any_server_text_is_a_dict_or_a_protocol_error(message: str) -> None:
    try:
        assert isinstance(protocol.parse_server_text(message)["type"], str)
    except ProtocolError as error:
        assert error.message


@given(ids, finite64, st.sampled_from(["jpeg", "png", "webp"]), st.binary(min_size=1, max_size=50))
def test_a_frame_survives_the_wire(frame_id: int, captured_at: float, form: str, picture: bytes) -> None:
    frame = protocol.parse_frame(protocol.pack_frame(frame_id, captured_at, form, picture))
    assert (frame.id, frame.captured_at, frame.format, bytes(frame.picture)) == (frame_id, captured_at, form, picture)


ANSWERS = st.builds(
    Answer,
    frame_id=ids,
    captured_at=finite64,
    settled=ids,
    settings_version=ids,
    verdict=st.sampled_from(protocol.VERDICTS),
    reason=st.sampled_from(protocol.REASONS),
    timings=st.builds(protocol.AnswerTimings, **dict.fromkeys(protocol.TIMINGS, finite32)),
    ssim=finite32,
    psnr=finite32,
    flicker=finite32,
    format=st.sampled_from(protocol.ANSWER_FORMATS),
    picture=st.binary(max_size=30),
)


@given(ANSWERS)
def test_an_answer_survives_the_wire(answer: Answer) -> None:
    read = protocol.parse_answer(protocol.pack_answer(answer))
    for item in fields(Answer):
        assert getattr(read, item.name) == getattr(answer, item.name), item.name


def test_headers_have_the_documented_sizes_and_offsets() -> None:
    assert (protocol.FRAME_HEADER.size, protocol.ANSWER_HEADER.size) == (16, 80)
    packed = protocol.pack_answer(
        Answer(2, 3.5, 1, 9, "dropped", "stale", protocol.AnswerTimings(*map(float, range(10))), 0.5, 30.0, 2.0, "png", b"xy")
    )
    assert packed[:4] == bytes([0x52, 1, 2, 2]) and packed[24:26] == bytes([4, 1]) and packed[80:] == b"xy"
    assert int.from_bytes(packed[4:8], "little") == 2 and int.from_bytes(packed[16:20], "little") == 1
    frame = protocol.pack_frame(7, 1.0, "jpeg", b"z")
    assert frame[:4] == bytes([0x52, 1, 1, 1]) and frame[4:8] == bytes([7, 0, 0, 0]) and frame[16:] == b"z"


def test_timings_are_the_engines_stages_and_two_more() -> None:
    assert (*(item.name for item in fields(StageTimings)), "wait", "total") == protocol.TIMINGS


def test_delivery_is_one_of_two() -> None:
    assert protocol.parse_text(text(type="hello", protocol=1)).delivery == "newest"  # type: ignore[union-attr]
    assert protocol.parse_text(text(type="hello", protocol=1, delivery="every")).delivery == "every"  # type: ignore[union-attr]
    for wrong in ("", "all", None, 1, True, ["every"]):
        with pytest.raises(ProtocolError, match="newest, every") as caught:
            protocol.parse_text(text(type="hello", protocol=1, delivery=wrong))
        assert caught.value.field == "delivery"


def test_messages_are_read() -> None:
    assert protocol.parse_text(text(type="hello", protocol=1)) == Hello(1)
    full = text(type="hello", protocol=1, token="t", resume="r", settings={"a": 1}, picture={"format": "png"}, client="me")
    assert protocol.parse_text(full) == Hello(1, "t", "r", {"a": 1}, PictureEncoding("png", 85), "me")
    assert protocol.parse_text(text(type="settings", patch={"steps": 2}, request=5)) == Patch({"steps": 2}, 5)
    assert protocol.parse_text(text(type="pause", paused=True)) == Pause(True)
    assert protocol.parse_text(text(type="ping", t=1.5)) == Ping(1.5)
    assert protocol.parse_text(text(type="bye")) == Bye()


@pytest.mark.parametrize(
    ("message", "field"),
    [
        ({"type": "hello"}, "protocol"),
        ({"type": "hello", "protocol": 2}, "protocol"),
        ({"type": "hello", "protocol": True}, "protocol"),
        ({"type": "hello", "protocol": 1, "extra": 1}, "extra"),
        ({"type": "hello", "protocol": 1, "token": 5}, "token"),
        ({"type": "hello", "protocol": 1, "token": "x" * 257}, "token"),
        ({"type": "hello", "protocol": 1, "client": "a\nb"}, "client"),
        ({"type": "hello", "protocol": 1, "picture": {"format": "gif"}}, "picture.format"),
        ({"type": "hello", "protocol": 1, "picture": {"format": []}}, "picture.format"),
        ({"type": "hello", "protocol": 1, "picture": {"quality": 5}}, "picture.quality"),
        ({"type": "hello", "protocol": 1, "picture": {"size": 5}}, "picture.size"),
        ({"type": "settings"}, "patch"),
        ({"type": "settings", "patch": []}, "patch"),
        ({"type": "settings", "patch": {}, "request": -1}, "request"),
        ({"type": "settings", "patch": {}, "request": 1.5}, "request"),
        ({"type": "pause", "paused": 1}, "paused"),
        ({"type": "ping", "t": "now"}, "t"),
        ({"type": "bye", "why": 1}, "why"),
        ({"type": "login"}, "type"),
        ({"type": ["hello"]}, "type"),
        ({}, "type"),
    ],
)
def test_what_is_wrong_is_named(message: dict[str, object], field: str) -> None:
    with pytest.raises(ProtocolError) as caught:
        protocol.parse_text(json.dumps(message))
    assert caught.value.field == field and caught.value.code == "bad_message"


@pytest.mark.parametrize(
    "message", ["", "5", "[]", "nonsense", '{"type": "ping", "t": NaN}', "[" * 50_000, "9" * 20_000, "x" * 40_000]
)
def test_what_is_not_a_json_object_is_refused(message: str) -> None:
    with pytest.raises(ProtocolError):
        protocol.parse_text(message)


def test_an_error_carries_the_request_it_answers() -> None:
    with pytest.raises(ProtocolError) as caught:
        protocol.parse_text(text(type="settings", patch=5, request=12))
    assert caught.value.request == 12


def test_no_field_is_echoed_unescaped_or_at_length() -> None:
    with pytest.raises(ProtocolError) as caught:
        protocol.parse_text(text(type="bye", **{"\ud800" + "x" * 500: 1}))
    assert len(protocol.error_text("bad_message", caught.value.message, field=caught.value.field)) < 400
    assert protocol.error_text("bad_message", caught.value.message, field=caught.value.field).isascii()


def test_declarations_are_json_and_name_every_setting() -> None:
    declared = json.loads(protocol.pack_text("welcome", fields=protocol.declare(FIELDS, {"steps": 2})))["fields"]
    assert list(declared) == list(Settings().flat())
    assert all({"kind", "default", "doc"} <= set(rule) for rule in declared.values())
    assert declared["steps"]["default"] == 2 and declared["strength"]["default"] == Settings().strength
    assert declared["steps"]["low"] == 1 and "none" in declared["guidance_mode"]["options"]
