"""How a frame enters the stream batch."""

import numpy as np
import pytest
import torch

from pipelines.engine.admission import admit
from pipelines.engine.levels import Levels
from pipelines.engine.state import StreamState
from pipelines.techniques import gate, motion, variety
from pipelines.techniques.noise import SessionNoise
from pipelines.techniques.schedule import from_config
from pipelines.techniques.stream_batch import InFlight
from pipelines.values.settings import Settings
from pipelines.values.types import Frame
from tests.miniature import BETAS
from tests.pipelines.techniques.test_motion import texture

SHAPE = (4, 8, 8)
LEVELS = Levels(from_config(BETAS))
LATENT = torch.randn(SHAPE, generator=torch.Generator().manual_seed(2))
DARK, BRIGHT = np.zeros((64, 64, 3), np.uint8), np.full((64, 64, 3), 255, np.uint8)


def session(seed: int = 0) -> StreamState:
    return StreamState(SessionNoise(seed, SHAPE))


def admitted(state: StreamState, patch: dict[str, object], pixels: np.ndarray | None = DARK, number: int = 0) -> InFlight:
    latent = None if pixels is None else LATENT
    admit(state, Frame(number, 0.0, pixels), latent, Settings().patched(patch), LEVELS)
    return state.ring.frames[-1]


def test_a_frame_is_its_latent_noised_to_the_first_timestep() -> None:
    state = session()
    item = admitted(state, {"strength": 0.5, "steps": 2})
    assert item.timesteps == LEVELS.schedule.timesteps(0.5, 2) and item.level == 0
    a, s = LEVELS.schedule.signal[item.timesteps[0]], LEVELS.schedule.sigma[item.timesteps[0]]
    torch.testing.assert_close(item.x, a * LATENT + s * state.noise.level(0))
    assert item.source is LATENT and item.anchor is LATENT


def test_a_prompt_alone_starts_from_noise_at_full_strength() -> None:
    state = session()
    item = admitted(state, {"strength": 0.3}, None)
    assert item.x is state.noise.level(0) and item.source is item.anchor is None
    assert item.timesteps == LEVELS.schedule.timesteps(1.0, 1)


def test_with_variety_a_prompt_alone_starts_from_the_smooth_latent_of_its_seed() -> None:
    state = session(5)
    item = admitted(state, {"seed": 5, "strength": 0.3, "noise.variety": 0.6, "steps": 2}, None)
    assert item.timesteps == LEVELS.schedule.timesteps(1 - 0.6 * variety.REACH, 2) and item.timesteps[0] < 999
    a, s = LEVELS.schedule.signal[item.timestep], LEVELS.schedule.sigma[item.timestep]
    torch.testing.assert_close(item.x, a * variety.smooth(5, SHAPE) + s * state.noise.level(0))
    assert item.source is item.anchor is None, "it is no source picture"
    assert item.strength == 1.0, "paint follows the source, and there is none"
    plain, varied = admitted(session(), {}), admitted(session(), {"noise.variety": 1.0})
    assert torch.equal(plain.x, varied.x), "with a picture it has no effect"


def test_another_seed_draws_other_noise_and_the_same_seed_keeps_it() -> None:
    state = session()
    first = admitted(state, {"seed": 0}).x
    assert torch.equal(admitted(state, {"seed": 0}, number=1).x, first)
    other = admitted(state, {"seed": 5}, number=2).x
    assert not torch.equal(other, first) and torch.equal(other, admitted(session(5), {"seed": 5}).x)


def test_a_walk_moves_the_noise_with_every_frame() -> None:
    state, patch = session(), {"noise.mode": "walk", "noise.walk_rate": 0.2}
    one, other = admitted(state, patch).x, admitted(state, patch, number=1).x
    assert not torch.equal(one, other)


def test_a_warm_start_mixes_the_last_result_in() -> None:
    state, last = session(), torch.full(SHAPE, 2.0)
    assert admitted(state, {"noise.warm_start": 0.25}).source is LATENT, "there is no result yet"
    state.previous_x0, state.previous_small = last, motion.small(DARK)
    source = admitted(state, {"noise.warm_start": 0.25}, number=1).source
    assert source is not None
    torch.testing.assert_close(source, 0.75 * LATENT + 0.25 * last)


def test_a_warm_start_takes_the_last_result_where_the_input_has_moved_to() -> None:
    wide = texture(64, 128)
    before, now = (np.ascontiguousarray(wide[:, left : left + 64]) for left in (16, 8))  # moves 8 to the right: a latent pixel
    state, last = session(), torch.randn(SHAPE, generator=torch.Generator().manual_seed(3))
    state.previous_x0, state.previous_small = last, motion.small(before)
    source = admitted(state, {"noise.warm_start": 0.8}, now).source
    assert source is not None
    moved = 0.2 * LATENT[..., 3:6] + 0.8 * last[..., 2:5]
    unmoved = 0.2 * LATENT[..., 3:6] + 0.8 * last[..., 3:6]
    assert (source[..., 3:6] - moved).abs().mean() < 0.5 * (source[..., 3:6] - unmoved).abs().mean()
    assert torch.equal(source[..., 0], LATENT[..., 0]), "this ground is new"


def test_a_warm_start_takes_nothing_over_a_cut_or_from_an_input_that_is_not_known() -> None:
    state, patch = session(), {"noise.warm_start": 0.8}
    state.previous_x0 = torch.ones(SHAPE)
    assert admitted(state, patch).source is LATENT, "its input was not kept"
    state.previous_small = motion.small(texture(64, 64, 1))
    source = admitted(state, patch, texture(64, 64, 2), 1).source
    assert source is not None and torch.equal(source, LATENT)


def test_motion_lowers_the_strength() -> None:
    state, patch = session(), {"strength": 0.8, "noise.motion": 1.0}
    still = admitted(state, patch).timesteps
    assert still == LEVELS.schedule.timesteps(0.8, 1)
    assert admitted(state, patch, DARK, 1).timesteps == still
    assert admitted(state, patch, BRIGHT, 2).timesteps == LEVELS.schedule.timesteps(0.4, 1)


@pytest.mark.parametrize(
    ("patch", "wanted"),
    [({}, False), ({"cache.enabled": True}, True), ({"guidance_mode": "adaptive"}, True), ({"omega_map.mode": "motion"}, True)],
)
def test_a_thumbnail_is_made_where_a_technique_needs_it(patch: dict[str, object], wanted: bool) -> None:
    thumb = admitted(session(), patch, BRIGHT).thumb
    assert (thumb is not None) == wanted
    assert thumb is None or np.array_equal(thumb, gate.thumbnail(BRIGHT))


def test_the_thumbnail_that_came_with_the_frame_is_used() -> None:
    state, thumb = session(), gate.thumbnail(DARK)
    admit(state, Frame(0, 0.0, BRIGHT, thumb), LATENT, Settings().patched({"cache.enabled": True}), LEVELS)
    assert state.ring.frames[0].thumb is thumb


def test_a_painted_mask_is_a_map_from_the_next_frame_on() -> None:
    state, patch = session(), {"strength_map.mode": "mask"}
    assert admitted(state, patch).map is None, "nothing is painted"
    state.set_mask(np.zeros((8, 8), np.uint8))
    item = admitted(state, patch, number=1)
    assert item.map is not None and item.inputs_version == 1 and state.ring.frames[0].map is None
    torch.testing.assert_close(item.x, LATENT * LEVELS.schedule.signal[0] + state.noise.level(0) * LEVELS.schedule.sigma[0])


def test_ids_that_do_not_rise_are_refused() -> None:
    state = session()
    admitted(state, {}, number=3)
    with pytest.raises(ValueError, match="frame 3 after 3"):
        admitted(state, {}, number=3)
