"""`app.py serve` in a separate process, with the fake engine and without the page: the target of attacks.

    python -m tests.hostile.service HOLD ARGUMENT...

HOLD is where native code is busy for a minute, like a compiler: load, build, or nothing.
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import os
import resource
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import psutil

ROOT = Path(__file__).resolve().parents[2]
ENDLESS_S = 60.0
PATIENCE_S = 60.0


class Service:
    """The running process. `errors` is its output on the standard error stream."""

    def __init__(self, *arguments: str, hold: str = "nothing") -> None:
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115
        command = [sys.executable, "-m", "tests.hostile.service", hold, "--port", "0", "--size", "128", *arguments]
        environment = os.environ | {"RILL_TOKEN": "a-token-for-the-tests", "PYTHONUNBUFFERED": "1"}
        self.process = subprocess.Popen(
            command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=self._errors, text=True
        )
        self._lines: list[str] = []
        self._news = threading.Condition()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        self.port = int(self.line("Rill is listening on").partition(" (")[0].rsplit(":", 1)[1].split()[0])
        self.host = f"127.0.0.1:{self.port}"
        self._inside = psutil.Process(self.process.pid)

    def line(self, start: str) -> str:
        """The first output line with this start. Waits for it."""
        with self._news:
            assert self._news.wait_for(lambda: self._found(start) or "" in self._lines, PATIENCE_S), f"no line {start!r}"
            found = self._found(start)
        assert found, f"the server has ended:\n{self.errors()}"
        return found[0]

    def _found(self, start: str) -> list[str]:
        return [line for line in self._lines if line.startswith(start)]

    def errors(self) -> str:
        self._errors.seek(0)
        return self._errors.read().decode(errors="replace")

    def descriptors(self) -> int:
        return self._inside.num_fds()

    def cpu_s(self) -> float:
        """Processor time of the process. It does not depend on other load of the machine."""
        times = self._inside.cpu_times()
        return float(times.user + times.system)

    def memory(self) -> int:
        """Resident bytes."""
        return int(self._inside.memory_info().rss)

    def allow_descriptors(self, count: int) -> None:
        _, hard = resource.prlimit(self.process.pid, resource.RLIMIT_NOFILE)
        resource.prlimit(self.process.pid, resource.RLIMIT_NOFILE, (count, hard))

    def end(self, number: int = signal.SIGTERM) -> int:
        """Send a signal and wait; the exit code."""
        self.process.send_signal(number)
        return self.process.wait(PATIENCE_S)

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        self._reader.join()
        assert self.process.stdout is not None
        self.process.stdout.close()
        self._errors.close()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in itertools.chain(self.process.stdout, [""]):
            with self._news:
                self._lines.append(line)
                self._news.notify_all()


@contextlib.contextmanager
def service(*arguments: str, hold: str = "nothing") -> Iterator[Service]:
    made = Service(*arguments, hold=hold)
    try:
        yield made
    finally:
        made.close()


def until(reached: Callable[[], bool], what: str) -> None:
    """Wait for a condition that has no event."""
    deadline = time.monotonic() + PATIENCE_S
    while not reached():
        assert time.monotonic() < deadline, what
        time.sleep(0.01)


def main(arguments: Sequence[str]) -> int:
    import pipelines
    from studio.cli import serve, serve_options
    from studio.web import server
    from tests.studio.fake import FakePipeline

    hold, *rest = arguments
    parser = argparse.ArgumentParser()
    serve_options.add_arguments(parser)

    def busy(*_: object, **options: object) -> None:
        print("holding", flush=True)
        time.sleep(ENDLESS_S)

    def load(spec: Any, *_: object, **options: object) -> FakePipeline:
        _ = pipelines.Entry  # imports torch, as the real one does, and not with the first frame
        if hold == "load":
            busy()
        pipeline = FakePipeline(spec)
        if hold == "build":
            pipeline.graphs.build = busy
        return pipeline

    pipelines.load = load  # type: ignore[assignment]
    server.create_app = partial(server.create_app, with_page=False)  # type: ignore[assignment]
    return serve.main(parser.parse_args(rest))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
