"""What the model's thread calls when it has done something for a session. Nothing here may wait: every session would."""

from __future__ import annotations

from collections.abc import Callable

from pipelines import Output
from studio.model.jobs import JobResult
from studio.stream.dispatcher import Dispatcher
from studio.stream.outbound import FrameProgress, Outbound, PicturePacker
from studio.stream.session_gate import SessionGate


class ModelCallbacks:
    """One session's. Model thread only, but for `frames_inside` and `changing`, which any thread may read."""

    def __init__(self, dispatcher: Dispatcher, outbound: Outbound, packer: PicturePacker, gate: SessionGate) -> None:
        self.frames_inside = 0  # frames in the session's stream batch
        self.changing = False  # the picture changes even if the input does not
        self._dispatcher, self._outbound, self._packer, self._gate = dispatcher, outbound, packer, gate

    def job_done(self, progress: FrameProgress, result: JobResult) -> None:
        """A step has processed this frame, or has failed on it."""
        self.frames_inside = result.in_flight
        self.changing = result.output is not None and result.output.changing
        self._packer.add(progress, result)

    def refined(self, output: Output) -> None:
        """There is a better picture of the frame that was drawn last."""
        self._packer.add_refined(output)

    def turn_near(self) -> None:
        """The session's turn is the step after the one that begins now."""
        self._dispatcher.to_loop(self._outbound.turn_near)

    def pipeline_swapped(self, lost: tuple[int, ...], describe: Callable[[], str]) -> None:
        """Another pipeline runs. The client gets the old one's answers, then the message that `describe` makes (on the event
        loop), then answers of the new one. lost: ids of frames that went with the old one.
        """
        self.frames_inside = 0
        self._gate.reset()
        self._packer.add_call(self._outbound.pipeline_swapped, lost, describe)
