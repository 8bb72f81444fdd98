"""The fitter's line and process, with small programs in place of the fit: order, news, cancelling, failures, memory."""

from __future__ import annotations

import base64
import queue
import sys
from collections.abc import Callable, Iterator

import numpy as np
import pytest

from pipelines import PictureStyle, write_style
from studio.model.fit_process import Share
from studio.model.fitter import Fit, FitNews, Fitter

PIXELS = np.zeros((4, 6, 3), np.uint8)
STYLE = base64.b64encode(write_style(PictureStyle(np.ones(5, np.float32), "0123456789ab", fitted=3))).decode()
WAIT_S = 60.0

WORKS = f"""
import json, sys
request = json.loads(sys.stdin.readline())
assert request["shape"] == [4, 6, 3] and request["model"] == "pocket" and request["share"] == 0.25
print(json.dumps({{"done": 0.5, "gain": 0.1, "share": 0.2, "style": "{STYLE}"}}), flush=True)
print(json.dumps({{"done": 1.0, "gain": 0.1, "share": 0.2}}), flush=True)
"""
HANGS = """
import json, sys
sys.stdin.readline()
print(json.dumps({"done": 0.1, "gain": 0.0, "share": 0.2}), flush=True)
sys.stdin.read()
"""


class NewsLog:
    """The news of one session, in order."""

    def __init__(self) -> None:
        self._news: queue.Queue[FitNews] = queue.Queue()

    def __call__(self, news: FitNews) -> None:
        self._news.put(news)

    def until(self, wanted: Callable[[FitNews], bool]) -> list[FitNews]:
        found = []
        while not found or not wanted(found[-1]):
            found.append(self._news.get(timeout=WAIT_S))
        return found

    @property
    def empty(self) -> bool:
        return self._news.empty()


@pytest.fixture
def started() -> Iterator[Callable[..., Fitter]]:
    made: list[Fitter] = []

    def start(program: str, free: int = 2**40) -> Fitter:
        made.append(Fitter(0.25, lambda: free, (sys.executable, "-c", program)))
        return made[-1]

    yield start
    for fitter in made:
        fitter.close()


def test_a_fit_tells_its_steps_its_styles_and_its_end(started: Callable[..., Fitter]) -> None:
    log = NewsLog()
    started(WORKS).request(Fit("one", "pocket", PIXELS, log))
    news = log.until(lambda news: news.state in ("done", "failed"))
    assert [one.state for one in news] == ["fitting", "fitting", "fitting", "done"]
    assert news[1].style is not None and news[1].style.fitted == 3
    assert (news[-1].done, news[-1].gain, news[-1].reason) == (1.0, 0.1, None)


def test_one_fit_at_a_time_and_the_next_when_the_first_is_dropped(started: Callable[..., Fitter]) -> None:
    fitter, first, second, third = started(HANGS), NewsLog(), NewsLog(), NewsLog()
    fitter.request(Fit("one", "pocket", PIXELS, first))
    first.until(lambda news: news.done == 0.1)
    fitter.request(Fit("two", "pocket", PIXELS, second))
    fitter.request(Fit("three", "pocket", PIXELS, third))
    assert second.until(lambda news: news.state == "waiting")[-1].place == 1
    assert third.until(lambda news: news.state == "waiting")[-1].place == 2
    assert (fitter.running, fitter.waiting) == (1, 2)
    fitter.drop("two")
    assert third.until(lambda news: news.place == 1)
    fitter.drop("one")
    third.until(lambda news: news.state == "fitting" and news.done == 0.1)
    assert (fitter.running, fitter.waiting) == (1, 0) and first.empty


def test_another_picture_of_a_session_takes_the_place_of_its_first(started: Callable[..., Fitter]) -> None:
    fitter, before, after = started(HANGS), NewsLog(), NewsLog()
    fitter.request(Fit("one", "pocket", PIXELS, before))
    before.until(lambda news: news.done == 0.1)
    fitter.request(Fit("one", "pocket", PIXELS, after))
    after.until(lambda news: news.done == 0.1)
    assert (fitter.running, fitter.waiting) == (1, 0) and before.empty


@pytest.mark.parametrize(
    ("program", "reason"),
    [
        ("", "ended early"),
        ('print(\'{"failed": "ModelError: no style reader"}\')', "no style reader"),
        ("print('nonsense')", "cannot be read"),
        ("print('{\"done\": 1.0}')", "cannot be read"),
        ('print(\'{"done": 0.5, "gain": 0, "share": 0, "style": "AAAA"}\')', "cannot be read"),
    ],
)
def test_a_process_that_fails_is_a_failure_with_its_reason_and_the_next_fit_begins(
    started: Callable[..., Fitter], program: str, reason: str
) -> None:
    fitter = started(program)
    for session in ("one", "two"):
        log = NewsLog()
        fitter.request(Fit(session, "pocket", PIXELS, log))
        last = log.until(lambda news: news.state in ("done", "failed"))[-1]
        assert last.state == "failed" and last.reason is not None and reason in last.reason


def test_a_program_that_is_not_there_is_a_failure() -> None:
    fitter, log = Fitter(0.25, lambda: 2**40, ("/nowhere/python",)), NewsLog()
    fitter.request(Fit("one", "pocket", PIXELS, log))
    assert log.until(lambda news: news.state == "failed")[-1].reason == "its process cannot be started"
    fitter.close()


def test_without_the_memory_nothing_is_started(started: Callable[..., Fitter]) -> None:
    log = NewsLog()
    started(WORKS, free=10 * 2**20).request(Fit("one", "pocket", PIXELS, log))
    (only,) = log.until(lambda news: True)
    assert only.state == "failed" and only.reason is not None and "10 are free" in only.reason


def test_after_close_nothing_is_begun(started: Callable[..., Fitter]) -> None:
    fitter, first, second = started(HANGS), NewsLog(), NewsLog()
    fitter.request(Fit("one", "pocket", PIXELS, first))
    first.until(lambda news: news.done == 0.1)
    fitter.close()
    fitter.request(Fit("two", "pocket", PIXELS, second))
    assert (fitter.running, fitter.waiting) == (0, 0) and second.empty


def test_rests_keep_the_work_to_its_share() -> None:
    now, spent = [0.0], [0.0]

    def sleep(seconds: float) -> None:
        now[0] += seconds

    share = Share(0.25, lambda: spent[0], lambda: now[0], sleep)
    for work, elapsed in ((1.0, 1.0), (0.5, 4.0), (2.0, 2.0)):
        spent[0] += work
        now[0] += elapsed
        share.rest()
        assert share.used <= 0.25 + 1e-9
    assert now[0] == pytest.approx(14.0)
