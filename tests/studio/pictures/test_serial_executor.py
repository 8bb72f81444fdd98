"""Work in turn on a pool of threads: order, one at a time, and what happens when a piece fails."""

from __future__ import annotations

import threading
import time
from concurrent.futures import Future, ThreadPoolExecutor

import pytest

from studio.pictures.serial_executor import SerialExecutor


def test_pieces_are_done_in_their_order_and_never_two_at_once() -> None:
    done: list[int] = []
    busy = threading.Lock()

    def piece(number: int) -> None:
        assert busy.acquire(blocking=False), "two pieces at once"
        time.sleep(0.0005 * (number % 3))
        done.append(number)
        busy.release()

    with ThreadPoolExecutor(4) as pool:
        futures: list[Future[None]] = []
        executor = SerialExecutor(lambda work: futures.append(pool.submit(work)))
        for number in range(60):
            executor.submit(lambda number=number: piece(number))  # type: ignore[misc]
            if number % 7 == 0:
                time.sleep(0.003)  # the queue runs empty now and then, and is taken up again
        deadline = time.monotonic() + 10
        while len(done) < 60 and time.monotonic() < deadline:
            time.sleep(0.005)
        assert all(future.exception() is None for future in futures)
    assert done == list(range(60))


def test_work_behind_a_failing_piece_is_done_and_the_failure_is_reported() -> None:
    given: list[object] = []
    executor = SerialExecutor(given.append)
    done: list[str] = []
    executor.submit(lambda: done.append("before"))
    executor.submit(lambda: 1 // 0)
    executor.submit(lambda: done.append("behind"))
    assert len(given) == 1
    with pytest.raises(ZeroDivisionError):
        given[0]()  # type: ignore[operator]
    assert done == ["before"] and len(given) == 2
    given[1]()  # type: ignore[operator]
    assert done == ["before", "behind"]
    executor.submit(lambda: done.append("later"))
    given[2]()  # type: ignore[operator]
    assert done[-1] == "later"
