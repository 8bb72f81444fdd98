"""The answered picture of a session's last frame, and how it enters the next one (pipelines/techniques/consistency.py)."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass, replace

from torch import Tensor

from pipelines.engine.state import Answered, StreamState
from pipelines.techniques import consistency, probe
from pipelines.techniques.noise import ToDevice
from pipelines.techniques.stream_batch import InFlight
from pipelines.values.settings import CacheSettings, ConsistencySettings, GateSettings, ProbeSettings, RefineSettings, Settings
from pipelines.values.types import Pixels


def identity(settings: Settings, inputs_version: int) -> Hashable:
    """Equal for settings under which pictures look alike: what an old look made is never mixed into a new one."""
    look = replace(
        probe.reference(settings),
        version=0,
        gate=GateSettings(),
        cache=CacheSettings(),
        probe=ProbeSettings(),
        refine=RefineSettings(),
        consistency=ConsistencySettings(),
    )
    return look, inputs_version


@dataclass(slots=True, eq=False)
class Feedback:
    """What one picture takes from the session's last answer. small: its input. answered: what was answered, once it has
    been called."""

    state: StreamState
    small: Pixels
    identity: Hashable
    amount: float
    to_device: ToDevice
    answered: Answered | None = None

    def __call__(self, picture: Tensor) -> Tensor:
        """The picture as it is answered, uint8 [H, W, 3], from what decoder and painter made."""
        last = self.state.answered
        if last is not None and last.identity == self.identity:
            motion = self.state.follower.between(last.small, self.small)
            picture = consistency.fed_back(picture, last.picture, motion, self.amount, self.to_device)
        self.answered = Answered(picture, self.small, self.identity)
        return picture

    def forget(self) -> None:
        """The picture was hidden: it enters no later one."""
        self.answered = None


def of(state: StreamState, frame: InFlight, settings: Settings) -> Feedback | None:
    """For a finished frame; None while it is off, and for frames without a source picture."""
    if not settings.consistency.enabled or frame.small is None:
        return None
    key = identity(settings, frame.inputs_version)
    return Feedback(state, frame.small, key, settings.consistency.amount, state.noise.to_device)
