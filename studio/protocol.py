"""The stream protocol: bytes and text in, values out, and back. Pure: no sockets, no clocks; docs/protocol.md is its description.

Whatever arrives, parsing raises nothing but ProtocolError.
"""

from __future__ import annotations

import json
import math
import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, NoReturn

VERSION = 1
SUBPROTOCOL = "rill.v1"
PATH = "/rill/stream"
MAX_TEXT = 32 * 1024
MAX_REQUEST = 2**53 - 1
MAX_ID = 2**32 - 1

MAGIC, KIND_FRAME, KIND_ANSWER, KIND_MASK, KIND_REFERENCE = 0x52, 1, 2, 3, 4
FORMATS = ("none", "jpeg", "png", "webp")
ANSWER_FORMATS = ("none", "jpeg", "png")
VERDICTS = ("generated", "cached", "skipped", "warming", "dropped", "failed")
REASONS = ("none", "stale", "credit", "superseded", "unsent", "paused", "spec")
TIMINGS = ("receive", "unpack", "gate", "encode", "denoise", "decode", "pack", "send", "wait", "total")
"""Milliseconds in an answer's header, in this order."""

FRAME_HEADER = struct.Struct("<BBBBId")
ANSWER_HEADER = struct.Struct("<BBBBIdIIBBH10f3f")
MASK_HEADER = struct.Struct("<BBBBI")


class ProtocolError(Exception):
    """A message that breaks the protocol. `code` as in docs/protocol.md; `field` and `request` where known."""

    def __init__(self, message: str, *, code: str = "bad_message", field: str | None = None, request: int | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.code = code
        self.field = field
        self.request = request


@dataclass(frozen=True, slots=True)
class PictureWish:
    """How a client wants its answers encoded; quality 30..100 is JPEG's."""

    format: str = "jpeg"
    quality: int = 85


@dataclass(frozen=True, slots=True)
class Hello:
    protocol: int
    token: str | None = None
    resume: str | None = None
    settings: Mapping[str, object] = field(default_factory=dict)
    picture: PictureWish = PictureWish()
    client: str = ""
    wait: bool = False


@dataclass(frozen=True, slots=True)
class Patch:
    patch: Mapping[str, object]
    request: int | None = None


@dataclass(frozen=True, slots=True)
class SpecChange:
    """changes: parts of the stream's spec, unchecked."""

    changes: Mapping[str, object]
    request: int | None = None


@dataclass(frozen=True, slots=True)
class Pause:
    paused: bool


@dataclass(frozen=True, slots=True)
class References:
    """Whether the client wants the probe's unaccelerated pictures too."""

    wanted: bool


@dataclass(frozen=True, slots=True)
class Ping:
    t: float


@dataclass(frozen=True, slots=True)
class Bye:
    pass


ClientMessage = Hello | Patch | SpecChange | Pause | References | Ping | Bye


@dataclass(frozen=True, slots=True)
class FrameMessage:
    """One frame of a client. `picture` is a view of the message, empty with format "none"; captured_at in its clock's seconds."""

    id: int
    captured_at: float
    format: str
    picture: memoryview


@dataclass(frozen=True, slots=True)
class MaskMessage:
    """A client's painted strength map: `picture` is a view of the PNG in the message, empty to remove the map."""

    request: int
    picture: memoryview


@dataclass(frozen=True, slots=True)
class Answer:
    """One answer of the server. `timings` holds milliseconds in the order of TIMINGS; quality numbers are NaN when unknown."""

    frame_id: int
    captured_at: float
    settled: int
    settings_version: int
    verdict: str
    reason: str = "none"
    timings: tuple[float, ...] = (0.0,) * len(TIMINGS)
    ssim: float = math.nan
    psnr: float = math.nan
    flicker: float = math.nan
    format: str = "none"
    picture: memoryview | bytes = b""


# Text messages of the client.


def parse_text(text: str) -> ClientMessage:
    """The message in `text`. Raises ProtocolError."""
    if len(text) > MAX_TEXT:
        raise ProtocolError(f"the message is {len(text)} characters long; {MAX_TEXT} are allowed")
    message = _object(text)
    kind = message.pop("type", None)
    reader = _READERS.get(kind) if isinstance(kind, str) else None
    if reader is None:
        raise ProtocolError(f"{brief(kind)} is no message type; known are {', '.join(_READERS)}", field="type")
    request = message.get("request")
    try:
        return reader(message)
    except ProtocolError as error:
        if isinstance(request, int) and not isinstance(request, bool) and 0 <= request <= MAX_REQUEST:
            error.request = request
        raise


def _object(text: str) -> dict[str, Any]:
    try:
        message = json.loads(text, parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:
        raise ProtocolError("the message is not JSON") from error
    if not isinstance(message, dict):
        raise ProtocolError("the message is not a JSON object")
    return message


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


def _hello(message: dict[str, Any]) -> Hello:
    _known(message, {"protocol", "token", "resume", "settings", "picture", "client", "wait"}, {"protocol"})
    if message["protocol"] is True or message["protocol"] != VERSION:
        raise ProtocolError(f"protocol {brief(message['protocol'])} is not spoken here; {VERSION} is", field="protocol")
    client = _text(message, "client", 80)
    if not client.isprintable():
        raise ProtocolError("client holds unprintable characters", field="client")
    return Hello(
        protocol=VERSION,
        token=_text(message, "token", 256) if "token" in message else None,
        resume=_text(message, "resume", 256) if "resume" in message else None,
        settings=_mapping(message, "settings"),
        picture=_wish(_mapping(message, "picture")),
        client=client,
        wait=_flag(message, "wait") if "wait" in message else False,
    )


def _wish(message: dict[str, Any]) -> PictureWish:
    _known(message, {"format", "quality"}, set(), prefix="picture.")
    kind, quality = message.get("format", "jpeg"), message.get("quality", 85)
    if kind not in ("jpeg", "png"):
        raise ProtocolError(f"{brief(kind)} is not one of jpeg, png", field="picture.format")
    if not isinstance(quality, int) or isinstance(quality, bool) or not 30 <= quality <= 100:
        raise ProtocolError(f"{brief(quality)} is not a whole number from 30 to 100", field="picture.quality")
    return PictureWish(kind, quality)


def _patch(message: dict[str, Any]) -> Patch:
    _known(message, {"patch", "request"}, {"patch"})
    return Patch(_mapping(message, "patch"), _request(message))


def _spec(message: dict[str, Any]) -> SpecChange:
    _known(message, {"spec", "request"}, {"spec"})
    return SpecChange(_mapping(message, "spec"), _request(message))


def _request(message: dict[str, Any]) -> int | None:
    request = message.get("request")
    if request is not None and (not isinstance(request, int) or isinstance(request, bool) or not 0 <= request <= MAX_REQUEST):
        raise ProtocolError(f"{brief(request)} is not a whole number from 0 to {MAX_REQUEST}", field="request")
    return request


def _pause(message: dict[str, Any]) -> Pause:
    _known(message, {"paused"}, {"paused"})
    return Pause(_flag(message, "paused"))


def _references(message: dict[str, Any]) -> References:
    _known(message, {"wanted"}, {"wanted"})
    return References(_flag(message, "wanted"))


def _ping(message: dict[str, Any]) -> Ping:
    _known(message, {"t"}, {"t"})
    value = message["t"]
    if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) < 1e300:
        raise ProtocolError(f"{brief(value)} is not a finite number", field="t")
    return Ping(value)


def _bye(message: dict[str, Any]) -> Bye:
    _known(message, set(), set())
    return Bye()


_READERS: dict[str, Callable[[dict[str, Any]], ClientMessage]] = {
    "hello": _hello,
    "settings": _patch,
    "spec": _spec,
    "pause": _pause,
    "references": _references,
    "ping": _ping,
    "bye": _bye,
}


def _known(message: dict[str, Any], allowed: set[str], required: set[str], prefix: str = "") -> None:
    for key in message:
        if key not in allowed:
            raise ProtocolError(f"{brief(key)} is no field of this message", field=prefix + brief(key).strip("'"))
    for key in sorted(required):
        if key not in message:
            raise ProtocolError(f"{key} is missing", field=prefix + key)


def _flag(message: dict[str, Any], key: str) -> bool:
    value = message[key]
    if not isinstance(value, bool):
        raise ProtocolError(f"{brief(value)} is not true or false", field=key)
    return value


def _text(message: dict[str, Any], key: str, limit: int) -> str:
    value = message.get(key, "")
    if not isinstance(value, str):
        raise ProtocolError(f"{brief(value)} is not text", field=key)
    if len(value) > limit:
        raise ProtocolError(f"{key} is {len(value)} characters long; {limit} are allowed", field=key)
    return value


def _mapping(message: dict[str, Any], key: str) -> dict[str, Any]:
    value = message.get(key, {})
    if not isinstance(value, dict):
        raise ProtocolError(f"{brief(value)} is not an object", field=key)
    return value


def brief(value: object) -> str:
    """`value` for an error message: at most 40 characters."""
    shown = repr(value) if not isinstance(value, dict | list) else type(value).__name__
    return shown if len(shown) <= 40 else shown[:37] + "..."


# Binary messages.


def parse_frame(message: bytes) -> FrameMessage:
    """The header of a client's binary message and a view of its picture, undecoded. Raises ProtocolError, code bad_frame."""
    if len(message) < FRAME_HEADER.size:
        raise ProtocolError(f"the message has {len(message)} bytes; its header alone has {FRAME_HEADER.size}", code="bad_frame")
    magic, version, kind, form, frame_id, captured_at = FRAME_HEADER.unpack_from(message)
    if (magic, version, kind) != (MAGIC, VERSION, KIND_FRAME):
        raise ProtocolError("the message does not begin with 0x52, 1, 1", code="bad_frame", field="header")
    if form >= len(FORMATS):
        raise ProtocolError(f"format {form} is unknown", code="bad_frame", field="format")
    if not math.isfinite(captured_at):
        raise ProtocolError("the capture time is not a number", code="bad_frame", field="captured_at")
    picture = memoryview(message)[FRAME_HEADER.size :]
    if (form == 0) != (len(picture) == 0):
        raise ProtocolError("a picture goes with its format, and no picture with format 0", code="bad_frame", field="format")
    return FrameMessage(frame_id, captured_at, FORMATS[form], picture)


def is_mask(message: bytes) -> bool:
    """Does this binary message hold a mask, not a frame? Looks at its kind only."""
    return len(message) > 2 and message[2] == KIND_MASK


def parse_mask(message: bytes) -> MaskMessage:
    """The header of a mask message and a view of its PNG, undecoded. Raises ProtocolError, code bad_mask."""
    if len(message) < MASK_HEADER.size:
        raise ProtocolError(f"the message has {len(message)} bytes; its header alone has {MASK_HEADER.size}", code="bad_mask")
    magic, version, kind, form, request = MASK_HEADER.unpack_from(message)
    if (magic, version, kind) != (MAGIC, VERSION, KIND_MASK):
        raise ProtocolError("the message does not begin with 0x52, 1, 3", code="bad_mask", field="header")
    picture = memoryview(message)[MASK_HEADER.size :]
    if FORMATS[form : form + 1] not in (("none",), ("png",)):
        raise ProtocolError(f"format {form} is not 2 (PNG) or 0 (no mask)", code="bad_mask", field="format", request=request)
    if (form == 0) != (len(picture) == 0):
        raise ProtocolError("a PNG goes with format 2, nothing with format 0", code="bad_mask", field="format", request=request)
    return MaskMessage(request, picture)


def pack_mask(request: int, png: bytes = b"") -> bytes:
    """A client's mask as it goes over the wire; without a PNG it removes the mask. request 0..2**32-1."""
    return MASK_HEADER.pack(MAGIC, VERSION, KIND_MASK, FORMATS.index("png" if png else "none"), request) + png


def pack_frame(frame_id: int, captured_at: float, form: str = "none", picture: bytes = b"") -> bytes:
    """A client's frame as it goes over the wire. frame_id 0..2**32-1; captured_at in seconds; form as in FORMATS."""
    return FRAME_HEADER.pack(MAGIC, VERSION, KIND_FRAME, FORMATS.index(form), frame_id, captured_at) + picture


def pack_reference(frame_id: int, captured_at: float, form: str, picture: bytes | memoryview) -> bytes:
    """The probe's unaccelerated picture of a frame as it goes over the wire; the header is a frame's, with its own kind."""
    return FRAME_HEADER.pack(MAGIC, VERSION, KIND_REFERENCE, FORMATS.index(form), frame_id, captured_at) + picture


def parse_answer(message: bytes) -> Answer:
    """A server's binary message; `picture` is a view of it. Raises ProtocolError."""
    if len(message) < ANSWER_HEADER.size:
        raise ProtocolError(f"the answer has {len(message)} bytes; its header alone has {ANSWER_HEADER.size}")
    head, rest = (values := ANSWER_HEADER.unpack_from(message))[:11], values[11:]
    magic, version, kind, form, frame_id, captured_at, settled, settings, verdict, reason, _ = head
    if (magic, version, kind) != (MAGIC, VERSION, KIND_ANSWER):
        raise ProtocolError("the answer does not begin with 0x52, 1, 2")
    if form >= len(ANSWER_FORMATS) or verdict >= len(VERDICTS) or reason >= len(REASONS):
        raise ProtocolError("the answer's format, verdict or reason is unknown")
    ssim, psnr, flicker = rest[len(TIMINGS) :]
    return Answer(
        frame_id,
        captured_at,
        settled,
        settings,
        VERDICTS[verdict],
        REASONS[reason],
        rest[: len(TIMINGS)],
        ssim,
        psnr,
        flicker,
        ANSWER_FORMATS[form],
        memoryview(message)[ANSWER_HEADER.size :],
    )


def pack_answer(answer: Answer) -> bytes:
    """`answer` as it goes over the wire."""
    header = ANSWER_HEADER.pack(
        MAGIC,
        VERSION,
        KIND_ANSWER,
        ANSWER_FORMATS.index(answer.format),
        answer.frame_id,
        answer.captured_at,
        answer.settled,
        answer.settings_version & MAX_ID,
        VERDICTS.index(answer.verdict),
        REASONS.index(answer.reason),
        0,
        *answer.timings,
        answer.ssim,
        answer.psnr,
        answer.flicker,
    )
    return b"".join((header, answer.picture))


# Text messages of the server.


def pack_text(kind: str, **values: object) -> str:
    """A text message; fields that are None are left out unless they stand inside another."""
    return json.dumps({"type": kind, **{key: value for key, value in values.items() if value is not None}}, allow_nan=False)


def error_text(
    code: str,
    message: str,
    *,
    fatal: bool = False,
    field: str | None = None,
    request: int | None = None,
    frame: int | None = None,
) -> str:
    """An error message, cut to 400 characters; codes are listed in docs/protocol.md."""
    return pack_text("error", code=code, message=message[:400], fatal=fatal, field=field, request=request, frame=frame)


def parse_server_text(text: str) -> dict[str, Any]:
    """A server's text message as a dict with "type". Raises ProtocolError."""
    message = _object(text)
    if not isinstance(message.get("type"), str):
        raise ProtocolError("the message has no type", field="type")
    return message


def declare(fields: Mapping[str, Any]) -> dict[str, dict[str, object]]:
    """The declaration of every setting for a welcome, from `pipelines.FIELDS` (dotted key → dataclass field)."""
    return {
        key: {"default": item.default}
        | {name: list(rule) if isinstance(rule, tuple) else rule for name, rule in item.metadata.items()}
        for key, item in fields.items()
    }


# Close codes.

NORMAL = 1000
CLOSE_CODES: Mapping[str, int] = {
    "bad_message": 4400,
    "unauthorized": 4401,
    "timeout": 4408,
    "taken_over": 4409,
    "resume_expired": 4410,
    "flood": 4429,
    "idle": 4440,
    "turn_over": 4460,
    "model_failed": 4500,
    "full": 4503,
}
