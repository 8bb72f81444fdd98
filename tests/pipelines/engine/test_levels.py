"""The mathematics of a level, against the formulas written out; and that frames are independent of who shares their pass."""

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
import torch
from torch import Tensor

from pipelines.engine.levels import FrameOutputs, Levels, stack
from pipelines.engine.rows import AssumedKeys, PictureKeys, Row
from pipelines.engine.state import StreamState
from pipelines.techniques.guidance import NegativeResidual
from pipelines.techniques.noise import SessionNoise
from pipelines.techniques.schedule import from_config, noised
from pipelines.techniques.stream_batch import InFlight, KeptFeatures
from pipelines.values.settings import Settings
from tests.miniature import BETAS

SHAPE = (4, 6, 5)
SCHEDULE = from_config(BETAS)
LEVELS = Levels(SCHEDULE)
TIMES = (700, 400, 100)
OUTPUT, NEGATIVE, SOURCE = torch.randn(3, *SHAPE, generator=torch.Generator().manual_seed(1))
GUIDED = {"guidance": 1.6}


def coefficients(t: int) -> tuple[Tensor, Tensor]:
    return SCHEDULE.signal[t], SCHEDULE.sigma[t]


def outputs(settings: Settings, level: int = 0, negative: bool = False, seed: int = 0, **changes: object) -> FrameOutputs:
    state = StreamState(SessionNoise(seed, SHAPE))
    x = noised(SOURCE, state.noise.level(level), *coefficients(TIMES[level]))
    frame = replace(InFlight(0, x, SOURCE, TIMES, level, anchor=SOURCE, thumb=np.zeros((64, 64, 3), np.float32)), **changes)
    if level:
        frame.x0 = SOURCE.flip(0)
    frame.solver = SCHEDULE.resolved(settings.solver)
    keys = PictureKeys(settings, SHAPE[1:], 1.0, None)
    return FrameOutputs(state, frame, settings, keys, OUTPUT, NEGATIVE if negative else None)


def advanced(one: FrameOutputs) -> InFlight:
    LEVELS.advance([one])
    return one.frame


def x0_of(output: Tensor, x: Tensor, t: int) -> Tensor:
    a, s = coefficients(t)
    return (x - s * output) / a


def close(one: Tensor | None, other: Tensor) -> None:
    assert one is not None
    torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-5)


def test_without_guidance_a_level_is_the_clean_latent_and_the_next_levels_noise() -> None:
    one = outputs(Settings())
    x = one.frame.x
    frame = advanced(one)
    expected = x0_of(OUTPUT, x, 700)
    a, s = coefficients(400)
    close(frame.x0, expected)
    close(frame.anchor, expected)
    close(frame.x, a * expected + s * one.state.noise.level(1))
    assert frame.level == 1 and one.state.previous_x0 is None


@pytest.mark.parametrize("solver", ["ddim", "dpmpp-2m"])
@pytest.mark.parametrize("omega", [1.0, 0.7])
def test_without_new_noise_a_level_keeps_the_noise_that_its_result_implies(solver: str, omega: float) -> None:
    for level in (0, 1):
        one = outputs(Settings().patched({"solver": solver, "omega": omega}), level)
        x, before = one.frame.x, one.frame.x0
        frame = advanced(one)
        (a, s), (a1, s1) = coefficients(TIMES[level]), coefficients(TIMES[level + 1])
        assert frame.x0 is not None
        expected = frame.x0
        if solver == "dpmpp-2m" and before is not None:
            lam = [float((SCHEDULE.signal[t] / SCHEDULE.sigma[t]).log()) for t in TIMES]
            expected = expected + 0.5 * (lam[2] - lam[1]) / (lam[1] - lam[0]) * (expected - before)
        close(frame.x, a1 * expected + s1 * (x - a * expected) / s)
        close(frame.anchor, frame.x0)


def test_the_last_level_ends_the_frame_and_is_the_sessions_last_result() -> None:
    one = outputs(Settings(), level=2)
    x = one.frame.x
    frame = advanced(one)
    assert frame.finished and one.state.previous_x0 is frame.x0 and frame.x is x
    close(frame.x0, x0_of(OUTPUT, x, 100))


@pytest.mark.parametrize(
    ("change", "negative", "guided"),
    [
        ({"guidance_mode": "full"}, True, lambda x, x0_u: x0_u),
        ({"guidance_mode": "one-time"}, True, lambda x, x0_u: x0_u),
        ({"guidance_mode": "adaptive"}, True, lambda x, x0_u: x0_u),
        ({"guidance_mode": "self"}, False, lambda x, x0_u: SOURCE),
        (
            {"guidance_mode": "self", "guidance_delta": 0.7},
            False,
            lambda x, x0_u: (
                (x - coefficients(700)[1] * 0.7 * (x - coefficients(700)[0] * SOURCE) / coefficients(700)[1])
                / coefficients(700)[0]
            ),
        ),
    ],
)
def test_guidance_goes_from_the_negative_clean_latent_through_the_other(change, negative, guided) -> None:
    one = outputs(Settings().patched({**GUIDED, **change}), negative=negative)
    x = one.frame.x
    frame = advanced(one)
    x0, x0_u = x0_of(OUTPUT, x, 700), guided(x, x0_of(NEGATIVE, x, 700))
    close(frame.x0, x0_u + 1.6 * (x0 - x0_u))


def test_one_time_guidance_goes_on_with_the_residual_of_the_first_level() -> None:
    settings = Settings().patched({**GUIDED, "guidance_mode": "one-time"})
    one = outputs(settings, negative=True)
    x, frame = one.frame.x, advanced(one)
    residual = x0_of(NEGATIVE, x, 700) - SOURCE
    close(frame.residual, residual)
    x, anchor = frame.x, frame.anchor
    assert anchor is not None
    LEVELS.advance([replace(one, negative=None)])
    x0, x0_u = x0_of(OUTPUT, x, 400), anchor + residual
    close(frame.x0, x0_u + 1.6 * (x0 - x0_u))


def test_adaptive_guidance_remembers_the_residual_of_a_level_and_ages_it_when_it_is_used() -> None:
    settings = Settings().patched({**GUIDED, "guidance_mode": "adaptive"})
    one = outputs(settings, negative=True)
    x, frame = one.frame.x, replace(one.frame)
    LEVELS.advance([one])
    known = one.state.residuals[0]
    close(known.residual, x0_of(NEGATIVE, x, 700) - SOURCE)
    assert known.key == one.keys.guidance(frame) and known.age == 0
    LEVELS.advance([replace(one, frame=frame, negative=None)])
    assert one.state.residuals[0].age == 1
    x0, x0_u = x0_of(OUTPUT, x, 700), SOURCE + known.residual
    close(frame.x0, x0_u + 1.6 * (x0 - x0_u))


def test_from_a_prompt_alone_the_residual_is_taken_from_the_prediction_itself() -> None:
    settings = Settings().patched({**GUIDED, "guidance_mode": "one-time"})
    one = outputs(settings, negative=True, anchor=None, source=None)
    x = one.frame.x
    close(advanced(one).residual, x0_of(NEGATIVE, x, 700) - x0_of(OUTPUT, x, 700))


def test_omega_scales_the_noise_and_a_map_keeps_the_source_where_it_is_zero() -> None:
    grainy = Settings().patched({"omega": 0.6})
    plain, scaled = advanced(outputs(Settings())), advanced(outputs(grainy))
    assert plain.x0 is not None and scaled.x0 is not None and not torch.allclose(plain.x0, scaled.x0)
    m = torch.zeros(1, *SHAPE[1:])
    m[..., 2:] = 1.0
    mapped = advanced(outputs(Settings(), map=m))
    assert mapped.x0 is not None
    close(mapped.x0[..., :2], SOURCE[..., :2])
    close(mapped.x0[..., 2:], plain.x0[..., 2:])
    everywhere = advanced(outputs(Settings(), map=torch.ones(1, *SHAPE[1:])))
    close(everywhere.x0, plain.x0)
    close(everywhere.x, plain.x)


MIXED = [
    {},
    {"omega": 0.8},
    {"solver": "ddim"},
    {"solver": "dpmpp-2m"},
    {"solver": "dpmpp-2m", "omega": 0.8},
    {**GUIDED, "guidance_mode": "full"},
    {"guidance": 1.2, "guidance_mode": "full"},
    {**GUIDED, "guidance_mode": "one-time"},
    {**GUIDED, "guidance_mode": "self", "guidance_delta": 0.6},
    {**GUIDED, "guidance_mode": "adaptive"},
]


def several() -> list[FrameOutputs]:
    made = []
    for place, patch in enumerate(MIXED):
        settings = Settings().patched(patch)
        for level in range(3):
            negative = settings.guidance_mode in ("full", "adaptive") or (settings.guidance_mode == "one-time" and level == 0)
            made.append(outputs(settings, level, negative, seed=place))
        made.append(
            outputs(settings, 0, negative or settings.guidance_mode == "one-time", place, map=torch.full((1, *SHAPE[1:]), 0.4))
        )
    return made


def test_frames_get_the_same_bits_whoever_shares_their_pass() -> None:
    """Of sessions with every kind of guidance, at every level, with ω and maps: together, and each alone."""
    together, alone = several(), several()
    LEVELS.advance(together)
    for one in alone:
        LEVELS.advance([one])
    for one, other in zip(together, alone, strict=True):
        assert one.frame.x0 is not None and other.frame.x0 is not None
        assert torch.equal(one.frame.x0, other.frame.x0) and torch.equal(one.frame.x, other.frame.x)
        assert one.frame.level == other.frame.level
    results = [one.frame.x0 for one in together]
    assert all(not torch.equal(a, b) for a, b in pairwise(results) if a is not None and b is not None)


def test_what_the_decoder_predicts_is_read_as_about_the_latent_that_the_encoder_saw() -> None:
    """A perfect network returns the noise n₁ of the level that it saw. Read as the noise of the next level, which is
    n₂, it would leave s/a·(n₂ − n₁) in the picture; restated, it gives the clean latent."""
    n1, n2 = torch.randn(2, *SHAPE, generator=torch.Generator().manual_seed(7))
    (a1, s1), (a2, s2) = coefficients(700), coefficients(400)
    key = PictureKeys(Settings(), SHAPE[1:], 1.0, None).features(InFlight(0, SOURCE, SOURCE, TIMES))
    kept = KeptFeatures(key, 0, a1 * SOURCE + s1 * n1, a1, s1, (OUTPUT,))
    frame = InFlight(0, a2 * SOURCE + s2 * n2, SOURCE, TIMES, level=1)
    restated = LEVELS.restated(Row(frame, kind=("decoder", None), kept=kept), n1)
    close((frame.x - s2 * restated) / a2, SOURCE)
    for kind in (("shallow", 1), ("full", None)):
        assert LEVELS.restated(Row(frame, kind=kind, kept=kept), n1) is n1, "these have seen the present latent"


def test_models_that_take_another_timestep_are_read_with_its_coefficients() -> None:
    shifted = Levels(replace(SCHEDULE, shift=0.5))
    frame = InFlight(0, SOURCE, SOURCE, TIMES)
    assert shifted.noise_coefficients(frame) == coefficients(700) and shifted.model_coefficients(frame) == coefficients(350)


def test_nothing_to_move_is_no_error() -> None:
    LEVELS.advance([])
    assert stack([OUTPUT]).data_ptr() == OUTPUT.data_ptr() and stack([OUTPUT, NEGATIVE]).shape == (2, *SHAPE)


def test_an_assumed_key_never_hides_a_missing_residual() -> None:
    settings = Settings().patched({**GUIDED, "guidance_mode": "adaptive"})
    one = replace(outputs(settings), keys=AssumedKeys())
    with pytest.raises(KeyError):
        LEVELS.advance([one])
    one.state.residuals[0] = NegativeResidual("key", None, torch.zeros(SHAPE), lambda: 1.0)
    LEVELS.advance([one])
    assert one.state.residuals[0].age == 1
