"""What the protocol's messages are made of: names, codes, sizes of headers, and one value per kind of message."""

from __future__ import annotations

import math
import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from operator import attrgetter

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

VERSION = 1
SUBPROTOCOL = "rill.v1"
PATH = "/rill/stream"
MAX_TEXT = 32 * 1024
MAX_REQUEST = 2**53 - 1
MAX_ID = 2**32 - 1

MAGIC, KIND_FRAME, KIND_ANSWER, KIND_MASK, KIND_REFERENCE, KIND_PICTURE, KIND_PICTURE_B = 0x52, 1, 2, 3, 4, 5, 6
KIND_NAME = 7
FORMATS = ("none", "jpeg", "png", "webp")
ANSWER_FORMATS = ("none", "jpeg", "png")
PICTURE_FORMATS = (*FORMATS, "style")
"""Of a picture prompt: a picture, or the file of a style that was made from one."""
DELIVERIES = ("newest", "every")
"""newest: a newer frame or picture replaces one that waits; every: none is replaced, and the client's credit paces it."""

VERDICTS = ("generated", "cached", "skipped", "warming", "dropped", "failed")
REASONS = ("none", "stale", "credit", "superseded", "unsent", "paused", "spec")


@dataclass(frozen=True, slots=True)
class AnswerTimings:
    """Milliseconds in an answer's header, in the order of the header; docs/protocol-binary.md defines each one."""

    receive: float = 0.0
    unpack: float = 0.0
    gate: float = 0.0
    encode: float = 0.0
    denoise: float = 0.0
    decode: float = 0.0
    pack: float = 0.0
    send: float = 0.0
    wait: float = 0.0
    total: float = 0.0

    def values(self) -> tuple[float, ...]:
        """The numbers in the order of TIMINGS."""
        return _VALUES(self)

    @property
    def model(self) -> float:
        """Milliseconds of the steps that made the picture: encode, denoise and decode."""
        return self.encode + self.denoise + self.decode


TIMINGS = tuple(item.name for item in fields(AnswerTimings))
"""Names of the timings, in the order of the header."""

_VALUES: Callable[[AnswerTimings], tuple[float, ...]] = attrgetter(*TIMINGS)  # dataclasses.astuple copies each value


FRAME_HEADER = struct.Struct("<BBBBId")
ANSWER_HEADER = struct.Struct("<BBBBIdIIBBH10f3f")
MASK_HEADER = struct.Struct("<BBBBI")


class ProtocolError(Exception):
    """A message that breaks the protocol. `code` as in docs/protocol-messages.md; `field` and `request` where known."""

    def __init__(self, message: str, *, code: str = "bad_message", field: str | None = None, request: int | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.code = code
        self.field = field
        self.request = request


@dataclass(frozen=True, slots=True)
class PictureEncoding:
    """Encoding of a client's answers; quality 30..100 is JPEG's."""

    format: str = "jpeg"
    quality: int = 85


@dataclass(frozen=True, slots=True)
class Hello:
    protocol: int
    token: str | None = None
    resume: str | None = None
    settings: Mapping[str, object] = field(default_factory=dict)
    picture: PictureEncoding = PictureEncoding()
    client: str = ""
    wait: bool = False
    delivery: str = "newest"


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
    """Whether the client gets the probe's unaccelerated pictures too."""

    wanted: bool


@dataclass(frozen=True, slots=True)
class FitWish:
    """Whether the style of the picture prompt may be fitted in the background."""

    wanted: bool


@dataclass(frozen=True, slots=True)
class Keep:
    """Request for the file of the present picture's style, under this name."""

    name: str
    request: int | None = None


@dataclass(frozen=True, slots=True)
class Ping:
    t: float


@dataclass(frozen=True, slots=True)
class Bye:
    pass


ClientMessage = Hello | Patch | SpecChange | Pause | References | FitWish | Keep | Ping | Bye


@dataclass(frozen=True, slots=True)
class FrameMessage:
    """One frame of a client. `picture` is a view of the message, empty with format "none"; captured_at in its clock's seconds."""

    id: int
    captured_at: float
    format: str
    picture: memoryview


@dataclass(frozen=True, slots=True)
class MaskMessage:
    """A client's painted strength map, or one of its picture prompts: `picture` is a view of it in the message, empty (with
    format "none") to remove it. second: it is the picture prompt that `picture.blend` mixes in."""

    request: int
    picture: memoryview
    format: str = "png"
    second: bool = False


@dataclass(frozen=True, slots=True)
class Answer:
    """One answer of the server. Quality numbers are NaN when unknown."""

    frame_id: int
    captured_at: float
    settled: int
    settings_version: int
    verdict: str
    reason: str = "none"
    timings: AnswerTimings = AnswerTimings()
    ssim: float = math.nan
    psnr: float = math.nan
    flicker: float = math.nan
    format: str = "none"
    picture: memoryview | bytes = b""
