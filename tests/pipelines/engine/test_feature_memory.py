"""What a pass leaves in its session."""

import numpy as np
import torch

from pipelines.engine.feature_memory import remember
from pipelines.engine.levels import Levels
from pipelines.engine.rows import PictureKeys, Row, RowPlanner
from pipelines.engine.state import StreamState
from pipelines.techniques.noise import SessionNoise
from pipelines.techniques.schedule import from_config
from pipelines.techniques.stream_batch import InFlight
from pipelines.values.settings import Settings
from tests.miniature import BETAS

SHAPE = (4, 8, 8)
LEVELS = Levels(from_config(BETAS))
THUMB = np.zeros((64, 64, 3), np.float32)
FRAMES = Settings().patched({"cache.enabled": True, "cache.interval": 4, "cache.policy": "interval", "cache.branch": 1})


class Session:
    def __init__(self, settings: Settings) -> None:
        self.settings, self.state = settings, StreamState(SessionNoise(0, SHAPE))
        self.keys = PictureKeys(settings, SHAPE[1:], 1.0, None)

    def plan(self, frame: InFlight) -> Row:
        return RowPlanner(self.settings, self.state.cache, self.state.residuals, self.keys, True).rows([frame])[0]

    def run(self, frame: InFlight, value: float) -> str:
        """One pass of a frame, whose features are all `value`; which pass it was."""
        row = self.plan(frame)
        keeps = row.key is not None
        remember(self.state, row, (torch.full((1,), value),) if keeps else (), LEVELS)
        return row.kind[0]


def frame(number: int, steps: int = 1) -> InFlight:
    timesteps = tuple(range(900, 900 - 100 * steps, -100))
    return InFlight(number, torch.randn(SHAPE), torch.zeros(SHAPE), timesteps, thumb=THUMB)


def test_a_full_pass_is_used_until_its_entry_is_too_old() -> None:
    session = Session(FRAMES.patched({"cache.cascade": False}))
    items = [frame(number) for number in range(5)]
    assert [session.run(item, 1.0) for item in items] == ["full", "shallow", "shallow", "shallow", "full"]
    assert [item.reused for item in items] == [False, True, True, True, False]
    assert [entry.state.age for entry in session.state.cache.values()] == [0]


def test_a_relay_leaves_features_for_the_next_frame_alone() -> None:
    session = Session(FRAMES.patched({"cache.cascade": True}))
    kinds = [session.run(frame(number), float(number)) for number in range(4)]
    assert kinds == ["full", "relay", "shallow", "relay"]
    (entry,) = session.state.cache.values()
    assert [float(value) for value in (*entry.features, *entry.relayed)] == [0.0, 3.0] and entry.state.age == 3


def test_a_frame_keeps_the_latent_that_its_full_pass_saw() -> None:
    session = Session(FRAMES.patched({"cache.reuse": "encoder"}))
    item = frame(0, steps=3)
    seen = item.x
    assert session.run(item, 1.0) == "encoder" and not item.reused
    kept = item.kept[False]
    assert kept.x is seen and (float(kept.a), float(kept.s)) == tuple(map(float, LEVELS.model_coefficients(item)))
    item.level, item.x = 1, torch.randn(SHAPE)
    assert session.run(item, 2.0) == "decoder" and item.reused
    assert item.kept[False] is kept and session.state.cache == {}


def test_a_plain_pass_leaves_nothing() -> None:
    session = Session(Settings())
    item = frame(0)
    assert session.run(item, 1.0) == "full"
    assert session.state.cache == {} and item.kept == {} and not item.reused
