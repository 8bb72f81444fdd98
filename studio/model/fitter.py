"""Fits of styles to pictures beside the stream: one at a time per server, in a process of lower priority; later ones wait.

The process (studio/model/fit_process.py) loads what it needs for itself and ends with its fit, so nothing of a fit stays.
"""

from __future__ import annotations

import base64
import contextlib
import json
import logging
import subprocess
import sys
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from pipelines import ModelError, PictureStyle, Pixels, read_style
from studio import environment

log = logging.getLogger("rill")

NEED = 900 * 2**20
"""Bytes that a fit's process takes: 672 MiB were measured with pocket, torch included."""

State = Literal["waiting", "fitting", "done", "failed", "stopped"]


def _free() -> int:
    """Bytes of main memory that can be had now."""
    from pipelines import free_memory  # imports torch, which the server does not wait for

    return free_memory("cpu")


@dataclass(frozen=True, slots=True)
class FitNews:
    """How a fit stands. place: in the line, 1 is next. done: share of its steps. gain: by how much the fitted numbers are nearer
    to the picture than the predicted ones, 0 to 1. share: of one core that it takes. style: the best so far, if it is new."""

    state: State
    place: int = 0
    done: float = 0.0
    gain: float = 0.0
    share: float = 0.0
    reason: str | None = None
    style: PictureStyle | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Fit:
    """A requested fit. on_news: called with its progress, in the fitter's thread."""

    session: str
    model: str
    pixels: Pixels = field(repr=False)
    on_news: Callable[[FitNews], None]


class Fitter:
    """One thread that follows one process. `request`, `drop` and `close` may be called from any thread."""

    def __init__(
        self,
        share: float,
        free: Callable[[], int] = _free,
        command: Sequence[str] = (sys.executable, "-m", "studio.model.fit_process"),
    ) -> None:
        """share: of one core that a fit may take, above 0. free: bytes that are free now."""
        self.share = share
        self._free, self._command = free, command
        self._wake = threading.Condition()
        self._line: list[Fit] = []
        self._present: Fit | None = None
        self._child: subprocess.Popen[str] | None = None
        self._closed = False
        self._thread: threading.Thread | None = None

    @property
    def running(self) -> int:
        """Fits under way: 0 or 1."""
        return int(self._present is not None)

    @property
    def waiting(self) -> int:
        return len(self._line)

    def request(self, fit: Fit) -> None:
        """Fit this when it is its turn, instead of the earlier request of its session."""
        self.drop(fit.session)
        with self._wake:
            if self._closed:
                return
            self._line.append(fit)
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="rill-fitter", daemon=True)
                self._thread.start()
            self._wake.notify()
            self._report_line()

    def drop(self, session: str) -> None:
        """Cancel the session's fit, whether it waits or is under way."""
        with self._wake:
            self._line = [fit for fit in self._line if fit.session != session]
            if self._present is not None and self._present.session == session:
                self._present = None
                self._kill()
            self._report_line()

    def close(self) -> None:
        """End the fit under way; no other is begun."""
        with self._wake:
            self._closed = True
            self._line.clear()
            self._present = None
            self._kill()
            self._wake.notify()
        if self._thread is not None:
            self._thread.join(10.0)

    def _kill(self) -> None:
        if self._child is not None:
            self._child.kill()

    def _report_line(self) -> None:
        ahead = self.running
        for place, fit in enumerate(self._line, 1):
            if ahead or place > 1:
                fit.on_news(FitNews("waiting", place))

    def _run(self) -> None:
        while (fit := self._next()) is not None:
            try:
                self._follow(fit)
            except Exception as error:  # the thread serves all sessions, whatever fails in one fit
                log.error("a fit failed", exc_info=error)
                self._end(fit, FitNews("failed", reason=f"an internal error ({type(error).__name__})"))

    def _next(self) -> Fit | None:
        with self._wake:
            while not self._line and not self._closed:
                self._wake.wait()
            if self._closed:
                return None
            self._present = self._line.pop(0)
            self._report_line()
            return self._present

    def _follow(self, fit: Fit) -> None:
        if (free := self._free()) < NEED:
            reason = f"not enough memory: a fit takes {NEED / 2**20:.0f} MiB, {free / 2**20:.0f} are free"
            return self._end(fit, FitNews("failed", reason=reason))
        child = self._start(fit)
        if child is None:
            return self._end(fit, FitNews("failed", reason="its process cannot be started"))
        last = FitNews("fitting")
        try:
            self._report(fit, last)
            for line in child.stdout or ():
                last = _read(line)
                if last.state == "fitting":
                    self._report(fit, last)
        finally:
            self._close_child(child)
        if last.done < 1.0 and last.state == "fitting":
            last = FitNews("failed", done=last.done, gain=last.gain, reason="its process has ended early")
        self._end(fit, FitNews("done", done=1.0, gain=last.gain, share=last.share) if last.state == "fitting" else last)

    def _start(self, fit: Fit) -> subprocess.Popen[str] | None:
        request = {
            "model": fit.model,
            "share": self.share,
            "shape": fit.pixels.shape,
            "pixels": base64.b64encode(fit.pixels.tobytes()).decode(),
        }
        try:
            child = subprocess.Popen(
                self._command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
                env=environment.of_child(),
                start_new_session=True,  # Ctrl-C is for the server, which ends it
            )
        except OSError as error:
            log.warning("no process for fitting styles can be started: %s", error)
            return None
        with self._wake:
            self._child = child
            if self._present is not fit:
                self._kill()
        with contextlib.suppress(OSError, ValueError):  # it may have ended
            assert child.stdin is not None
            child.stdin.write(json.dumps(request) + "\n")
            child.stdin.flush()
        return child

    def _close_child(self, child: subprocess.Popen[str]) -> None:
        with self._wake:
            self._child = None
        child.kill()
        child.wait()
        for pipe in (child.stdin, child.stdout):
            with contextlib.suppress(OSError, ValueError):
                if pipe is not None:
                    pipe.close()

    def _report(self, fit: Fit, news: FitNews) -> None:
        if self._present is fit:
            fit.on_news(news)

    def _end(self, fit: Fit, news: FitNews) -> None:
        self._report(fit, news)
        with self._wake:
            if self._present is fit:
                self._present = None


def _read(line: str) -> FitNews:
    """A line of the process. One that cannot be read is a failure with its reason."""
    try:
        message: dict[str, Any] = json.loads(line)
        if "failed" in message:
            return FitNews("failed", reason=str(message["failed"]))
        style = read_style(base64.b64decode(message["style"])) if "style" in message else None
        return FitNews("fitting", 0, float(message["done"]), float(message["gain"]), float(message["share"]), None, style)
    except (ValueError, KeyError, TypeError, ModelError) as error:
        return FitNews("failed", reason=f"its process sent what cannot be read ({type(error).__name__})")
