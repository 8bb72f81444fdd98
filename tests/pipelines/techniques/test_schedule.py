import warnings
from itertools import pairwise
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from diffusers import (
    DDIMScheduler,
    DDPMScheduler,
    EulerDiscreteScheduler,
    FlowMatchEulerDiscreteScheduler,
    LCMScheduler,
    StableDiffusionImg2ImgPipeline,
)

from pipelines.techniques import schedule
from pipelines.values.types import ModelError, SettingsError
from tests.miniature import BETAS


@pytest.mark.parametrize("beta", ["linear", "scaled_linear", "squaredcos_cap_v2"])
def test_signal_and_sigma_agree_with_diffusers(beta: str) -> None:
    theirs = DDPMScheduler(beta_schedule=beta, beta_start=0.00085, beta_end=0.012).alphas_cumprod
    ours = schedule.from_config({"beta_schedule": beta, "beta_start": 0.00085, "beta_end": 0.012})
    torch.testing.assert_close(ours.signal**2, theirs, rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(ours.signal**2 + ours.sigma**2, torch.ones(1000))


@pytest.mark.parametrize("kind", ["epsilon", "sample", "v_prediction"])
@pytest.mark.parametrize("t", [20, 300, 700, 950])
def test_denoised_agrees_with_diffusers_at_equal_timesteps(kind: str, t: int) -> None:
    peer = LCMScheduler(prediction_type=kind)
    peer.set_timesteps(timesteps=[t])
    ours = schedule.from_config(
        {"prediction_type": kind, **{k: peer.config[k] for k in ("beta_schedule", "beta_start", "beta_end")}}
    )
    generator = torch.Generator().manual_seed(1)
    x, output = torch.randn(2, 2, 4, 5, 7, generator=generator)
    a, s = ours.signal[t], ours.sigma[t]
    x0 = schedule.denoised(ours.prediction, output, x, a, s)
    theirs = peer.step(output, t, x).denoised
    # At every timestep that a stream uses the boundary terms are c_skip <= 3e-7 and c_out = 1 to the same accuracy.
    torch.testing.assert_close(x0, theirs, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("kind, sign", [("flow", 1.0), ("flow_reversed", -1.0)])
def test_flow_recovers_the_clean_latent(kind: schedule.Prediction, sign: float) -> None:
    generator = torch.Generator().manual_seed(2)
    clean, noise = torch.randn(2, 1, 4, 3, 5, generator=generator)
    a, s = torch.tensor(0.35), torch.tensor(0.65)
    x = a * clean + s * noise
    x0 = schedule.denoised(kind, sign * (noise - clean), x, a, s)
    eps = schedule.implied_noise(x0, x, a, s)
    torch.testing.assert_close(x0, clean)
    torch.testing.assert_close(eps, noise)


def test_each_kind_of_output_of_a_perfect_network_gives_the_clean_latent() -> None:
    clean, noise = torch.randn(2, 1, 4, 3, 5, generator=torch.Generator().manual_seed(2))
    a, s = torch.tensor(0.6), torch.tensor(0.8)
    outputs = {
        "epsilon": noise,
        "sample": clean,
        "v_prediction": a * noise - s * clean,
        "edm": s * clean - a * noise,
        "flow": noise - clean,
        "flow_reversed": clean - noise,
    }
    assert set(outputs) == set(schedule.PREDICTIONS)
    for kind, output in outputs.items():
        torch.testing.assert_close(schedule.model_output(kind, clean, a * clean + s * noise, a, s), output, rtol=1e-5, atol=1e-5)


def test_strength_sets_the_first_timestep_and_steps_do_not() -> None:
    plan = schedule.from_config(BETAS)
    assert plan.timesteps(0.5, 1) == (500,)
    assert plan.timesteps(0.5, 4) == (500, 375, 250, 125)
    assert plan.timesteps(1.0, 2) == (999, 500)
    assert plan.timesteps(0.0, 1) == (0,)


def test_a_checkpoint_states_how_its_timesteps_fall() -> None:
    plan = schedule.from_config({**BETAS, "timestep_power": 2})
    assert plan.timesteps(0.5, 1) == (500,) and plan.timesteps(0.5, 2) == (500, 125)
    assert plan.timesteps(0.5, 4) == (500, 281, 125, 31) and plan.timesteps(1.0, 3) == (999, 444, 111)
    assert schedule.from_config({**BETAS, "timestep_power": 2}, prediction="flow").timesteps(1.0, 2) == (999, 250)
    assert schedule.from_config({**BETAS, "timestep_power": 2}, (999, 749, 499, 249)).timesteps(1.0, 3) == (999, 499, 249)


@pytest.mark.parametrize("power", [0, -1, 4.5, float("nan"), "2", None, True])
def test_a_power_that_means_nothing_is_refused(power: object) -> None:
    with pytest.raises(ModelError, match="timestep_power"):
        schedule.from_config({**BETAS, "timestep_power": power})


def test_few_step_models_snap_or_refuse() -> None:
    assert schedule.snap((500,), (999,)) == (999,)
    assert schedule.snap((900, 600, 300), (999, 749, 499, 249)) == (999, 499, 249)
    assert schedule.snap((100, 50), (999, 749, 499, 249)) == (499, 249)
    with pytest.raises(SettingsError, match="steps"):
        schedule.from_config(BETAS, (999,)).timesteps(0.5, 2)


@pytest.mark.parametrize("strength", [0.25, 0.5, 0.75, 1.0])
@pytest.mark.parametrize("solver", ["lcm", "ddim"])
def test_a_few_step_model_makes_fewer_steps_with_less_strength_as_diffusers_does(
    strength: float, solver: schedule.Solver
) -> None:
    trained = (999, 749, 499, 249)
    scheduler = DDIMScheduler(**BETAS, timestep_spacing="trailing")
    scheduler.set_timesteps(4)
    pipe = SimpleNamespace(scheduler=scheduler)
    expected = StableDiffusionImg2ImgPipeline.get_timesteps(pipe, 4, strength, "cpu")[0]
    assert schedule.from_config(BETAS, trained).timesteps(strength, 4, solver) == tuple(expected.tolist())


def test_strength_between_trained_timesteps_goes_to_the_nearest() -> None:
    plan = schedule.from_config(BETAS, (999, 749, 499, 249))
    assert plan.timesteps(0.0, 4) == (249,) and plan.timesteps(0.6, 4) == (499, 249)
    assert plan.timesteps(0.9, 2) == (999, 499) and plan.timesteps(0.75, 2) == (749, 499)
    assert schedule.from_config(BETAS, (999,)).timesteps(0.1, 1) == (999,)


def test_snapped_timesteps_always_fall() -> None:
    rng = np.random.default_rng(0)
    for _ in range(200):
        trained = tuple(int(t) for t in rng.choice(1000, size=rng.integers(1, 9), replace=False))
        steps = int(rng.integers(1, len(trained) + 1))
        wanted = tuple(sorted((int(t) for t in rng.integers(0, 1000, steps)), reverse=True))
        got = schedule.snap(wanted, trained)
        assert set(got) <= set(trained)
        assert all(a > b for a, b in pairwise(got))


def test_unknown_configuration_is_refused_by_name() -> None:
    with pytest.raises(ModelError, match="prediction_type"):
        schedule.from_config({"prediction_type": "guess"})
    with pytest.raises(ModelError, match="beta_schedule"):
        schedule.from_config({**BETAS, "beta_schedule": "zigzag"})


@pytest.mark.parametrize("kind", ["epsilon", "sample", "v_prediction"])
@pytest.mark.parametrize("t", [249, 499, 749, 999])
def test_the_timesteps_of_few_step_models_agree_with_ddim(kind: str, t: int) -> None:
    config = {"beta_schedule": "scaled_linear", "beta_start": 0.00085, "beta_end": 0.012, "prediction_type": kind}
    peer = DDIMScheduler(**config, clip_sample=False)
    peer.set_timesteps(1000)
    ours = schedule.from_config(config)
    x, output = torch.randn(2, 1, 4, 5, 7, generator=torch.Generator().manual_seed(4))
    x0 = schedule.denoised(ours.prediction, output, x, ours.signal[t], ours.sigma[t])
    torch.testing.assert_close(x0, peer.step(output, t, x).pred_original_sample, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("kind", ["epsilon", "v_prediction"])
def test_euler_of_sdxl_is_the_same_in_its_own_scale(kind: str) -> None:
    config = {"beta_schedule": "scaled_linear", "beta_start": 0.00085, "beta_end": 0.012, "prediction_type": kind}
    peer = EulerDiscreteScheduler(**config, timestep_spacing="trailing")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # numpy's, of torch's arrays
        peer.set_timesteps(4)
    ours = schedule.from_config(config)
    t = int(peer.timesteps[1])
    output, x = torch.randn(2, 1, 4, 5, 7, generator=torch.Generator().manual_seed(5))
    peer._init_step_index(peer.timesteps[1])
    # Euler's sample is x / a: its noise has the weight s / a.
    theirs = peer.step(output, peer.timesteps[1], x / ours.signal[t]).pred_original_sample
    x0 = schedule.denoised(ours.prediction, output, x, ours.signal[t], ours.sigma[t])
    torch.testing.assert_close(x0, theirs, rtol=1e-3, atol=1e-3)


def test_flow_agrees_with_diffusers_and_gets_its_own_times() -> None:
    peer = FlowMatchEulerDiscreteScheduler()
    ours = schedule.from_config({**peer.config, "_class_name": "FlowMatchEulerDiscreteScheduler"})
    for index in (0, 300, 999):
        assert ours.model_timestep(index) == index + 1
        sigma = float(peer.sigmas[(peer.timesteps == index + 1).nonzero()[0, 0]])
        assert float(ours.sigma[index]) == pytest.approx(sigma, abs=1e-5)
        assert float(ours.signal[index]) == pytest.approx(max(1 - sigma, 1e-6), abs=1e-5)


def test_one_step_of_instaflow_is_noise_plus_velocity() -> None:
    """Its published sampler: latents ← noise + v(noise, t = 1000)."""
    ours = schedule.from_config(BETAS, (999,), "flow_reversed")
    (t,) = ours.timesteps(0.4, 1)
    noise, v, source = torch.randn(3, 1, 4, 5, 7, generator=torch.Generator().manual_seed(6))
    a, s = ours.signal[t], ours.sigma[t]
    x = schedule.noised(source, noise, a, s)
    assert ours.model_timestep(t) == 1000
    torch.testing.assert_close(schedule.denoised(ours.prediction, v, x, a, s), noise + v, atol=1e-3, rtol=0)


@pytest.mark.parametrize("shift, shifted_times", [(0.25, (249, 187, 124, 62)), (0.5, (499, 374, 249, 124))])
def test_nitrofusion_is_evaluated_at_the_shifted_timestep(shift: float, shifted_times: tuple[int, ...]) -> None:
    """As its published scheduler has it: (timesteps · shift).long() to the network and in its coefficients, the
    timesteps themselves where the latent is noised again."""
    ours = schedule.from_config(BETAS, shift=shift)
    timesteps = (999, 749, 499, 249)
    assert tuple(map(ours.model_timestep, timesteps)) == shifted_times
    signal, sigma = ours.model_coefficients()
    for t, shifted in zip(timesteps, shifted_times, strict=True):
        assert signal[t] == ours.signal[shifted] and sigma[t] == ours.sigma[shifted]
    assert (
        schedule.from_config(BETAS).model_coefficients()[0] is not None and schedule.from_config(BETAS).model_timestep(123) == 123
    )


def test_trained_betas_are_taken_as_they_are() -> None:
    betas = [0.001 * (1 + i / 10) for i in range(10)]
    ours = schedule.from_config({"num_train_timesteps": 10, "trained_betas": betas})
    torch.testing.assert_close(ours.signal**2, torch.cumprod(1 - torch.tensor(betas), 0))
    with pytest.raises(ModelError, match="trained_betas has 10"):
        schedule.from_config({"trained_betas": betas})
