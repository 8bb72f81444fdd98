"""Run by test_triton.py with TRITON_INTERPRET=1: kernels on CPU tensors, at odd shapes."""

import numpy as np
import pytest
import torch
from torch import Tensor

from kernels.group_norm_silu import group_norm_silu_reference
from kernels.pixels import enter_reference, leave_reference
from kernels.prediction import Level
from kernels.stream_step import stream_step_reference
from kernels.triton_group_norm_silu import group_norm_silu_kernel
from kernels.triton_pixels import enter_kernel, leave_kernel
from kernels.triton_stream_step import stream_step_kernel


def seeded(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def pictures(*shape: int, seed: int = 0) -> Tensor:
    return torch.from_numpy(np.random.default_rng(seed).integers(0, 256, shape, np.uint8))


NEXT: dict[str, tuple[tuple[float, ...], tuple[float, ...]]] = {
    "no": ((), ()),
    "stochastic": ((0.95, 0.31), (0.5, 0.866)),
    "first order": ((0.4, 0.0, 0.7), (0.3, 0.0, 0.8)),
    "mixed": ((0.95, 0.31), (0.6, 0.0, 0.8, -0.2)),
}
"""Shares of x̂₀, noise, x and the previous x̂₀ in the next level of two rows."""


@pytest.mark.parametrize("shape", [(1, 8, 8), (2, 37, 41), (3, 1, 5)])
@pytest.mark.parametrize("dtype, tolerance", [(torch.float32, 1e-6), (torch.float16, 1e-3), (torch.bfloat16, 8e-3)])
def test_pixels_enter(shape: tuple[int, int, int], dtype: torch.dtype, tolerance: float) -> None:
    given = pictures(*shape, 3)
    found = enter_kernel(given, dtype)
    assert found.dtype == dtype and found.is_contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(found, enter_reference(given, dtype), rtol=0, atol=tolerance)


@pytest.mark.parametrize("size", [(16, 16), (9, 31), (50, 20), (37, 82)])
def test_pixels_enter_in_another_size(size: tuple[int, int]) -> None:
    given = pictures(2, 37, 41, 3)
    found = enter_kernel(given, torch.float32, size)
    torch.testing.assert_close(found, enter_reference(given, torch.float32, size), rtol=0, atol=2e-5)


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_pixels_leave(layout: torch.memory_format, dtype: torch.dtype) -> None:
    x = seeded(2, 3, 13, 7).to(dtype).contiguous(memory_format=layout)
    assert torch.equal(leave_kernel(x), leave_reference(x))


def test_half_levels_are_rounded_to_the_even_one() -> None:
    x = (torch.arange(256.0) + 0.5)[None, None, None].expand(1, 3, 1, 256) / 127.5 - 1.0
    assert torch.equal(leave_kernel(x), leave_reference(x))


@pytest.mark.parametrize("prediction", ["epsilon", "sample", "v_prediction", "edm", "flow", "flow_reversed"])
@pytest.mark.parametrize("goes_on", ["no", "stochastic", "first order", "mixed"])
@pytest.mark.parametrize("guided", ["none", "negative", "known"])
def test_stream_step(prediction: str, goes_on: str, guided: str) -> None:
    shape = (3, 4, 17, 19)
    output, x, noise, other, previous = (seeded(*shape, seed=seed) for seed in range(5))
    levels = [Level(0.9, 0.435, 1.5, *NEXT[goes_on][0]), Level(0.068, 0.998, 7.0, *NEXT[goes_on][1]), Level(0.6, 0.8)]
    given = {guided: other} if guided != "none" else {}
    given |= {"noise": noise} if goes_on in ("stochastic", "mixed") else {}
    given |= {"previous": previous} if goes_on == "mixed" else {}
    expected = stream_step_reference(prediction, output, x, levels, **given)
    found = stream_step_kernel(prediction, output, x, levels, **given)
    assert (found[1] is None) == (goes_on == "no")
    for one, reference in zip(found, expected, strict=True):
        if reference is None:
            assert one is None
        else:
            torch.testing.assert_close(one, reference, rtol=2e-5, atol=2e-5)


@pytest.mark.parametrize(
    "rows, channels, groups, size", [(1, 32, 8, (8, 8)), (2, 30, 3, (9, 15)), (2, 80, 1, (3, 67)), (1, 96, 8, (33, 17))]
)
@pytest.mark.parametrize("added", [False, True])
def test_group_norm_silu(rows: int, channels: int, groups: int, size: tuple[int, int], added: bool) -> None:
    x = (100 + seeded(rows, channels, *size)).contiguous(memory_format=torch.channels_last)  # a mean that would cancel
    weight, bias, more = seeded(channels, seed=1), seeded(channels, seed=2), seeded(rows, channels, seed=3) if added else None
    found = group_norm_silu_kernel(x, groups, weight, bias, 1e-5, more)
    assert found.is_contiguous(memory_format=torch.channels_last)
    expected = group_norm_silu_reference(
        x.double(), groups, weight.double(), bias.double(), 1e-5, None if more is None else more.double()
    )
    torch.testing.assert_close(found, expected.float(), rtol=1e-3, atol=1e-3)


def test_group_norm_silu_in_half_precision() -> None:
    x = seeded(2, 64, 10, 10).half().contiguous(memory_format=torch.channels_last)
    weight, bias = seeded(64, seed=1).half(), seeded(64, seed=2).half()
    found = group_norm_silu_kernel(x, 32, weight, bias, 1e-5)
    expected = group_norm_silu_reference(x.float(), 32, weight.float(), bias.float(), 1e-5)
    assert found.dtype == torch.float16
    torch.testing.assert_close(found.float(), expected, rtol=2e-3, atol=4e-3)
