import pytest
import torch

from pipelines.techniques import guidance
from pipelines.values.settings import Settings

G = torch.Generator().manual_seed(4)
X, SOURCE, X0_C, X0_U = torch.randn(4, 4, 5, 3, generator=G)
A, S = torch.tensor(0.6), torch.tensor(0.8)


def eps(x0: torch.Tensor) -> torch.Tensor:
    return (X - A * x0) / S


def test_combining_clean_latents_is_combining_noise() -> None:
    scale = 1.7
    mixed = eps(X0_U) + scale * (eps(X0_C) - eps(X0_U))
    torch.testing.assert_close(guidance.combine(X0_C, X0_U, scale), (X - S * mixed) / A)


@pytest.mark.parametrize("delta", [0.0, 0.5, 1.0, 1.3])
def test_residual_negative_is_the_papers_stock_noise(delta: float) -> None:
    stock = (X - A * SOURCE) / S
    expected = (X - S * delta * stock) / A
    torch.testing.assert_close(guidance.residual_negative(X, SOURCE, delta, A, S), expected)


@pytest.mark.parametrize(
    "mode, level, source, expected",
    [
        ("none", 0, True, False),
        ("full", 0, True, True),
        ("full", 2, True, True),
        ("one-time", 0, True, True),
        ("one-time", 1, True, False),
        ("self", 0, True, False),
        ("self", 0, False, True),
        ("self", 1, False, False),
        ("adaptive", 1, True, True),
        ("linear", 0, True, True),
        ("linear", 1, True, True),
    ],
)
def test_which_rows_need_a_negative(mode: str, level: int, source: bool, expected: bool) -> None:
    settings = Settings().patched({"guidance_mode": mode, "guidance": 1.5})
    assert guidance.needs_negative_row(settings, level, source) is expected


def test_scale_one_needs_no_row() -> None:
    settings = Settings().patched({"guidance_mode": "full", "guidance": 1.0})
    assert not guidance.needs_negative_row(settings, 0, True)


def test_cosine_similarity() -> None:
    assert float(guidance.cosine_similarity(X, 3 * X)) == pytest.approx(1.0)
    assert float(guidance.cosine_similarity(X, -X)) == pytest.approx(-1.0)
    assert float(guidance.cosine_similarity(torch.zeros(4), torch.ones(4))) == 0.0


@pytest.mark.parametrize(
    ("mode", "expected"), [("none", 4), ("full", 8), ("self", 4), ("one-time", 5), ("adaptive", 8), ("linear", 8)]
)
def test_rows_of_a_full_stream_batch(mode: str, expected: int) -> None:
    settings = Settings().patched({"guidance_mode": mode, "guidance": 1.5})
    assert guidance.rows(settings, 4) == expected
