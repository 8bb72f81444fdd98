"""Binary messages: a header of fixed size, then a compressed picture. Parsing raises nothing but ProtocolError."""

from __future__ import annotations

import math
from dataclasses import replace

from studio.wire.protocol.messages import (
    ANSWER_FORMATS,
    ANSWER_HEADER,
    FORMATS,
    FRAME_HEADER,
    KIND_ANSWER,
    KIND_FRAME,
    KIND_MASK,
    KIND_NAME,
    KIND_PICTURE,
    KIND_PICTURE_B,
    KIND_REFERENCE,
    MAGIC,
    MASK_HEADER,
    MAX_ID,
    PICTURE_FORMATS,
    REASONS,
    TIMINGS,
    VERDICTS,
    VERSION,
    Answer,
    AnswerTimings,
    FrameMessage,
    MaskMessage,
    ProtocolError,
)


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
    """Does this binary message hold a mask, not a frame? Checks its kind only."""
    return len(message) > 2 and message[2] == KIND_MASK


def is_picture(message: bytes) -> bool:
    """Does this binary message hold a picture prompt? Checks its kind only."""
    return len(message) > 2 and message[2] in (KIND_PICTURE, KIND_PICTURE_B)


def parse_mask(message: bytes) -> MaskMessage:
    """The header of a mask message and a view of its PNG, undecoded. Raises ProtocolError, code bad_mask."""
    return _given(message, KIND_MASK, ("png",), "bad_mask")


def parse_picture(message: bytes) -> MaskMessage:
    """The header of a picture prompt and a view of its picture, or style, undecoded. Raises ProtocolError, code bad_picture."""
    second = len(message) > 2 and message[2] == KIND_PICTURE_B
    return replace(_given(message, KIND_PICTURE_B if second else KIND_PICTURE, PICTURE_FORMATS[1:], "bad_picture"), second=second)


def is_name(message: bytes) -> bool:
    """Does this binary message hold a style that prompts may name? Checks its kind only."""
    return len(message) > 2 and message[2] == KIND_NAME


def parse_name(message: bytes) -> MaskMessage:
    """The header of a style that prompts may name, and a view of its file. Raises ProtocolError, code bad_picture."""
    given = _given(message, KIND_NAME, ("style",), "bad_picture")
    if not given.picture:
        raise ProtocolError("the file of a style is missing", code="bad_picture", field="picture", request=given.request)
    return given


def _given(message: bytes, kind: int, formats: tuple[str, ...], code: str) -> MaskMessage:
    if len(message) < MASK_HEADER.size:
        raise ProtocolError(f"the message has {len(message)} bytes; its header alone has {MASK_HEADER.size}", code=code)
    magic, version, own, form, request = MASK_HEADER.unpack_from(message)
    if (magic, version, own) != (MAGIC, VERSION, kind):
        raise ProtocolError(f"the message does not begin with 0x52, 1, {kind}", code=code, field="header")
    picture, allowed = memoryview(message)[MASK_HEADER.size :], " or ".join(formats)
    if PICTURE_FORMATS[form : form + 1] not in (("none",), *((name,) for name in formats)):
        raise ProtocolError(f"format {form} is not {allowed}, nor 0 for none", code=code, field="format", request=request)
    if (form == 0) != (len(picture) == 0):
        what = f"{allowed} goes with its format, and nothing with format 0"
        raise ProtocolError(what, code=code, field="format", request=request)
    return MaskMessage(request, picture, PICTURE_FORMATS[form])


def pack_mask(request: int, png: bytes = b"") -> bytes:
    """A client's mask as it goes over the wire; without a PNG it removes the mask. request 0..2**32-1."""
    return MASK_HEADER.pack(MAGIC, VERSION, KIND_MASK, FORMATS.index("png" if png else "none"), request) + png


def pack_picture(request: int, form: str = "none", picture: bytes = b"", second: bool = False) -> bytes:
    """A client's picture prompt as it goes over the wire; format as in PICTURE_FORMATS, "none" removes it. request 0..2**32-1.
    second: the one that `picture.blend` mixes in."""
    kind = KIND_PICTURE_B if second else KIND_PICTURE
    return MASK_HEADER.pack(MAGIC, VERSION, kind, PICTURE_FORMATS.index(form), request) + picture


def pack_name(request: int, file: bytes) -> bytes:
    """A style's file as it goes over the wire where prompts may name the style. request 0..2**32-1."""
    return MASK_HEADER.pack(MAGIC, VERSION, KIND_NAME, PICTURE_FORMATS.index("style"), request) + file


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
        AnswerTimings(*rest[: len(TIMINGS)]),
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
        *answer.timings.values(),
        answer.ssim,
        answer.psnr,
        answer.flicker,
    )
    return b"".join((header, answer.picture))
