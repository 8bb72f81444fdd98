"""ω against the paper's formula in ε-space, pixel by pixel, and at the ends of the schedule."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from pipelines.techniques.granularity import scaled
from pipelines.techniques.schedule import from_config
from tests.miniature import BETAS

PLANS = [
    from_config(BETAS),
    from_config({**BETAS, "beta_schedule": "squaredcos_cap_v2"}),
    from_config({**BETAS, "rescale_betas_zero_snr": True}),
]
PLANS.append(from_config({"_class_name": "FlowMatchEulerDiscreteScheduler"}))


def draw(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("omega", [0.6, 0.95, 1.1, 1.4])
@pytest.mark.parametrize("t", [100, 400])
def test_it_is_the_papers_scaled_noise(omega: float, t: int) -> None:
    plan = PLANS[1]  # at t = 500 its signal and noise are equal
    a, s = plan.signal[t], plan.sigma[t]
    x, eps = draw(4, 5, 7), draw(4, 5, 7, seed=1)
    torch.testing.assert_close(scaled((x - s * eps) / a, x, omega, a, s), (x - s * (omega * eps)) / a, rtol=1e-4, atol=1e-4)


def test_one_is_off_to_the_bit() -> None:
    x0, x = draw(4, 3, 3), draw(4, 3, 3, seed=1)
    assert scaled(x0, x, 1.0, torch.tensor(0.1), torch.tensor(0.9), torch.ones(1, 3, 3)) is x0


@pytest.mark.parametrize("plan", PLANS)
@given(t=st.integers(0, 999), omega=st.floats(0.6, 1.4))
def test_at_every_timestep_no_more_than_its_share_of_the_noise_is_added(plan, t: int, omega: float) -> None:
    a, s = plan.signal[t], plan.sigma[t]
    clean, eps = draw(4, 6, 6), draw(4, 6, 6, seed=2)
    change = scaled(clean, a * clean + s * eps, omega, a, s) - clean
    share = (1 - omega) * min(float(s / a) if a > 0 else 1.0, 1.0)
    torch.testing.assert_close(change, share * eps, rtol=1e-2, atol=2e-3)


def test_a_map_gives_every_pixel_its_own_omega() -> None:
    a, s = torch.tensor(0.8), torch.tensor(0.6)
    x, eps = draw(4, 2, 5), draw(4, 2, 5, seed=1)
    m = torch.linspace(0, 1, 10).reshape(1, 2, 5)
    got = scaled((x - s * eps) / a, x, 0.7, a, s, m)
    for i in range(2):
        for j in range(5):
            omega = 1 + float(m[0, i, j]) * (0.7 - 1)
            torch.testing.assert_close(got[:, i, j], (x[:, i, j] - s * omega * eps[:, i, j]) / a, rtol=1e-4, atol=1e-4)


def test_under_a_strength_map_every_pixel_has_the_noise_of_its_own_level() -> None:
    plan, levels = PLANS[0], torch.tensor([[[0, 200, 500, 999]]])
    a, s = plan.signal[levels], plan.sigma[levels]  # [1, 1, 4]
    clean, eps = draw(4, 1, 4), draw(4, 1, 4, seed=3)
    got = scaled(clean, a * clean + s * eps, 0.8, a, s)
    for j in range(4):
        share = 0.2 * min(float(s[0, 0, j] / a[0, 0, j]), 1.0)
        torch.testing.assert_close(got[:, 0, j], clean[:, 0, j] + share * eps[:, 0, j], rtol=1e-2, atol=1e-3)
