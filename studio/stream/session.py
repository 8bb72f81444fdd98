"""One session's bookkeeping: which frames are under way, which may come in, which answer may go out. Pure: `now` is an argument.

It moves nothing itself; studio/stream/stream.py asks it what to do with each frame and each answer.
Every received frame meets exactly one fate: received = sum of all verdicts + frames in flight + answers not yet sent.
"""

from __future__ import annotations

import enum
from collections import Counter, OrderedDict
from collections.abc import Iterable
from dataclasses import dataclass, replace

from pipelines import Mask, Pixels, Settings
from studio.wire.limits import Limits
from studio.wire.protocol import Answer, FrameMessage, PictureWish, ProtocolError

REMEMBERED_IDS = 64
"""Capture times kept for pictures that leave the stream batch late; more than any batch holds."""

HEADERS_WAITING = 4
"""Answers without a picture that may wait in the outbox for a slow reader."""

KNOWN_EARLY = ("skipped", "failed")
"""Verdicts that may be known while frames before are still being made."""

STALE_IN_A_ROW = 3
"""So many stale frames in a row mean a slower path; see `AgeGauge`."""


@dataclass(frozen=True, slots=True)
class Waiting:
    """A frame in the inbox, not yet unpacked. received_at in seconds of the server's clock."""

    frame: FrameMessage
    received_at: float


class Standing(enum.Enum):
    """Where a frame in flight stands that has no answer yet."""

    UNDER_WAY = enum.auto()  # in the inbox, with the codec or with the model: an answer will come
    SUPERSEDED = enum.auto()  # a newer frame has taken its place: no answer will come


class AgeGauge:
    """How much later than usual a frame arrived, from two clocks that are never compared.

    The smallest (received − captured) seen is "usual"; it creeps up by 0.5 ms a second so that drifting clocks are forgiven.
    """

    CREEP = 0.0005

    def __init__(self) -> None:
        self._usual: float | None = None
        self._at = 0.0
        self._stale = 0

    def stale(self, captured_at: float, received_at: float, bound_s: float) -> bool:
        """True if the frame is older than `bound_s` beyond the usual. The third in a row starts the measure afresh and passes."""
        delay = received_at - captured_at
        if self._usual is not None:
            self._usual = min(delay, self._usual + self.CREEP * max(0.0, received_at - self._at))
        self._at = received_at
        if self._usual is None or delay - self._usual <= bound_s:
            self._usual = delay if self._usual is None else self._usual
            self._stale = 0
            return False
        self._stale += 1
        if self._stale < STALE_IN_A_ROW:
            return True
        self._usual, self._stale = delay, 0
        return False


class Session:
    """State of one session, touched by the event loop only; settings, mask and picture are swapped whole and may be read
    anywhere."""

    def __init__(self, name: str, limits: Limits, settings: Settings) -> None:
        self.name = name
        self.limits = limits
        self.settings = settings
        self.mask: Mask | None = None
        self.picture: Pixels | None = None  # the picture prompt
        self.wish = PictureWish()
        self.paused = False
        self.references = False  # whether this client wants to see the probe's references
        self.last_id = 0
        self.totals: Counter[str] = Counter()
        self.drops: Counter[str] = Counter()
        self.inbox: Waiting | None = None
        self.outbox: list[Answer] = []
        self.blocked = False  # an answer is being sent, and the socket does not take it
        self._in_flight: dict[int, Standing | Answer] = {}  # oldest first; an Answer is held back
        self._captured: OrderedDict[int, float] = OrderedDict()
        self._age = AgeGauge()

    # Frames in.

    @property
    def in_flight(self) -> tuple[int, ...]:
        """Ids of frames that were taken in and have no answer yet, oldest first."""
        return tuple(self._in_flight)

    def awaits(self, frame_id: int) -> bool:
        """May this frame still be answered?"""
        return self._in_flight.get(frame_id) is Standing.UNDER_WAY

    @property
    def settled(self) -> int:
        """This id and all before it are done with."""
        return next(iter(self._in_flight)) - 1 if self._in_flight else self.last_id

    def receive(self, frame: FrameMessage, now: float) -> None:
        """Take a frame into the inbox, or drop it or the one that waits there. Raises ProtocolError if its id does not rise."""
        if frame.id <= self.last_id:
            raise ProtocolError(f"frame id {frame.id} is not above {self.last_id}", code="bad_frame_id", field="id")
        self.last_id = frame.id
        self.totals["received"] += 1
        self._captured[frame.id] = frame.captured_at
        while len(self._captured) > REMEMBERED_IDS:
            self._captured.popitem(last=False)
        beyond = len(self._in_flight) >= self.limits.credit
        if self.paused:
            self._drop(frame.id, "paused")
        elif self._age.stale(frame.captured_at, now, self.limits.max_age_ms / 1000):
            self._drop(frame.id, "stale")
        elif beyond and self.inbox is None:
            self._drop(frame.id, "credit")
        else:
            before, self.inbox = self.inbox, Waiting(frame, now)
            self._in_flight[frame.id] = Standing.UNDER_WAY  # first, or the drop would call this frame settled too
            if before is not None:
                self.drop(before.frame.id, "credit" if beyond else "superseded")

    def take(self, now: float) -> Waiting | None:
        """The frame to unpack now, if one waits; one that has grown too old in the inbox is dropped."""
        waiting, self.inbox = self.inbox, None
        if waiting is not None and (now - waiting.received_at) * 1000 > self.limits.max_age_ms:
            self.drop(waiting.frame.id, "stale")
            return None
        return waiting

    def drop(self, frame_id: int, reason: str) -> None:
        """Give up a frame in flight; one that is not in flight (any more) is left alone."""
        if self._in_flight.pop(frame_id, None) is not None:
            self._drop(frame_id, reason)
            self._settle()

    def supersede(self, frame_id: int) -> None:
        """A newer frame waits for the model in this one's place. The credit goes back with the session's next answer, or when its
        turn is near: given back at once it would buy the next frame, which would supersede again, and so on for as long as others
        have their turns. Four clients sent and had unpacked 17 frames for each that was shown (simulated in the tests).
        """
        if self.awaits(frame_id):
            self._in_flight[frame_id] = Standing.SUPERSEDED
            self._settle()

    def refresh(self) -> None:
        """The session's turn is near: the oldest superseded frame is settled, so that a client whose credit it holds can send
        what enters the model fresh."""
        for frame_id, standing in self._in_flight.items():
            if standing is Standing.SUPERSEDED:
                return self.drop(frame_id, "superseded")

    def _settle(self) -> None:
        """Settle every frame that waits for no other.

        An answer that is held back waits for the frames before it that are under way; a superseded frame for one after it that
        is, or that is settled. So nothing is in flight unless something is under way.
        """
        under_way = [frame_id for frame_id, standing in self._in_flight.items() if standing is Standing.UNDER_WAY]
        first, last = (under_way[0], under_way[-1]) if under_way else (self.last_id + 1, 0)
        held = [frame_id for frame_id, standing in self._in_flight.items() if isinstance(standing, Answer) and frame_id < first]
        free = held[-1] if held else 0
        for frame_id, standing in list(self._in_flight.items()):
            if frame_id <= free or (standing is Standing.SUPERSEDED and frame_id > last):
                self._close(frame_id)

    def _close(self, frame_id: int) -> None:
        """The frame is settled: with the answer that is held for it, or as one that was superseded."""
        held = self._in_flight.pop(frame_id)
        if isinstance(held, Answer):
            self._put(held)
        else:
            self._drop(frame_id, "superseded")

    def forgo(self, frame_ids: Iterable[int]) -> None:
        """Frames that were answered warming will never have a picture: say so. They have been counted already."""
        for frame_id in frame_ids:
            self._put(Answer(frame_id, self.captured(frame_id), 0, self.settings.version, "dropped", "spec"))

    def pause(self, paused: bool) -> None:
        """While paused no frame is taken in, and the one in the inbox goes."""
        self.paused = paused
        if paused and self.inbox is not None:
            waiting, self.inbox = self.inbox, None
            self.drop(waiting.frame.id, "paused")

    def _drop(self, frame_id: int, reason: str) -> None:
        self.totals["dropped"] += 1
        self.drops[reason] += 1
        self._put(Answer(frame_id, self.captured(frame_id), 0, self.settings.version, "dropped", reason))

    # Answers out.

    def captured(self, frame_id: int) -> float:
        """The capture time that came with a frame, in its client's seconds; 0 for one long gone."""
        return self._captured.get(frame_id, 0.0)

    def answer(self, consumed: int, answer: Answer) -> None:
        """Put an answer into the outbox; `consumed` is the frame it settles, with all before it.

        A skip or a failure may be known early: it is held back until the frames before it that are under way have been answered.
        An answer that was overtaken, or is of an earlier connection, is forgotten.
        """
        if not self.awaits(consumed):
            return
        if answer.verdict in KNOWN_EARLY:
            self._in_flight[consumed] = answer
            return self._settle()
        for earlier in [frame_id for frame_id in self._in_flight if frame_id < consumed]:
            self._close(earlier)
        del self._in_flight[consumed]
        self._put(answer)
        self._settle()

    def post(self) -> Answer | None:
        """The answer to send now, if any. It counts from here on."""
        if not self.outbox:
            return None
        answer = self.outbox.pop(0)
        self._count(answer)
        return answer

    def detach(self) -> None:
        """The connection is gone: what is under way is lost, the rest stays."""
        self.inbox = None
        self.blocked = False
        for frame_id in self.in_flight:
            self.drop(frame_id, "unsent")
        for answer in self.outbox:
            self._lose(answer)
        self.outbox.clear()
        self._age = AgeGauge()

    def _put(self, answer: Answer) -> None:
        """While the socket is busy one picture waits, the newest; answers without one are 80 bytes, and few wait beside it.

        Pictures that wait only because the event loop was late, `credit` at most, are all sent.
        """
        pictures = 1 if self.blocked else self.limits.credit
        alike = [waiting for waiting in self.outbox if _has_picture(waiting) == _has_picture(answer)]
        if len(alike) >= (pictures if _has_picture(answer) else HEADERS_WAITING):
            self._lose(alike[0])
            self.outbox = [waiting for waiting in self.outbox if waiting is not alike[0]]
        # What is settled at this moment, not when it is sent: else it would run ahead of answers that wait behind this one.
        self.outbox.append(replace(answer, settled=self.settled))

    def _lose(self, answer: Answer) -> None:
        if _has_picture(answer):
            self.totals["dropped"] += 1
            self.drops["unsent"] += 1
        else:
            self._count(answer)

    def _count(self, answer: Answer) -> None:
        if answer.verdict != "dropped":  # those are counted when they are dropped
            self.totals[answer.verdict] += 1


def _has_picture(answer: Answer) -> bool:
    return answer.verdict in ("generated", "cached")
