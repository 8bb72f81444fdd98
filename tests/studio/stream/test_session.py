"""Bookkeeping of one session, without sockets or clocks: every frame meets one fate, credit holds, newest wins."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines import Settings
from studio.stream.session import AgeGauge, Session
from studio.wire.limits import Limits
from studio.wire.protocol import VERDICTS, Answer, FrameMessage, ProtocolError


def frame(frame_id: int, captured_at: float = 0.0) -> FrameMessage:
    return FrameMessage(frame_id, captured_at, "none", memoryview(b""))


def made(frame_id: int, verdict: str = "generated") -> Answer:
    return Answer(frame_id, 0.0, 0, 0, verdict)


def session(**limits: float) -> Session:
    return Session("s", Limits(**limits), Settings())  # type: ignore[arg-type]


def test_a_frame_goes_in_and_its_answer_comes_out() -> None:
    one = session()
    one.receive(frame(1, 5.0), now=10.0)
    waiting = one.take(10.0)
    assert waiting is not None and waiting.frame.id == 1 and one.inbox is None
    assert one.in_flight == (1,) and one.settled == 0
    one.answer(1, made(1))
    sent = one.next_answer()
    assert sent is not None and sent.settled == 1 and one.in_flight == () and one.next_answer() is None
    assert one.totals == {"received": 1, "generated": 1} and one.captured(1) == 5.0


def test_newest_wins_the_inbox() -> None:
    one = session(credit=3)
    one.receive(frame(1), 0.0)
    one.receive(frame(2), 0.0)
    assert one.inbox is not None and one.inbox.frame.id == 2
    assert one.drops == {"superseded": 1} and one.in_flight == (2,)


def test_beyond_the_credit_the_newest_replaces_only_one_that_still_waits() -> None:
    one = session(credit=2)
    one.receive(frame(1), 0.0)
    one.take(0.0)
    one.receive(frame(2), 0.0)
    one.receive(frame(3), 0.0)  # 2 still waits
    assert one.in_flight == (1, 3) and one.drops == {"credit": 1}
    one.take(0.0)
    one.receive(frame(4), 0.0)  # no frame waits any more
    assert one.in_flight == (1, 3) and one.drops == {"credit": 2} and one.settled == 0


def test_pictures_that_wait_for_the_loop_only_are_all_sent() -> None:
    one = session()
    for frame_id in (1, 2):
        one.receive(frame(frame_id), 0.0)
        one.take(0.0)
        one.answer(frame_id, made(frame_id))
    assert [answer.frame_id for answer in one.outbox] == [1, 2]


def test_an_unsent_picture_gives_way_to_a_newer_one() -> None:
    one = session()
    one.send_blocked = True
    for frame_id in (1, 2):
        one.receive(frame(frame_id), 0.0)
        one.take(0.0)
    one.answer(1, made(1))
    one.answer(2, made(2))
    sent = one.next_answer()
    assert sent is not None and sent.frame_id == 2 and sent.settled == 2 and one.next_answer() is None
    assert one.drops == {"unsent": 1} and one.totals["generated"] == 1 and one.totals["dropped"] == 1


def test_answers_out_of_order_never_go_back() -> None:
    one = session()
    for frame_id in (1, 2):
        one.receive(frame(frame_id), 0.0)
        one.take(0.0)
    one.answer(2, made(2))
    one.answer(1, made(1))
    assert [answer.frame_id for answer in one.outbox if answer.verdict == "generated"] == [2]
    assert one.drops == {"superseded": 1}


def test_a_skip_waits_for_the_picture_before_it_and_never_replaces_it() -> None:
    one = session()
    for frame_id in (1, 2):
        one.receive(frame(frame_id), 0.0)
        one.take(0.0)
    one.answer(2, made(2, "skipped"))
    assert one.next_answer() is None and one.settled == 0
    one.answer(1, made(1))
    sent = [one.next_answer(), one.next_answer(), one.next_answer()]
    assert [answer and (answer.verdict, answer.settled) for answer in sent] == [("generated", 1), ("skipped", 2), None]
    assert one.totals == {"received": 2, "generated": 1, "skipped": 1} and one.settled == 2


def test_a_held_skip_goes_on_when_the_frame_before_it_is_lost() -> None:
    one = session()
    for frame_id in (1, 2):
        one.receive(frame(frame_id), 0.0)
        one.take(0.0)
    one.answer(2, made(2, "skipped"))
    one.drop(1, "superseded")
    assert one.settled == 2 and [answer.verdict for answer in one.outbox] == ["dropped", "skipped"]


def waiting_behind(one: Session, *frame_ids: int) -> None:
    """These frames are unpacked; each takes the place of the one before it."""
    for frame_id in frame_ids:
        one.receive(frame(frame_id), 0.0)
        one.take(0.0)
    for frame_id in frame_ids[:-1]:
        one.supersede(frame_id)


def test_the_credit_of_a_superseded_frame_goes_back_with_the_next_answer() -> None:
    one = session()
    waiting_behind(one, 1, 2)
    assert one.in_flight == (1, 2) and one.settled == 0 and one.next_answer() is None
    assert one.awaits(2) and not one.awaits(1)
    one.answer(1, made(1, "failed"))
    assert one.next_answer() is None, "its fate is known already"
    one.answer(2, made(2))
    sent = [one.next_answer(), one.next_answer()]
    assert [answer and (answer.verdict, answer.reason, answer.settled) for answer in sent] == [
        ("dropped", "superseded", 1),
        ("generated", "none", 2),
    ]
    assert one.totals == {"received": 2, "generated": 1, "dropped": 1} and one.drops == {"superseded": 1}


@pytest.mark.parametrize("verdict", ["skipped", "failed"])
def test_an_answer_is_held_only_behind_frames_that_something_is_made_of(verdict: str) -> None:
    """A skip that went to the model without a frame took the place of the frame before it: nothing else will settle that one."""
    one = session()
    waiting_behind(one, 1, 2)
    one.answer(2, made(2, verdict))
    sent = [one.next_answer(), one.next_answer(), one.next_answer()]
    assert [answer and (answer.verdict, answer.settled) for answer in sent] == [("dropped", 1), (verdict, 2), None]
    assert one.in_flight == () and one.drops == {"superseded": 1}


@pytest.mark.parametrize("lost", ["superseded", "dropped", "answered"])
def test_answers_held_behind_a_frame_go_out_in_order_once_it_is_done_with(lost: str) -> None:
    one = session(credit=4)
    for frame_id in (1, 2, 3, 4):
        one.receive(frame(frame_id), 0.0)
        one.take(0.0)
    one.answer(3, made(3, "failed"))
    one.answer(2, made(2, "skipped"))
    assert one.next_answer() is None and one.in_flight == (1, 2, 3, 4)
    {"superseded": one.supersede, "dropped": lambda one_id: one.drop(one_id, "stale"), "answered": lambda one_id: one.answer(
        one_id, made(one_id)
    )}[lost](1)  # fmt: skip
    sent = [one.next_answer(), one.next_answer(), one.next_answer(), one.next_answer()]
    first = "generated" if lost == "answered" else "dropped"
    assert [answer and (answer.verdict, answer.settled) for answer in sent] == [(first, 1), ("skipped", 2), ("failed", 3), None]
    assert one.in_flight == (4,) and one.awaits(4)


def test_a_frame_that_cannot_be_unpacked_does_not_cost_the_picture_before_it() -> None:
    one = session()
    for frame_id in (1, 2):
        one.receive(frame(frame_id), 0.0)
        one.take(0.0)
    one.answer(2, made(2, "failed"))
    one.answer(1, made(1))
    assert [(answer.verdict, answer.settled) for answer in one.outbox] == [("generated", 1), ("failed", 2)]


def test_when_the_turn_is_near_one_superseded_frame_makes_room() -> None:
    one = session(credit=3)
    one.release_superseded()
    waiting_behind(one, 1, 2, 3)
    assert one.settled == 0
    one.release_superseded()
    sent = one.next_answer()
    assert sent is not None and (sent.frame_id, sent.verdict, sent.settled) == (1, "dropped", 1) and one.next_answer() is None
    assert one.in_flight == (2, 3)


@pytest.mark.parametrize("reason", ["superseded", "paused"])
def test_superseded_frames_are_settled_when_what_superseded_them_is_lost(reason: str) -> None:
    one = session(credit=3)
    waiting_behind(one, 1, 2, 3)
    one.drop(3, reason)
    assert one.settled == 3 and one.in_flight == () and one.drops.total() == 3
    waiting_behind(one, 4, 5)
    one.supersede(5)  # handed to an owner that has ended: it takes its own place
    assert one.settled == 5 and one.in_flight == ()
    waiting_behind(one, 6, 7)
    one.detach()
    assert one.settled == 7 and one.in_flight == () and one.next_answer() is None


def test_a_slow_readers_outbox_stays_small() -> None:
    one = session()
    one.send_blocked = True
    for frame_id in range(1, 50):
        one.receive(frame(frame_id), 0.0)
        one.take(0.0)
        one.answer(frame_id, made(frame_id, ("generated", "warming", "skipped", "failed")[frame_id % 4]))
    assert len(one.outbox) <= 5 and sum(answer.verdict == "generated" for answer in one.outbox) == 1


def test_ids_rise() -> None:
    one = session()
    one.receive(frame(5), 0.0)
    for wrong in (0, 4, 5):
        with pytest.raises(ProtocolError, match="not above 5"):
            one.receive(frame(wrong), 0.0)
    assert one.totals["received"] == 1


def test_a_pause_drops_what_waits_and_what_comes() -> None:
    one = session()
    one.receive(frame(1), 0.0)
    one.pause(True)
    one.receive(frame(2), 0.0)
    assert one.drops == {"paused": 2} and one.settled == 2 and one.inbox is None
    one.pause(False)
    one.receive(frame(3), 0.0)
    assert one.take(0.0) is not None


def test_a_frame_that_grew_old_in_the_inbox_is_not_unpacked() -> None:
    one = session(max_age_ms=100.0)
    one.receive(frame(1), 0.0)
    assert one.take(0.2) is None and one.drops == {"stale": 1} and one.in_flight == ()


def test_a_lost_connection_loses_what_is_under_way_and_nothing_else() -> None:
    one = session()
    one.receive(frame(1), 0.0)
    one.take(0.0)
    one.receive(frame(2), 0.0)
    one.answer(1, made(1))
    one.detach()
    assert one.in_flight == () and one.outbox == [] and one.settled == 2 and one.last_id == 2
    one.answer(2, made(2))  # an answer of the old connection
    assert one.next_answer() is None


def every(**limits: float) -> Session:
    one = session(**limits)
    one.every = True
    return one


def test_with_delivery_every_frames_wait_in_their_order_and_none_is_too_old() -> None:
    one = every(credit=3, max_age_ms=100.0)
    for frame_id in (1, 2, 3):
        one.receive(frame(frame_id, captured_at=-9.0 * (frame_id > 1)), 0.0)
    taken = [one.take(5.0) for _ in range(4)]
    assert [received and received.frame.id for received in taken] == [1, 2, 3, None] and not one.drops


def test_with_delivery_every_all_answers_wait_for_a_slow_reader_and_hold_their_credit() -> None:
    one = every(credit=2)
    one.send_blocked = True
    for frame_id in (1, 2):
        one.receive(frame(frame_id), 0.0)
        one.take(0.0)
        one.answer(frame_id, made(frame_id))
    one.receive(frame(3), 0.0)
    assert one.drops == {"credit": 1}, "its client has read nothing yet"
    assert [answer.frame_id for answer in one.outbox] == [1, 2, 3]
    assert one.next_answer() is not None
    one.receive(frame(4), 0.0)
    assert one.in_flight == (4,)


def test_with_delivery_every_a_client_without_regard_for_its_credit_fills_no_outbox() -> None:
    one = every(credit=2)
    for frame_id in range(1, 100):
        one.receive(frame(frame_id), 0.0)
        if one.take(0.0) is not None:
            one.answer(frame_id, made(frame_id, ("generated", "skipped", "warming")[frame_id % 3]))
    assert len(one.outbox) <= 2 + 4 and one.drops.keys() == {"credit"}


def test_with_delivery_every_a_pause_and_the_end_empty_the_whole_inbox() -> None:
    for end in (lambda one: one.pause(True), lambda one: one.detach()):
        one = every(credit=4)
        for frame_id in (1, 2, 3):
            one.receive(frame(frame_id), 0.0)
        end(one)
        assert one.take(0.0) is None and one.in_flight == () and one.drops.total() == 3


def test_stale_by_two_clocks_that_are_never_compared() -> None:
    gauge = AgeGauge()
    assert not gauge.stale(1000.0, 5.0, 0.5)
    assert not gauge.stale(1001.0, 6.4, 0.5)
    assert gauge.stale(1002.0, 7.6, 0.5)
    assert not gauge.stale(1003.0, 8.1, 0.5)
    assert gauge.stale(1004.0, 10.0, 0.5) and gauge.stale(1005.0, 11.0, 0.5)
    assert not gauge.stale(1006.0, 12.0, 0.5), "three in a row mean a slower path"
    assert not gauge.stale(1007.0, 13.0, 0.5)


def test_drifting_clocks_are_forgiven() -> None:
    gauge = AgeGauge()
    # 100 parts per million for a day, a frame every second: 8.6 s apart at the end.
    assert not any(gauge.stale(second * (1 - 1e-4), float(second), 0.5) for second in range(0, 86_400, 7))


KINDS = ("receive", "take", "answer", "late", "post", "drop", "supersede", "near", "pause", "go", "detach")
MOVES = st.lists(
    st.tuples(
        st.sampled_from(KINDS),
        st.integers(0, 5),
    ),
    max_size=80,
)


@given(MOVES, st.integers(1, 3), st.booleans())
def test_every_frame_meets_exactly_one_fate(moves: list[tuple[str, int]], credit: int, keeps_every: bool) -> None:
    one, next_id, unpacked, settled = session(credit=credit), 1, list[int](), 0
    one.every = keeps_every
    for step, (move, number) in enumerate(moves):
        now = step * 0.01
        if move == "receive":
            one.receive(frame(next_id, now), now)
            next_id += 1
        elif move == "take" and (waiting := one.take(now)) is not None:
            unpacked.append(waiting.frame.id)
        elif move in ("answer", "late") and unpacked:
            frame_id = unpacked.pop(0 if move == "answer" else -1)
            one.answer(frame_id, made(frame_id, ("generated", "cached", "skipped", "warming", "failed", "generated")[number]))
        elif move == "drop" and unpacked:
            one.drop(unpacked.pop(), "superseded")
        elif move == "supersede" and len(unpacked) > 1:
            one.supersede(unpacked.pop(-2))
        elif move == "near":
            one.release_superseded()
        elif move in ("pause", "go"):
            one.pause(move == "pause")
        elif move == "detach":
            one.detach()
        elif move == "post" and (sent := one.next_answer()) is not None:
            assert sent.settled >= settled, "settled never falls"
            assert sent.verdict == "dropped" or sent.frame_id > settled, "an answer comes before its frame is called settled"
            assert sent.verdict == "dropped" or sent.frame_id <= sent.settled
            settled = sent.settled
        waiting_answers = sum(answer.verdict != "dropped" for answer in one.outbox)
        fates = sum(one.totals[verdict] for verdict in VERDICTS)
        assert one.totals["received"] == fates + len(one.in_flight) + waiting_answers
        assert one.totals["dropped"] == sum(one.drops.values())
        assert len(one.in_flight) <= credit
        assert not one.in_flight or any(map(one.awaits, one.in_flight)), "nothing will give that credit back"
        assert one.settled < min(one.in_flight, default=one.settled + 1)
