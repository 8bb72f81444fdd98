"""A turn: rows taken as far as a step goes, outputs received, frames handed on once their call is complete."""

import torch

from pipelines.engine.conditioner import Conditioning
from pipelines.engine.rows import AssumedKeys, Row
from pipelines.engine.state import StreamState
from pipelines.engine.turn import Entry, Turn
from pipelines.techniques.conditioning import Condition
from pipelines.techniques.noise import SessionNoise
from pipelines.techniques.stream_batch import InFlight
from pipelines.values.settings import Settings
from pipelines.values.types import Frame

X = torch.zeros(1)
GUIDED = Settings().patched({"guidance": 1.5, "guidance_mode": "full"})
SEQUENTIAL = Settings().patched({"stream_batch.enabled": False, "steps": 2})


def turn(settings: Settings, *levels: int, steps: int = 2) -> Turn:
    """A turn that has begun, with frames at these levels."""
    state = StreamState(SessionNoise(0, (4, 8, 8)))
    for number, level in enumerate(levels):
        state.ring.admit(InFlight(number, X, X, tuple(range(steps, 0, -1)), level))
    condition = Condition(X)
    made = Turn(Entry(state, Frame(9, 0.0, None), settings), state.ring.save())
    made.conditioning = Conditioning(condition, condition, 0.0, 0.0, None, AssumedKeys())
    return made


def plan(one: Turn) -> list[Row]:
    guided = one.entry.settings is GUIDED
    return [*(Row(frame) for frame in one.moving), *(Row(frame, True) for frame in one.moving if guided)]


def compute(rows: list[Row]) -> list[tuple[Row, torch.Tensor]]:
    return [(row, torch.tensor(float(row.frame.frame_id + 10 * row.negative))) for row in rows]


def test_without_a_limit_all_rows_of_a_call_are_taken_at_once_and_no_call_follows() -> None:
    one = turn(GUIDED, 1, 0)
    rows = one.take(plan)
    assert [(row.frame.frame_id, row.negative) for row in rows] == [(0, False), (1, False), (0, True), (1, True)]
    moved = one.receive(compute(rows))
    assert [(made.frame.frame_id, float(made.conditional)) for made in moved] == [(0, 0.0), (1, 1.0)]
    assert [float(made.negative) for made in moved if made.negative is not None] == [10.0, 11.0]
    assert one.take(plan) == [] and one.receive([]) == []


def test_a_limit_cuts_a_call_and_its_frames_move_with_its_last_row() -> None:
    one = turn(GUIDED, 1, 0)
    sizes, moved = [], []
    for _ in range(3):
        one.left = 2
        rows = one.take(plan)
        sizes.append(len(rows))
        moved.append(len(one.receive(compute(rows))))
        assert one.take(plan) == [], "the step has no rows left"
    assert (sizes, moved, one.calls) == ([2, 2, 0], [0, 2, 0], 1)


def test_in_sequential_mode_calls_follow_each_other_until_the_frame_is_done() -> None:
    one = turn(SEQUENTIAL, 0)
    for _ in range(2):
        (made,) = one.receive(compute(one.take(plan)))
        assert not one.complete()
        made.frame.level += 1
    assert one.take(plan) == [] and one.calls == 2 and one.complete()


def test_decoding_is_a_row_of_its_own() -> None:
    one = turn(Settings(), 2)
    one.left = 0
    assert not one.complete(), "no row is left for the picture"
    one.left = 1
    assert one.complete()
    empty = turn(Settings())
    empty.left = 0
    assert empty.complete(), "nothing has finished, so there is nothing to decode"


def test_undo_restores_the_frames_as_they_were() -> None:
    one = turn(Settings(), 1, 0)
    state = one.entry.state
    state.turn = one
    state.ring.frames[0].level = 2
    state.ring.admit(InFlight(5, X, X, (1,)))
    one.undo()
    assert [(frame.frame_id, frame.level) for frame in state.ring.frames] == [(0, 1), (1, 0)] and state.turn is None
