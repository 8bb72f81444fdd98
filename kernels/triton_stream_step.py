"""The Triton side of stream_step.py: one program handles BLOCK numbers of one row."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import triton
import triton.language as tl
from torch import Tensor

from kernels.prediction import Level, linear

BLOCK = 1024
COLUMNS = 7  # p, q, γ, and the shares of x̂₀, noise, x and the previous x̂₀ in x′


@triton.jit
def _step(
    output, x, table, noise, other, previous, x0_out, x_out, count,
    GUIDED: tl.constexpr, KNOWN: tl.constexpr, GOES_ON: tl.constexpr, NOISY: tl.constexpr, SECOND: tl.constexpr,
    COLUMNS: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    row = tl.program_id(1)
    inside = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK) < count
    place = row.to(tl.int64) * count + tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    p = tl.load(table + row * COLUMNS)
    q = tl.load(table + row * COLUMNS + 1)
    latent = tl.load(x + place, mask=inside, other=0.0)
    x0 = p * latent + q * tl.load(output + place, mask=inside, other=0.0)
    if GUIDED:
        negative = tl.load(other + place, mask=inside, other=0.0)
        if not KNOWN:
            negative = p * latent + q * negative
        x0 = negative + tl.load(table + row * COLUMNS + 2) * (x0 - negative)
    tl.store(x0_out + place, x0, mask=inside)
    if GOES_ON:
        after = tl.load(table + row * COLUMNS + 3) * x0 + tl.load(table + row * COLUMNS + 5) * latent
        if NOISY:
            after += tl.load(table + row * COLUMNS + 4) * tl.load(noise + place, mask=inside, other=0.0)
        if SECOND:
            after += tl.load(table + row * COLUMNS + 6) * tl.load(previous + place, mask=inside, other=0.0)
        tl.store(x_out + place, after, mask=inside)


def stream_step_kernel(
    prediction: str,
    output: Tensor,
    x: Tensor,
    levels: Sequence[Level],
    noise: Tensor | None = None,
    negative: Tensor | None = None,
    known: Tensor | None = None,
    previous: Tensor | None = None,
) -> tuple[Tensor, Tensor | None]:
    """`stream_step` in one launch."""
    shares = [(at.next_x0, at.next_noise, at.next_x, at.next_previous) for at in levels]
    rows = [(*linear(prediction, float(at.a), float(at.s)), at.scale, *share) for at, share in zip(levels, shares, strict=True)]
    table = torch.tensor(rows, dtype=torch.float32).to(x.device, non_blocking=True)
    other = negative if known is None else known
    output, x = output.contiguous(), x.contiguous()
    x0 = torch.empty_like(x)
    after = torch.empty_like(x) if any(any(share) for share in shares) else None
    count = x[0].numel()
    grid = (triton.cdiv(count, BLOCK), x.shape[0])
    _step[grid](
        output, x, table, x if noise is None else noise.contiguous(), x if other is None else other.contiguous(),
        x if previous is None else previous.contiguous(), x0, x0 if after is None else after, count,
        GUIDED=other is not None, KNOWN=known is not None, GOES_ON=after is not None, NOISY=noise is not None,
        SECOND=previous is not None, COLUMNS=COLUMNS, BLOCK=BLOCK,
    )  # fmt: skip
    return x0, after
