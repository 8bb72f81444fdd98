"""Graphs that another process builds: it may answer, fail, end, or be ended."""

import io
import json
import os
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from pipelines import GraphKey, StreamSpec, load
from studio.model import build_process
from studio.model.build_process import BuildProcess, Fate

LIMIT_S = 60
SPEC, KEY = StreamSpec(width=128, height=128, backend="openvino", dtype="float32", device="cpu"), GraphKey("full", 2)


def script(code: str) -> tuple[str, ...]:
    """A process that runs `code` for each `line` of its input."""
    return sys.executable, "-c", f"import json, os, sys\nfor line in sys.stdin:\n  {code}"


@pytest.fixture
def made() -> Iterator[Callable[[str], BuildProcess]]:
    all_of_them: list[BuildProcess] = []

    def make(code: str) -> BuildProcess:
        all_of_them.append(BuildProcess(script(code)))
        return all_of_them[-1]

    yield make
    for one in all_of_them:
        one.close()


def test_one_process_builds_one_graph_after_the_other(made: Callable[[str], BuildProcess], tmp_path: Path) -> None:
    log = tmp_path / "log"
    other = made(f"open({str(log)!r}, 'a').write(f'{{os.getpid()}} {{line}}'); print('built', flush=True)")
    assert [other.build(SPEC, KEY), other.build(SPEC, GraphKey("shallow", 1, 0))] == ["built", "built"]
    other.stop()
    assert other.build(SPEC, KEY) == "built", "a new one is started"
    lines = [line.split(" ", 1) for line in log.read_text().splitlines()]
    assert len({pid for pid, _ in lines[:2]}) == 1
    asked = json.loads(lines[0][1])
    assert StreamSpec(**asked["spec"]) == SPEC and GraphKey(**asked["key"]) == KEY


def test_the_process_yields_to_the_server_and_ignores_its_terminal(made: Callable[[str], BuildProcess], tmp_path: Path) -> None:
    path = tmp_path / "ids"
    ids = "json.dumps([os.getsid(0), os.getpgid(0), os.getpid()])"
    assert made(f"open({str(path)!r}, 'w').write({ids}); print('built', flush=True)").build(SPEC, KEY) == "built"
    session, group, process = json.loads(path.read_text())
    assert session == os.getsid(0), "Linux shares the processor between sessions before it looks at priorities"
    assert group == process, "a Ctrl-C in the terminal ends the server, which ends its child"


@pytest.mark.parametrize("code", ["print('MemoryShortError: no', flush=True)", "sys.exit(3)", "os.kill(os.getpid(), 9)"])
def test_what_fails_is_said_and_left_to_this_process(made: Callable[[str], BuildProcess], code: str) -> None:
    other = made(code)
    assert [other.build(SPEC, KEY), other.build(SPEC, KEY)] == ["failed", "failed"]


def test_a_process_that_cannot_be_started_is_a_failure() -> None:
    assert BuildProcess(("/no/such/program",)).build(SPEC, KEY) == "failed"


@pytest.mark.parametrize("end", [BuildProcess.interrupt, BuildProcess.close])
def test_what_is_no_longer_wanted_ends_at_once(
    made: Callable[[str], BuildProcess], tmp_path: Path, end: Callable[[BuildProcess], None]
) -> None:
    fifo = tmp_path / "begun"
    os.mkfifo(fifo)
    other = made(f"open({str(fifo)!r}, 'w').close(); sys.stdin.readline()")
    fates: list[Fate] = []
    thread = threading.Thread(target=lambda: fates.append(other.build(SPEC, KEY)))
    thread.start()
    fifo.read_text()  # until it has begun
    end(other)
    thread.join(LIMIT_S)
    assert fates == ["interrupted"]
    if end is BuildProcess.close:
        assert other.build(SPEC, KEY) == "interrupted", "and no other is started"


def test_lines_are_answered_and_failures_name_their_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    built: list[Any] = []

    class Graphs:
        def build(self, key: GraphKey, must: bool) -> None:
            if key.rows == 3:
                raise RuntimeError("a compiler's\nwhim")
            built.append(key)

        def evict(self, key: GraphKey) -> None:
            assert key in built

        def portable(self, key: GraphKey) -> bool:
            return key.rows == 4

    class Pipeline:
        graphs = Graphs()

    monkeypatch.setattr("pipelines.load", lambda *arguments, **more: Pipeline())
    lines = [
        json.dumps({"spec": {"width": 128, "height": 128}, "key": {"part": "full", "rows": rows, "branch": None}})
        for rows in (2, 3, 4)
    ]
    answers = io.StringIO()
    build_process.serve(lines, answers)
    assert answers.getvalue().splitlines() == ["built", "RuntimeError: a compiler's whim", "not kept on disk"]


@pytest.mark.long
def test_the_real_process_leaves_a_graph_on_disk(one_chunk_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RILL_CACHE", str(tmp_path))
    pipeline = load(StreamSpec(str(one_chunk_model), 128, 128, "openvino", "float32"), tmp_path, warm=False)
    key = GraphKey("full", 1, 1)
    assert pipeline.graphs.portable(key)
    other = BuildProcess()
    try:
        assert other.build(pipeline.spec, key) == "built"
    finally:
        other.close()
    assert not pipeline.graphs.portable(key), "it is there"
    monkeypatch.setattr(pipeline.graphs.backend, "model", None)
    assert pipeline.graphs.build(key), "and is read, not built"
    pipeline.close()
