"""A session's memory: what may be set from outside, and the shadow that the reference is made with."""

import numpy as np
import pytest
import torch

from pipelines.engine.state import StreamState
from pipelines.techniques.noise import SessionNoise
from pipelines.techniques.stream_batch import InFlight


@pytest.fixture
def state() -> StreamState:
    return StreamState(SessionNoise(0, (4, 8, 8)))


def test_a_mask_becomes_a_map_of_the_latents_size(state: StreamState) -> None:
    mask = np.zeros((32, 64), np.uint8)
    mask[:, 32:] = 255
    state.set_mask(mask)
    assert state.mask is not None and state.mask.shape == (1, 8, 8)
    assert torch.equal(state.mask[0, 0], torch.tensor([0.0] * 4 + [1.0] * 4))
    state.set_mask(None)
    assert state.mask is None


def test_only_for_a_model_that_inpaints_a_mask_has_pixels() -> None:
    mask = np.zeros((32, 64), np.uint8)
    mask[:, 32:] = 255
    for inpaints in (False, True):
        state = StreamState(SessionNoise(0, (4, 8, 8)), inpaints)
        for one in (state, state.shadow()):
            one.set_mask(mask)
            assert one.mask is not None and (one.repainted is not None) == inpaints
            if one.repainted is not None:
                assert torch.equal(one.repainted[0], torch.tensor([0] * 32 + [1] * 32, dtype=torch.uint8))


@pytest.mark.parametrize("mask", [np.zeros((4, 4), np.float32), np.zeros(4, np.uint8), np.zeros((0, 3), np.uint8)])
def test_a_mask_of_another_kind_is_refused_and_the_old_one_stays(state: StreamState, mask: np.ndarray) -> None:
    state.set_mask(np.full((8, 8), 255, np.uint8))
    before = state.mask, state.inputs_version
    with pytest.raises(ValueError, match="a mask must be uint8"):
        state.set_mask(mask)
    assert (state.mask, state.inputs_version) == before


def test_every_change_of_mask_or_picture_ends_what_was_remembered(state: StreamState) -> None:
    seen = [state.inputs_version]
    for change in (
        lambda: state.set_mask(np.zeros((8, 8), np.uint8)),
        lambda: state.set_mask(None),
        lambda: state.set_picture(np.zeros((5, 7, 3), np.uint8)),
        lambda: state.set_picture(None),
    ):
        change()
        seen.append(state.inputs_version)
    assert len(set(seen)) == len(seen)


def test_another_picture_prompt_has_no_tokens_yet(state: StreamState) -> None:
    state.set_picture(np.zeros((5, 7, 3), np.uint8))
    state.seen.tokens = torch.zeros(2, 3), torch.zeros(2, 3)
    state.set_picture(np.ones((5, 7, 3), np.uint8))
    assert state.seen.tokens is None and isinstance(state.seen.picture, np.ndarray) and state.seen.picture[0, 0, 0] == 1


def test_a_shadow_begins_where_the_session_is_and_leaves_no_trace_in_it(state: StreamState) -> None:
    state.noise.level(0)
    state.previous_x0 = torch.ones(4, 8, 8)
    state.ring.admit(InFlight(3, torch.zeros(4, 8, 8), None, (1,)))
    shadow = state.shadow()
    assert (shadow.in_flight, state.in_flight, state.frames) == (0, 1, (3,)) and shadow.previous_x0 is state.previous_x0
    before = state.noise.level(0).clone()
    shadow.noise.advance(0.3)
    state.noise.advance(0.0)
    assert torch.equal(state.noise.level(0), before) and not torch.equal(shadow.noise.level(0), before)
    state.noise.advance(0.3)
    assert torch.equal(state.noise.level(0), shadow.noise.level(0)), "the session goes the same way afterwards"
