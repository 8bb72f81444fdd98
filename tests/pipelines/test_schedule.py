from itertools import pairwise

import numpy as np
import pytest
import torch
from diffusers import DDPMScheduler, LCMScheduler

from pipelines import schedule
from pipelines.types import ModelError, SettingsError


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


def test_a_stated_output_is_what_a_network_that_knows_the_clean_latent_says() -> None:
    clean, noise = torch.randn(2, 1, 4, 3, 5, generator=torch.Generator().manual_seed(2))
    a, s = torch.tensor(0.6), torch.tensor(0.8)
    says = {
        "epsilon": noise,
        "sample": clean,
        "v_prediction": a * noise - s * clean,
        "flow": noise - clean,
        "flow_reversed": clean - noise,
    }
    assert set(says) == set(schedule.PREDICTIONS)
    for kind, output in says.items():
        torch.testing.assert_close(schedule.stated(kind, clean, a * clean + s * noise, a, s), output, rtol=1e-5, atol=1e-5)


def test_strength_sets_the_first_timestep_and_steps_do_not() -> None:
    plan = schedule.from_config({})
    assert plan.timesteps(0.5, 1) == (500,)
    assert plan.timesteps(0.5, 4) == (500, 375, 250, 125)
    assert plan.timesteps(1.0, 2) == (999, 500)
    assert plan.timesteps(0.0, 1) == (0,)


def test_few_step_models_snap_or_refuse() -> None:
    assert schedule.snap((500,), (999,)) == (999,)
    assert schedule.snap((900, 600, 300), (999, 749, 499, 249)) == (999, 499, 249)
    assert schedule.snap((100, 50), (999, 749, 499, 249)) == (499, 249)
    with pytest.raises(SettingsError, match="steps"):
        schedule.snap((500, 250), (999,))


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
        schedule.from_config({"beta_schedule": "zigzag"})
