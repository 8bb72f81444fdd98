"""One session's bookkeeping: which frames are in flight, which may come in, which answer goes out. Pure: `now` is an argument.

It moves nothing itself: studio/stream/inbound.py and outbound.py do. Every received frame has exactly one end:
received = sum of all verdicts + frames in flight + answers in the outbox.
"""

from __future__ import annotations

import enum
from collections import Counter, OrderedDict, deque
from collections.abc import Iterable
from dataclasses import dataclass, replace

from pipelines import Mask, PictureStyle, Pixels, Settings, StyleNames
from studio.wire.limits import Limits
from studio.wire.protocol import Answer, FrameMessage, PictureEncoding, ProtocolError

CAPTURE_TIMES_KEPT = 64
"""For pictures that leave the stream batch late; more than any batch holds."""

HEADERS_WAITING = 4
"""Answers without a picture that may wait in the outbox while the client reads nothing."""

KNOWN_EARLY = ("skipped", "failed")
"""Verdicts that may be known while earlier frames are still being made."""

STALE_IN_A_ROW = 3
"""This many stale frames in a row mean a slower path; see `AgeGauge`."""


@dataclass(frozen=True, slots=True)
class ReceivedFrame:
    """A frame in the inbox, not yet decoded. received_at in seconds of the server's clock."""

    frame: FrameMessage
    received_at: float


class FrameState(enum.Enum):
    """The state of a frame in flight that has no answer yet."""

    IN_PROGRESS = enum.auto()  # in the inbox, with the codec or with the model: an answer will come
    SUPERSEDED = enum.auto()  # a newer frame has taken its place: no answer will come


class AgeGauge:
    """How much later than usual a frame arrived, from two clocks that are never compared.

    The smallest (received − captured) so far is "usual"; it grows by 0.5 ms a second, which makes up for clocks that drift.
    """

    GROWTH = 0.0005

    def __init__(self) -> None:
        self._usual: float | None = None
        self._at = 0.0
        self._stale = 0

    def stale(self, captured_at: float, received_at: float, bound_s: float) -> bool:
        """True if the frame is more than `bound_s` older than usual. The third in a row restarts the measure and passes."""
        delay = received_at - captured_at
        if self._usual is not None:
            self._usual = min(delay, self._usual + self.GROWTH * max(0.0, received_at - self._at))
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
    """State of one session. Event loop only, but for settings, mask, pictures, names, encoding and every: they are replaced as a
    whole, and any thread may read them."""

    def __init__(self, name: str, limits: Limits, settings: Settings) -> None:
        self.name = name
        self.limits = limits
        self.settings = settings
        self.mask: Mask | None = None
        self.picture: Pixels | PictureStyle | None = None  # the picture prompt
        self.picture_b: Pixels | PictureStyle | None = None  # the second one, which `picture.blend` mixes in
        self.names = StyleNames()  # styles that its prompts may name: those whose files it has sent or kept
        self.wants_fit = True  # their styles may be fitted in the background
        self.encoding = PictureEncoding()
        self.every = False  # delivery "every": no frame and no picture is replaced by a newer one
        self.paused = False
        self.wants_references = False  # whether the client gets the probe's pictures too
        self.last_id = 0
        self.totals: Counter[str] = Counter()
        self.drops: Counter[str] = Counter()
        self.inbox: ReceivedFrame | None = None
        self.outbox: list[Answer] = []
        self.send_blocked = False  # an answer is being sent, and the socket does not take it
        self._behind_inbox: deque[ReceivedFrame] = deque()  # only with delivery "every"
        self._in_flight: dict[int, FrameState | Answer] = {}  # oldest first; an Answer waits for earlier frames
        self._captured: OrderedDict[int, float] = OrderedDict()
        self._age = AgeGauge()

    @property
    def pictured(self) -> bool:
        """Whether there is a picture prompt."""
        return self.picture is not None or self.picture_b is not None

    # Frames in.

    @property
    def in_flight(self) -> tuple[int, ...]:
        """Ids of frames that were taken in and have no answer yet, oldest first."""
        return tuple(self._in_flight)

    def awaits(self, frame_id: int) -> bool:
        """May this frame still be answered?"""
        return self._in_flight.get(frame_id) is FrameState.IN_PROGRESS

    @property
    def settled(self) -> int:
        """This id and all before it are done with."""
        return next(iter(self._in_flight)) - 1 if self._in_flight else self.last_id

    def receive(self, frame: FrameMessage, now: float) -> None:
        """Take a frame into the inbox, or drop it or the one in the inbox. Raises ProtocolError if its id does not rise."""
        if frame.id <= self.last_id:
            raise ProtocolError(f"frame id {frame.id} is not above {self.last_id}", code="bad_frame_id", field="id")
        self.last_id = frame.id
        self.totals["received"] += 1
        self._captured[frame.id] = frame.captured_at
        while len(self._captured) > CAPTURE_TIMES_KEPT:
            self._captured.popitem(last=False)
        beyond = len(self._in_flight) + self._unsent >= self.limits.credit
        if self.paused:
            self._drop(frame.id, "paused")
        elif self.every:
            self._append(ReceivedFrame(frame, now), beyond)
        elif self._age.stale(frame.captured_at, now, self.limits.max_age_ms / 1000):
            self._drop(frame.id, "stale")
        elif beyond and self.inbox is None:
            self._drop(frame.id, "credit")
        else:
            before, self.inbox = self.inbox, ReceivedFrame(frame, now)
            self._in_flight[frame.id] = FrameState.IN_PROGRESS  # first, or the drop would settle this frame too
            if before is not None:
                self.drop(before.frame.id, "credit" if beyond else "superseded")

    @property
    def _unsent(self) -> int:
        """Answers in the outbox that hold credit: with delivery "every" none is replaced, so their number must be bounded."""
        return sum(answer.verdict != "dropped" for answer in self.outbox) if self.every else 0

    def _append(self, received: ReceivedFrame, beyond: bool) -> None:
        """Behind the frames that wait; dropped if the client has exceeded its credit."""
        if beyond:
            return self._drop(received.frame.id, "credit")
        self._in_flight[received.frame.id] = FrameState.IN_PROGRESS
        if self.inbox is None:
            self.inbox = received
        else:
            self._behind_inbox.append(received)

    def clear_inbox(self) -> list[ReceivedFrame]:
        """Take everything out of the inbox, undecoded."""
        received = [*([] if self.inbox is None else [self.inbox]), *self._behind_inbox]
        self.inbox = None
        self._behind_inbox.clear()
        return received

    def take(self, now: float) -> ReceivedFrame | None:
        """The frame to decode now, if there is one; one that is too old is dropped, unless delivery is "every"."""
        received, self.inbox = self.inbox, self._behind_inbox.popleft() if self._behind_inbox else None
        if received is not None and not self.every and (now - received.received_at) * 1000 > self.limits.max_age_ms:
            self.drop(received.frame.id, "stale")
            return None
        return received

    def drop(self, frame_id: int, reason: str) -> None:
        """Give up a frame in flight; nothing happens for any other id."""
        if self._in_flight.pop(frame_id, None) is not None:
            self._drop(frame_id, reason)
            self._settle()

    def supersede(self, frame_id: int) -> None:
        """A newer frame waits for the model in place of this one. Its credit returns with the session's next answer, or when the
        session's turn is near. Returned at once it would let the client send the next frame, which would supersede again, as
        long as other sessions have their turns: four clients sent 17 frames for each picture shown (simulated in the tests).
        """
        if self.awaits(frame_id):
            self._in_flight[frame_id] = FrameState.SUPERSEDED
            self._settle()

    def release_superseded(self) -> None:
        """The session's turn is near: settle the oldest superseded frame, so that the client can send a fresh one in time."""
        for frame_id, state in self._in_flight.items():
            if state is FrameState.SUPERSEDED:
                return self.drop(frame_id, "superseded")

    def _settle(self) -> None:
        """Settle every frame that waits for no other.

        An early answer waits for the frames before it that are in progress; a superseded frame for one after it that is in
        progress, or is settled. So nothing is in flight unless something is in progress.
        """
        in_progress = [frame_id for frame_id, state in self._in_flight.items() if state is FrameState.IN_PROGRESS]
        first, last = (in_progress[0], in_progress[-1]) if in_progress else (self.last_id + 1, 0)
        early = [frame_id for frame_id, state in self._in_flight.items() if isinstance(state, Answer) and frame_id < first]
        free = early[-1] if early else 0
        for frame_id, state in list(self._in_flight.items()):
            if frame_id <= free or (state is FrameState.SUPERSEDED and frame_id > last):
                self._settle_frame(frame_id)

    def _settle_frame(self, frame_id: int) -> None:
        """With its early answer if there is one, else as superseded."""
        state = self._in_flight.pop(frame_id)
        if isinstance(state, Answer):
            self._put(state)
        else:
            self._drop(frame_id, "superseded")

    def report_lost(self, frame_ids: Iterable[int]) -> None:
        """Frames that were answered warming will have no picture: the pipeline has changed. They have been counted already."""
        for frame_id in frame_ids:
            self._put(Answer(frame_id, self.captured(frame_id), 0, self.settings.version, "dropped", "spec"))

    def pause(self, paused: bool) -> None:
        """While paused no frame is taken in; the one in the inbox is dropped."""
        self.paused = paused
        if paused:
            for received in self.clear_inbox():
                self.drop(received.frame.id, "paused")

    def _drop(self, frame_id: int, reason: str) -> None:
        self.totals["dropped"] += 1
        self.drops[reason] += 1
        self._put(Answer(frame_id, self.captured(frame_id), 0, self.settings.version, "dropped", reason))

    # Answers out.

    def captured(self, frame_id: int) -> float:
        """The capture time that came with a frame, in its client's seconds; 0 for one long gone."""
        return self._captured.get(frame_id, 0.0)

    def answer(self, consumed: int, answer: Answer) -> None:
        """Put an answer into the outbox; `consumed` is the frame that it settles, with all before it.

        A skip or a failure may be known early: it waits for the answers of the frames before it that are in progress. An answer
        to a frame that was overtaken, or that came over an earlier connection, is ignored.
        """
        if not self.awaits(consumed):
            return
        if answer.verdict in KNOWN_EARLY:
            self._in_flight[consumed] = answer
            return self._settle()
        for earlier in [frame_id for frame_id in self._in_flight if frame_id < consumed]:
            self._settle_frame(earlier)
        del self._in_flight[consumed]
        self._put(answer)
        self._settle()

    def next_answer(self) -> Answer | None:
        """Take the answer to send now out of the outbox; it is counted here."""
        if not self.outbox:
            return None
        answer = self.outbox.pop(0)
        self._count(answer)
        return answer

    def detach(self) -> None:
        """The connection has ended: what is in flight is lost, the rest stays."""
        self.clear_inbox()
        self.send_blocked = False
        for frame_id in self.in_flight:
            self.drop(frame_id, "unsent")
        for answer in self.outbox:
            self._discard(answer)
        self.outbox.clear()
        self._age = AgeGauge()

    def _put(self, answer: Answer) -> None:
        """While the socket is busy one picture waits, the newest; answers without one are 80 bytes, and few wait beside it.

        Pictures that wait only because the event loop was late, `credit` at most, are all sent. With delivery "every" all answers
        wait, but for those of dropped frames.
        """
        pictures = 1 if self.send_blocked else self.limits.credit
        alike = [waiting for waiting in self.outbox if _has_picture(waiting) == _has_picture(answer)]
        kept = self.every and answer.verdict != "dropped"
        if self.every:
            alike = [waiting for waiting in alike if waiting.verdict == "dropped"]
        if not kept and len(alike) >= (pictures if _has_picture(answer) else HEADERS_WAITING):
            self._discard(alike[0])
            self.outbox = [waiting for waiting in self.outbox if waiting is not alike[0]]
        # What is settled at this moment, not when it is sent: else it would include frames whose answers wait behind this one.
        self.outbox.append(replace(answer, settled=self.settled))

    def _discard(self, answer: Answer) -> None:
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
