"""Sizes other than the native one without training: what is done to a UNet, for which UNets and sizes. Pure.

Attention entropy (Jin et al. 2023, arXiv 2306.08645). The entropy of a softmax over N keys grows with N, so at larger sizes
self-attention spreads. It is held by the scale λ = √(log_T N / d) instead of 1/√d, where T is the number of keys at the native
size: the logits are multiplied by √(log N / log T).

HiDiffusion (Zhang et al. 2024, arXiv 2311.17528), above the native size:

- MSW-MSA: self-attention of the outermost blocks that have it works in 2 x 2 windows of half the height and width, which are
  rolled by 0, 1/4, 2/4 or 3/4 of a window. The paper draws the shift anew; here it follows from the noise level and the place of
  the layer, so that a stream's pictures are equal for equal input.
- RAU-Net: in the first share of the steps the deeper blocks work at the height and width that they have at half the size. SD 1.5
  and 2: the first downsampler has stride 4, padding 2 and dilation 2 instead of 2, 1 and 1, and its upsampler enlarges fourfold.
  SDXL: after the first layer of the second block comes an average over 2 x 2, and bicubic enlargement at the same place of the
  decoder.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from pipelines.networks.hires import SHIFTS, Hires
from pipelines.values.types import SpecError, StreamSpec

CELL = 8
"""Pixels of the picture along one cell of a latent."""


def chosen(spec: StreamSpec, config: Mapping[str, Any], native: Sequence[int], controlled: bool) -> Hires | None:
    """What spec.hires asks for; None where it is off. config: of the UNet. native: one side or width and height in pixels.
    controlled: a ControlNet takes part. Raises SpecError where it does not apply."""
    if spec.hires == "off":
        return None
    start = _outermost(config)
    if start is None:
        raise SpecError(
            "hires",
            f"{spec.hires} does not fit this UNet, which has no self-attention in its two outermost blocks; it fits the shapes "
            "of SD 1.5, SD 2 and SDXL. This model takes off, and draws other sizes as it is",
        )
    own, trained = spec.width * spec.height, native[0] * native[-1]
    named = f"{native[0]} x {native[-1]}"
    if own == trained:
        raise SpecError("hires", f"{spec.hires} changes nothing at the model's native size, {named}; take off, or another size")
    full = spec.hires == "full"
    if full:
        _check_full(spec, config, own > trained, named, controlled)
    size = spec.height // CELL, spec.width // CELL
    return Hires(start, size, trained // CELL**2, own > trained, full)


def choices(config: Mapping[str, Any]) -> tuple[str, ...]:
    """The values of spec.hires that fit a UNet, at some size."""
    return StreamSpec.HIRES[: None if _outermost(config) is not None else 1]


def _check_full(spec: StreamSpec, config: Mapping[str, Any], above: bool, native: str, controlled: bool) -> None:
    if not above:
        raise SpecError("hires", f"full is for sizes above the model's native one, {native}; take attention or off below it")
    if controlled:
        raise SpecError("hires", "full does not work with a ControlNet, whose residuals have other sizes; attention does")
    if config.get("downsample_padding", 1) != 1:
        raise SpecError("hires", "full needs a UNet whose downsamplers have a padding of 1; attention does not")
    if len(config["down_block_types"]) < 2:
        raise SpecError("hires", "full needs a UNet that halves the picture; attention does not")
    unit = CELL * 2 ** len(config["down_block_types"])  # one halving more than the UNet has
    for name, value in (("width", spec.width), ("height", spec.height)):
        if value % unit:
            raise SpecError("hires", f"full needs a {name} that is a multiple of {unit}, not {value}; attention takes it")


def _outermost(config: Mapping[str, Any]) -> int | None:
    """The outermost block with attention, on both ways, if it is one of the first two."""
    down, up = tuple(config.get("down_block_types") or ()), tuple(config.get("up_block_types") or ())
    for index in range(min(2, len(down), len(up))):
        if "CrossAttn" in down[index] and "CrossAttn" in up[-1 - index]:
            return index
    return None


def shift(timestep: int, length: int) -> int:
    """Quarters that the windows of the first layer are rolled by at a timestep of a schedule of this length, 0..3: the sum of the
    first two digits of t/length to the base 4, so that neighbouring steps of few-step streams differ."""
    return (SHIFTS * timestep // length + SHIFTS**2 * timestep // length) % SHIFTS
