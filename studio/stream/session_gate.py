"""The similarity gate of one session, which other threads may reset while the codec pool uses it."""

from __future__ import annotations

import numpy as np

from pipelines import Pixels, Settings, gate


class SessionGate:
    """`decide` runs in the codec pool, one call at a time; `reset` may be called from any thread."""

    def __init__(self) -> None:
        self._gate: gate.Gate | None = None
        self._reset = False
        self._before: tuple[Pixels | None, int] | None = None  # the frame that passed last, and the version of its settings

    def reset(self) -> None:
        """Forget the reference picture before the next decision: that frame then reaches the model.

        To be called when a frame that passed the gate was not processed, when what a picture depends on beside the settings has
        changed (mask, picture prompt, pipeline), and when a connection begins, since its client has no picture to show again.
        """
        self._reset = True

    def decide(self, pixels: Pixels | None, settings: Settings, changing: bool = False) -> gate.Answer:
        """Whether to skip a frame, with the scores and the thumbnail if there are any. The seed is that of the first settings.

        changing: the picture changes even if the input does not; then no frame is skipped for the sake of a refined picture.
        """
        if self._gate is None:
            self._gate = gate.Gate(settings.seed)
        if self._reset:
            self._reset = False
            self._gate.forget()
            self._before = None
        refines = settings.refine.enabled and not changing
        answer = self._gate.decide(pixels, settings.gate, settings.version, refines)
        if refines and not settings.gate.enabled and self._is_repeat(pixels, settings.version):
            return gate.Answer(True)
        if not answer.skip:
            self._before = (pixels, settings.version) if refines else None
        return answer

    def _is_repeat(self, pixels: Pixels | None, version: int) -> bool:
        """Whether this is the frame that passed last once more, value for value: a source that stands still."""
        if self._before is None or self._before[1] != version:
            return False
        before = self._before[0]
        return before is pixels if before is None or pixels is None else np.array_equal(before, pixels)
