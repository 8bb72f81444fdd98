"""A strength per pixel: differential diffusion (arXiv 2306.00950), correct at one step. Pure functions of tensors.

The map m, [B, 1, h, w] in 0..1 at the latent's size, is the share of the strength that a pixel gets: 1 is the ordinary stream,
0 gives the source back. Over n steps at t₀ > … > t_{n−1} the shares f_k = t_k / t₀ (f_n = 0) cut 0..1 into bands. At level k a
pixel
- with m ≥ f_k takes part;
- with m < f_{k+1} waits: it is the source, noised to t_k, whatever the network makes of it;
- between the two it joins: noised to its own level m·t₀, and blended into its source by how much of the band it fills.
At one step there is one band, in which every pixel is noised and blended by m itself; at many steps the bands become the paper's
thresholds.

A level is: x = a·x₀ + s·ε with `coefficients`; x̂₀ from the network's output with the same a and s; `merge`; noise again.
Everything also works for one row without its batch dimension ([1, h, w] with latents [C, h, w]).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from pipelines.techniques.gate import Thumb

QUIET, FAST = 0.02, 0.2
"""Change of a thumbnail's pixel (0..1) at which motion begins, above sensor and JPEG noise, and at which it counts in full."""


def shares(timesteps: Sequence[int]) -> tuple[float, ...]:
    """f_0 = 1 > f_1 > … > f_n = 0 for n timesteps; even where t₀ = 0 leaves nothing to divide by."""
    n, t0 = len(timesteps), timesteps[0]
    return (*((t / t0 if t0 else (n - k) / n) for k, t in enumerate(timesteps)), 0.0)


def coefficients(m: Tensor, timesteps: Sequence[int], level: int, signal: Tensor, sigma: Tensor) -> tuple[Tensor, Tensor]:
    """(a, s), each of m's shape: how much source and how much noise a pixel holds at `level`.

    signal, sigma: [T], of the schedule. For m = 1 they are the ordinary ones of timesteps[level].
    """
    f = shares(timesteps)
    joins = (m >= f[level + 1]) & (m < f[level])
    t = torch.where(joins, (m * timesteps[0]).round().long(), timesteps[level])  # of m's shape
    return signal[t].to(m.dtype), sigma[t].to(m.dtype)


def takes_part(m: Tensor, timesteps: Sequence[int], level: int) -> Tensor:
    """Where the network's prediction counts in full at `level`, bool of m's shape. m = 0 is the source, also where the last
    timestep is 0, as of (1, 0), and so its share."""
    return (m >= shares(timesteps)[level]) & (m > 0)


def merge(x0: Tensor, source: Tensor, m: Tensor, timesteps: Sequence[int], level: int) -> Tensor:
    """x̂₀ [B, C, h, w] where a pixel takes part, the clean `source` where it waits, a blend where it joins at `level`."""
    f = shares(timesteps)
    fill = (m - f[level + 1]) / max(f[level] - f[level + 1], 1e-6)  # 0 at the band's lower end, 1 at its upper
    # where: who takes part or waits gets exactly x̂₀ or the source, which lerp does not promise.
    return torch.where(takes_part(m, timesteps, level), x0, torch.where(m <= f[level + 1], source, torch.lerp(source, x0, fill)))


def from_mask(mask: NDArray[np.uint8], height: int, width: int) -> Tensor:
    """The map [1, 1, height, width] of a painted mask, uint8 [H, W] or [H, W, 1 or 3], 255 for full strength; area-averaged.

    height, width: of the latent. Raises ValueError for other arrays.
    """
    if mask.dtype != np.uint8 or mask.ndim not in (2, 3) or (mask.ndim == 3 and mask.shape[2] not in (1, 3)) or mask.size == 0:
        raise ValueError(f"a mask must be uint8 [height, width] or [height, width, 1 or 3], not {mask.dtype} {list(mask.shape)}")
    grey = torch.from_numpy(mask.astype(np.float32)).reshape(*mask.shape[:2], -1).mean(dim=2)  # [H, W]
    return (F.adaptive_avg_pool2d(grey[None, None], (height, width)) / 255).clamp(0, 1)


def repainted(mask: NDArray[np.uint8], height: int, width: int) -> Tensor:
    """The pixels of a painted mask that an inpainting model draws anew, uint8 [height, width]: 1 where the mask is at least half
    white, else 0. Arrays as in `from_mask`."""
    return (from_mask(mask, height, width)[0, 0] >= 0.5).to(torch.uint8)


def from_motion(thumb: Thumb, previous: Thumb | None, height: int, width: int, still: float, moving: float) -> Tensor:
    """The map [1, 1, height, width]: `still` (0..1) where the input stands, `moving` where it moves fast, softly between.

    thumb, previous: thumbnails of this frame and the last, [64, 64, 3]; None for the last counts as standing still. What moved
    is widened by two thumbnail pixels, so that an edge and the place it left are covered.
    """
    if previous is None:
        return torch.full((1, 1, height, width), still)
    change = torch.from_numpy(np.abs(thumb - previous).mean(axis=2))[None, None]  # [1, 1, 64, 64]
    d = ((change - QUIET) / (FAST - QUIET)).clamp(0, 1)
    d = F.avg_pool2d(F.max_pool2d(d, 5, stride=1, padding=2), 3, stride=1, padding=1, count_include_pad=False)
    return still + (moving - still) * F.interpolate(d, (height, width), mode="bilinear", antialias=True)
