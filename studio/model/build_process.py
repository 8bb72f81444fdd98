"""Builds graphs in another process, at the lowest priority; this process then reads them from disk.

Converting a network is mostly Python, so in a thread it takes turns with the model's thread, the event loop and the codecs,
whatever its priority; and threads that a library starts from a slow thread stay slow. The other process starts with the first
graph and ends when nothing more is requested. It loads the model for itself: where there is no memory for that, this process
builds.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import logging
import os
import queue
import subprocess
import sys
import threading
from collections.abc import Iterable, Iterator, Sequence
from typing import IO, TYPE_CHECKING, Any, Literal

from pipelines import GraphLimits, StreamSpec
from studio import environment

if TYPE_CHECKING:
    from pipelines import GraphKey

log = logging.getLogger("rill")

Fate = Literal["built", "failed", "interrupted"]

LOWEST = 19


class BuildProcess:
    """One other process, or none. `build` is called from one thread, the others from any."""

    def __init__(self, command: Sequence[str] = (sys.executable, "-m", "studio.model.build_process")) -> None:
        self._command = command
        self._lock = threading.Lock()
        self._child: subprocess.Popen[str] | None = None
        self._interrupted = False
        self._closed = False

    def build(self, spec: StreamSpec, key: GraphKey) -> Fate:
        """Have a graph built and written to disk; blocks. spec: resolved."""
        child = self._started()
        if child is None or child.stdin is None or child.stdout is None:
            return "interrupted" if self._closed else "failed"
        line = {"spec": dataclasses.asdict(spec), "key": dataclasses.asdict(key)}
        answer = ""
        with contextlib.suppress(OSError, ValueError):  # it may have ended, of itself or by `stop`
            child.stdin.write(json.dumps(line) + "\n")
            child.stdin.flush()
            answer = child.stdout.readline()
        if answer.strip() == "built":
            return "built"
        interrupted = self._interrupted
        self.stop()
        if not interrupted:
            log.info("%s is built in this process: %s", key, answer.strip() or "the other one has ended")
        return "interrupted" if interrupted else "failed"

    def interrupt(self) -> None:
        """Stop the build in progress."""
        with self._lock:
            self._interrupted = True
        self.stop()

    def stop(self) -> None:
        """End the process; the next graph starts another."""
        with self._lock:
            child, self._child = self._child, None
        if child is None:
            return
        child.kill()
        child.wait()
        for pipe in (child.stdin, child.stdout):
            with contextlib.suppress(OSError, ValueError):
                if pipe is not None:
                    pipe.close()

    def close(self) -> None:
        """No other is started."""
        self._closed = True
        self.interrupt()

    def _started(self) -> subprocess.Popen[str] | None:
        with self._lock:
            self._interrupted = self._closed
            if self._closed:
                return None
            if self._child is None or self._child.poll() is not None:
                self._child = self._start()
            return self._child

    def _start(self) -> subprocess.Popen[str] | None:
        try:
            return subprocess.Popen(
                self._command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
                env=environment.of_child(),
                process_group=0,  # Ctrl-C is for the server, which ends it. A session of its own would make nice mean nothing:
                # Linux shares the processor between sessions first (sched_autogroup), and only then by priority
            )
        except OSError as error:
            log.warning("no process for building graphs can be started: %s", error)
            return None


def serve(requests: Iterable[str], answers: IO[str]) -> None:
    """Build what the lines request until they end: one answer each, "built" or the reason why not."""
    from pipelines import GraphKey, load

    loaded: tuple[StreamSpec, Any] | None = None
    for line in requests:
        request = json.loads(line)
        spec, key = StreamSpec(**request["spec"]), GraphKey(**request["key"])
        try:
            if loaded is None or loaded[0] != spec:
                loaded = None  # the memory of two is not there
                loaded = spec, load(spec, environment.cache_dir(), True, graphs=GraphLimits(memory=0), warm=False)
            loaded[1].graphs.build(key, must=True)
            loaded[1].graphs.evict(key)
            answer = "not kept on disk" if loaded[1].graphs.portable(key) else "built"
        except (
            Exception
        ) as error:  # a compiler may fail in any way; the server builds the graph itself then, and reports its own error
            answer = f"{type(error).__name__}: {error}".replace("\n", " ")
        print(answer, file=answers, flush=True)


def main() -> None:
    with contextlib.suppress(OSError, AttributeError):  # Windows has no such priority
        os.nice(LOWEST)
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "w", encoding="utf-8")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # what libraries print is no answer
    serve(_lines(sys.stdin), answers)


def _lines(stream: IO[str]) -> Iterator[str]:
    """The stream's lines. Where it ends, so does the process, in the middle of a graph: the server is gone."""
    lines: queue.SimpleQueue[str] = queue.SimpleQueue()

    def read() -> None:
        for line in stream:
            lines.put(line)
        os._exit(0)

    threading.Thread(target=read, daemon=True).start()
    while True:
        yield lines.get()


if __name__ == "__main__":
    main()
