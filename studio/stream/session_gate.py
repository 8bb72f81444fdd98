"""The similarity gate of one session, which other threads may reset while the codec pool uses it."""

from __future__ import annotations

from pipelines import Pixels, Settings, gate


class SessionGate:
    """`decide` runs in the codec pool, one call at a time; `reset` may be called from any thread."""

    def __init__(self) -> None:
        self._gate: gate.Gate | None = None
        self._reset = False

    def reset(self) -> None:
        """Forget the reference picture before the next decision: that frame then reaches the model.

        To be called when a frame that passed the gate was not processed, when what a picture depends on beside the settings has
        changed (mask, picture prompt, pipeline), and when a connection begins, since its client has no picture to show again.
        """
        self._reset = True

    def decide(self, pixels: Pixels | None, settings: Settings) -> gate.Answer:
        """Whether to skip a frame, with the scores and the thumbnail if there are any. The seed is that of the first settings."""
        if self._gate is None:
            self._gate = gate.Gate(settings.seed)
        if self._reset:
            self._reset = False
            self._gate.forget()
        return self._gate.decide(pixels, settings.gate, settings.version)
