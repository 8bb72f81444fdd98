"""The weights of every solver against its equations written out, and the choice that `auto` stands for."""

import math

import pytest
import torch
from diffusers import DDIMScheduler, DPMSolverMultistepScheduler
from torch import Tensor

from pipelines.techniques import schedule
from pipelines.techniques.solvers import ddim, dpmpp_2m, lcm
from pipelines.techniques.solvers.affine import NoiseLevel, Weights
from pipelines.techniques.solvers.choice import of_scheduler
from pipelines.values.settings import SOLVERS
from pipelines.values.types import SettingsError
from tests.miniature import BETAS

X, X0, PREVIOUS, NOISE = torch.randn(4, 4, 6, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
PLAN = schedule.from_config(BETAS)
FLOW = schedule.from_config({"_class_name": "FlowMatchLCMScheduler"})
TRIPLES = [(plan, times) for plan in (PLAN, FLOW) for times in ((999, 749, 499), (500, 120, 3), (31, 30, 29))]


def numbers(plan: schedule.Schedule, t: int) -> tuple[float, float]:
    return float(plan.signal[t]), float(plan.sigma[t])


def taken(weights: Weights) -> Tensor:
    return weights.step(X, X0, PREVIOUS, NOISE)


@pytest.mark.parametrize("plan, times", TRIPLES)
def test_each_step_is_that_of_its_paper(plan: schedule.Schedule, times: tuple[int, int, int]) -> None:
    (a0, s0), (a, s), (a1, s1) = (numbers(plan, t) for t in times)
    here, after = NoiseLevel(a, s), NoiseLevel(a1, s1)
    torch.testing.assert_close(taken(lcm.weights(after)), a1 * X0 + s1 * NOISE)
    first = ddim.weights(here, after)
    torch.testing.assert_close(taken(first), a1 * X0 + s1 * (X - a * X0) / s)
    h, h0 = math.log(a1 / s1) - math.log(a / s), math.log(a / s) - math.log(a0 / s0)
    direction = X0 + 0.5 / (h0 / h) * (X0 - PREVIOUS)
    second = dpmpp_2m.weights(first, dpmpp_2m.extrapolation((a0, a, a1), (s0, s, s1)))
    torch.testing.assert_close(taken(second), s1 / s * X - a1 * math.expm1(-h) * direction)


def test_a_step_of_a_flow_is_eulers() -> None:
    (a, s), (a1, s1) = numbers(FLOW, 700), numbers(FLOW, 400)
    velocity = (X - X0) / s
    torch.testing.assert_close(
        taken(ddim.weights(NoiseLevel(a, s), NoiseLevel(a1, s1))), X + (s1 - s) * velocity, rtol=1e-6, atol=1e-6
    )


def test_second_order_is_nearer_to_the_solution_where_the_prediction_changes() -> None:
    """x̂₀(λ) = b + c·λ, for which the solution has a closed form."""
    (a0, s0), (a, s), (a1, s1) = (numbers(PLAN, t) for t in (500, 480, 460))
    lam0, lam, lam1 = (math.log(p / q) for p, q in ((a0, s0), (a, s), (a1, s1)))
    b, c = X0, PREVIOUS
    exact = s1 / s * X + s1 * (_integral(b, c, lam1) - _integral(b, c, lam))
    first = ddim.weights(NoiseLevel(a, s), NoiseLevel(a1, s1))
    second = dpmpp_2m.weights(first, dpmpp_2m.extrapolation((a0, a, a1), (s0, s, s1)))
    errors = [(one.step(X, b + c * lam, b + c * lam0, None) - exact).abs().max() for one in (first, second)]
    assert errors[1] < errors[0] / 20


def _integral(b: Tensor, c: Tensor, lam: float) -> Tensor:
    """∫ e^λ (b + c·λ) dλ, of x′ = (s′/s)·x + s′·∫ e^λ x̂₀(λ) dλ."""
    return math.exp(lam) * (b + c * (lam - 1))


def test_equal_timesteps_are_no_step_and_of_first_order_after() -> None:
    at = numbers(PLAN, 40)
    weights = ddim.weights(NoiseLevel(*at), NoiseLevel(*at))
    torch.testing.assert_close(taken(weights), X)
    assert dpmpp_2m.extrapolation((at[0],) * 3, (at[1],) * 3) == 0.0
    later = numbers(PLAN, 20)
    assert dpmpp_2m.extrapolation((at[0], at[0], later[0]), (at[1], at[1], later[1])) == 0.0


def test_a_term_that_has_a_weight_must_be_there() -> None:
    with pytest.raises(ValueError, match="term"):
        Weights(x0=1.0, noise=0.5).step(X, X0, None, None)
    assert torch.equal(Weights(x0=2.0).step(X, X0, None, None), 2.0 * X0)


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # of NumPy 2, in diffusers' own code
@pytest.mark.parametrize("steps", [1, 2, 4, 5, 8])
def test_spacing_is_diffusers_trailing_one(steps: int) -> None:
    for cls in (DDIMScheduler, DPMSolverMultistepScheduler):
        peer = cls(timestep_spacing="trailing")
        peer.set_timesteps(steps)
        for solver in ("ddim", "dpmpp-2m"):
            assert PLAN.timesteps(1.0, steps, PLAN.resolved(solver)) == tuple(peer.timesteps.tolist())


def test_timesteps_fall_and_stay_in_the_schedule_at_any_strength() -> None:
    for strength in (0.0, 0.001, 0.004, 0.3, 1.0):
        for steps in range(1, 9):
            times = PLAN.timesteps(strength, steps, "ddim")
            assert list(times) == sorted(times, reverse=True) and times[0] == round(strength * 999) and times[-1] >= 0


def test_the_power_of_a_checkpoint_is_for_stochastic_steps() -> None:
    plan = schedule.from_config({**BETAS, "timestep_power": 3.0})
    assert plan.timesteps(0.5, 2) == (500, 62) and plan.timesteps(0.5, 2, "ddim") == (500, 249)


@pytest.mark.parametrize(
    ("config", "solver"),
    [
        ({}, "lcm"),
        ({"_class_name": "LCMScheduler"}, "lcm"),
        ({"_class_name": "FlowMatchLCMScheduler"}, "lcm"),
        ({"_class_name": "EulerAncestralDiscreteScheduler"}, "lcm"),
        ({"_class_name": "DDPMScheduler"}, "lcm"),
        ({"_class_name": "TCDScheduler"}, "lcm"),
        ({"_class_name": "DPMSolverSDEScheduler"}, "lcm"),
        ({"_class_name": "DPMSolverMultistepScheduler", "algorithm_type": "sde-dpmsolver++"}, "lcm"),
        ({"_class_name": "FlowMatchEulerDiscreteScheduler", "stochastic_sampling": True}, "lcm"),
        ({"_class_name": "DDIMScheduler"}, "ddim"),
        ({"_class_name": "EulerDiscreteScheduler"}, "ddim"),
        ({"_class_name": "FlowMatchEulerDiscreteScheduler"}, "ddim"),
        ({"_class_name": "EDMEulerScheduler"}, "ddim"),
        ({"_class_name": "PNDMScheduler"}, "dpmpp-2m"),
        ({"_class_name": "UniPCMultistepScheduler"}, "dpmpp-2m"),
        ({"_class_name": "DPMSolverMultistepScheduler"}, "dpmpp-2m"),
    ],
)
def test_auto_is_what_the_checkpoints_scheduler_does(config: dict[str, object], solver: str) -> None:
    assert of_scheduler(config) == solver


def test_a_distilled_model_takes_stochastic_steps_whatever_its_base_is_for() -> None:
    config = {**BETAS, "_class_name": "PNDMScheduler"}
    assert schedule.from_config(config).resolved("auto") == "dpmpp-2m"
    assert schedule.from_config(config, distilled=True).resolved("auto") == "lcm"


def test_a_setting_chooses_any_solver_unless_the_model_reads_another_level() -> None:
    for solver in SOLVERS:
        assert PLAN.resolved(solver) == solver
    shifted = schedule.from_config({**BETAS, "_class_name": "EulerDiscreteScheduler"}, shift=0.5)
    assert shifted.resolved("auto") == shifted.resolved("lcm") == "lcm"
    for solver in ("ddim", "dpmpp-2m"):
        with pytest.raises(SettingsError, match="lcm does") as caught:
            shifted.resolved(solver)
        assert caught.value.field == "solver"


def test_few_step_models_keep_their_timesteps() -> None:
    plan = schedule.from_config(BETAS, (999, 749, 499, 249))
    assert plan.timesteps(1.0, 4, "ddim") == (999, 749, 499, 249) and plan.timesteps(0.5, 2, "dpmpp-2m") == (499, 249)
