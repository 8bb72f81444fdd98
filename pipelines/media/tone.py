"""The tone curve of HDR clips and pictures: what is darker than the knee stays, highlights are compressed below white.

The formula is that of FFmpeg's filter `tonemap=mobius`. The filter `curves` applies it to each channel of the coded picture,
because `tonemap` takes linear light without an upper end, which FFmpeg's scaler cannot make.
"""

from __future__ import annotations

from math import log

WHITE = 203.0
"""cd/m² of diffuse white in HDR (ITU-R BT.2408)."""

KNEE = 0.6
"""Share of white up to which nothing changes."""

PQ, HLG = 16, 18  # transfers of H.273
PEAKS = {PQ: 10_000.0, HLG: 1_000.0}
"""cd/m² at the highest code."""

STEPS = (0.2, 0.5, 0.8, 1.0, 1.1, 1.25, 1.4, 1.6, 1.8, 2.0, 2.5, 3.0, 4.0, 6.0, 9.0, 14.0, 22.0, 36.0, 60.0)
"""Points of the curve, in knees."""


def curve(transfer: int) -> str:
    """Arguments of `curves` for pictures in PQ or HLG."""
    code, peak = {PQ: _pq, HLG: _hlg}[transfer], PEAKS[transfer]
    levels = [step * KNEE * WHITE for step in STEPS if step * KNEE * WHITE < peak]
    points = [(code(level), code(WHITE * mobius(level / WHITE, peak / WHITE))) for level in levels]
    listed = [(0.0, 0.0), *points, (1.0, code(WHITE))]
    return f"m='{' '.join(f'{x:.5f}/{y:.5f}' for x, y in listed)}':interp=pchip"


def mobius(light: float, peak: float) -> float:
    """Light as a share of white, 0 to `peak`, to 0 to 1: the same up to the knee, with a continuous slope there."""
    if light <= KNEE:
        return light
    a = -KNEE * KNEE * (peak - 1) / (KNEE * KNEE - 2 * KNEE + peak)
    b = (KNEE * KNEE - 2 * KNEE * peak + peak) / (peak - 1)
    return (b * b + 2 * b * KNEE + KNEE * KNEE) / (b - a) * (light + a) / (light + b)


def _pq(level: float) -> float:
    """cd/m² to the code 0..1 (SMPTE ST 2084)."""
    y = (level / 10_000) ** 0.1593017578125
    return float(((0.8359375 + 18.8515625 * y) / (1 + 18.6875 * y)) ** 78.84375)


def _hlg(level: float) -> float:
    """cd/m² of grey on a display of 1000 cd/m² to the code 0..1 (ITU-R BT.2100)."""
    scene = (level / 1_000) ** (1 / 1.2)
    a, b, c = 0.17883277, 0.28466892, 0.55991073
    return (3 * scene) ** 0.5 if scene <= 1 / 12 else a * log(12 * scene - b) + c
