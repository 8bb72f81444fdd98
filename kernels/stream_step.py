"""One level of denoising for the rows of many streams: the network's output to x̂₀, guidance, and the latent of the next level.

    x̂₀ = p·x + q·output                     every prediction type is linear in x and the output (prediction.py)
    x̂₀ ← x̂₀_u + γ(x̂₀ − x̂₀_u)               with guidance; x̂₀_u given, or from the negative row's output like x̂₀
    x′ = k₁·x̂₀ + k₂·ε + k₃·x + k₄·x̂₀_prev    for rows that go on: every solver is of this form (techniques/solvers)

Each row has coefficients of its own, so sessions with different prompts, levels and guidance share the pass.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from kernels.dispatch import takes
from kernels.prediction import Level, denoised

NEXT = ("next_x0", "next_noise", "next_x", "next_previous")


def stream_step_reference(
    prediction: str,
    output: Tensor,
    x: Tensor,
    levels: Sequence[Level],
    noise: Tensor | None = None,
    negative: Tensor | None = None,
    known: Tensor | None = None,
    previous: Tensor | None = None,
) -> tuple[Tensor, Tensor | None]:
    """What `stream_step` computes, in plain operations."""
    scale, *weights = _columns(levels, ("scale", *NEXT), x.device)
    a, s = _per_pixel(levels) if isinstance(levels[0].a, Tensor) else _columns(levels, ("a", "s"), x.device)
    x0 = denoised(prediction, output, x, a, s)
    if negative is not None:
        known = denoised(prediction, negative, x, a, s)
    if known is not None:
        same = len({level.scale for level in levels}) == 1
        x0 = torch.lerp(known, x0, levels[0].scale if same else scale)
    terms = (x0, noise, x, previous)
    used = [weight * term for weight, term, on in zip(weights, terms, _used(levels), strict=True) if on and term is not None]
    return x0, sum(used[1:], used[0]) if used else None


def _used(levels: Sequence[Level]) -> tuple[bool, ...]:
    """Whether any row's next level has a share of each term, in the order of NEXT."""
    return tuple(any(getattr(level, name) != 0.0 for level in levels) for name in NEXT)


def _columns(levels: Sequence[Level], names: Sequence[str], device: torch.device) -> tuple[Tensor, ...]:
    """These coefficients of all rows, [B, 1, 1, 1] each."""
    table = torch.tensor([[getattr(level, name) for level in levels] for name in names], dtype=torch.float32)
    return tuple(table.to(device, non_blocking=True)[..., None, None, None])


def _per_pixel(levels: Sequence[Level]) -> tuple[Tensor, Tensor]:
    """a and s of rows that have one per pixel, [B, 1, h, w] each."""
    a, s = ([torch.as_tensor(value) for value in values] for values in zip(*((one.a, one.s) for one in levels), strict=True))
    return torch.stack(a), torch.stack(s)


def stream_step(
    prediction: str,
    output: Tensor,
    x: Tensor,
    levels: Sequence[Level],
    noise: Tensor | None = None,
    negative: Tensor | None = None,
    known: Tensor | None = None,
    kernels: bool = True,
    previous: Tensor | None = None,
) -> tuple[Tensor, Tensor | None]:
    """(x̂₀, x′) of rows at these levels; x′ is None where no row goes on. All tensors float32 [B, C, h, w], one level a row;
    either all levels have numbers or all have coefficients per pixel, which the kernel does not take.

    noise, previous: fresh noise and x̂₀ of the level before, where any row's next level has a share of it. negative: the network's
    output for each row's negative prompt; known: x̂₀_u itself; at most one of the two. kernels: off for the plain operations on
    CUDA too. Raises ValueError for both, for a missing term, and for another number of levels than rows.
    """
    if negative is not None and known is not None:
        raise ValueError("x̂₀_u is either known or read from the negative row's output")
    if len(levels) != x.shape[0]:
        raise ValueError(f"{len(levels)} levels given for {x.shape[0]} rows")
    _, needs_noise, _, needs_previous = _used(levels)
    if (needs_noise and noise is None) or (needs_previous and previous is None):
        raise ValueError("the next level of a row has a share of a term that was not given")
    if not (kernels and takes(output, x, noise, negative, known, previous)) or isinstance(levels[0].a, Tensor):
        return stream_step_reference(prediction, output, x, levels, noise, negative, known, previous)
    from kernels.triton_stream_step import stream_step_kernel

    return stream_step_kernel(prediction, output, x, levels, noise, negative, known, previous)
