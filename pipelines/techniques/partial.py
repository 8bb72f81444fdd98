"""Partial frames: only a window around what changed of the input is computed, the rest of the picture stays. Pure decisions.

Regional reuse as in SIGE (Li et al. 2022, arXiv 2211.02048), which computes the edited blocks of a picture only, here between
the frames of a stream, and with one window of fixed size instead of lists of blocks, since graphs are static:

    changed(b) = max over the cells of block b of |D(x_now) − D(x_seen)| > threshold      D: means of 4 x 4 pixels
    picture    = kept + α·(window − kept)

x_seen is the input that the kept picture shows at that place, not the last frame, so slow changes add up until they count. The
window covers every changed block, with MARGIN pixels around it: a convolution sees zeros beyond the window's edge and not the
picture. α is 0 in the outer half of the margin, rises to 1 over the inner half, and is 1 on every changed block. Where the
window ends at the picture's own edge there is no margin.

Normalisations take statistics of the whole picture. A window takes those of the last whole frame (pipelines/networks/window.py,
and the painter's folded style), which is why whole frames come back: after `refresh` frames, and whenever anything else than the
input changes.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from dataclasses import dataclass, field

import cv2
import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from pipelines.techniques import regions
from pipelines.values.settings import PartialSettings, Settings
from pipelines.values.types import Pixels

Small = NDArray[np.uint8]
"""An input in means of CELL x CELL pixels, [height / CELL, width / CELL, 3]."""

Mask = NDArray[np.bool_]
"""Which blocks changed, [height / BLOCK, width / BLOCK]."""

CELL, BLOCK = 4, 16
MARGIN, FEATHER = 32, 16
"""Pixels of a window beyond what changed, and the inner part of them over which it fades into the kept picture."""

ALIGN = 64
"""Windows begin at multiples of this: a pixel of a UNet with three halvings, below an autoencoder with factor 8."""

EIGHTHS = 5
"""A window's side in eighths of the picture's, rounded up to ALIGN: 0.39 of the area at 512 x 512."""

NOTHING: Mask = np.zeros((1, 1), np.bool_)
"""A mask of a picture that did not change."""


@dataclass(frozen=True, slots=True)
class Window:
    """A part of a picture, in pixels; all of them multiples of ALIGN."""

    top: int
    left: int
    height: int
    width: int

    @property
    def rows(self) -> slice:
        return slice(self.top, self.top + self.height)

    @property
    def columns(self) -> slice:
        return slice(self.left, self.left + self.width)

    def parts(self, unit: int) -> tuple[slice, slice]:
        """Rows and columns of the window in units of so many pixels."""
        top, left = self.top // unit, self.left // unit
        return slice(top, top + self.height // unit), slice(left, left + self.width // unit)

    def inner(self, height: int, width: int, margin: int = MARGIN) -> tuple[slice, slice]:
        """Rows and columns without the margin, which the sides at the edge of the picture do not have."""
        top, left = self.top + (margin if self.top else 0), self.left + (margin if self.left else 0)
        bottom, right = self.top + self.height, self.left + self.width
        return (
            slice(top, bottom - (margin if bottom < height else 0)),
            slice(left, right - (margin if right < width else 0)),
        )


def side(whole: int) -> int:
    """A window's side in a picture with this one, in pixels."""
    return -(-whole * EIGHTHS // (8 * ALIGN)) * ALIGN


def small(pixels: Pixels) -> Small:
    """Means of CELL x CELL pixels of uint8 [height, width, 3], sides multiples of CELL."""
    height, width = pixels.shape[:2]
    return np.asarray(cv2.resize(pixels, (width // CELL, height // CELL), interpolation=cv2.INTER_AREA), np.uint8)


def changed(now: Small, seen: Small, threshold: float) -> Mask:
    """The blocks in which a channel of a cell differs by more than `threshold` (0..1 of full scale)."""
    difference = cv2.absdiff(now, seen)
    height, width, channels = difference.shape
    ratio = BLOCK // CELL
    rows = difference.reshape(height // ratio, ratio, width * channels).max(axis=1)
    found: NDArray[np.uint8] = rows.reshape(height // ratio, width // ratio, ratio * channels).max(axis=2)
    return found > threshold * 255


def place(mask: Mask, height: int, width: int, before: Window | None = None) -> Window | None:
    """The window that covers the changed blocks with their margin; None where they do not fit one, or a window would be the
    picture. Where nothing changed, the one before, or one in the middle. height, width: of the picture."""
    tall, wide = side(height), side(width)
    if tall >= height and wide >= width:
        return None
    if not mask.any():
        middle = Window((height - tall) // 2 // ALIGN * ALIGN, (width - wide) // 2 // ALIGN * ALIGN, tall, wide)
        return before or middle
    top = _origin(np.flatnonzero(mask.any(axis=1)), height, tall)
    left = _origin(np.flatnonzero(mask.any(axis=0)), width, wide)
    return None if top is None or left is None else Window(top, left, tall, wide)


def _origin(blocks: NDArray[np.intp], whole: int, length: int) -> int | None:
    """Where a window begins along one side, so that these blocks lie as much in its middle as can be."""
    low, high = int(blocks[0]) * BLOCK, (int(blocks[-1]) + 1) * BLOCK
    first, last = max(low - MARGIN, 0), min(high + MARGIN, whole)
    fitting = [at for at in range(0, whole - length + 1, ALIGN) if at <= first and last <= at + length]
    return min(fitting, key=lambda at: abs(2 * at + length - low - high), default=None)


@dataclass(frozen=True, slots=True, eq=False)
class Kept:
    """What a session keeps of its last frame.

    key: all that a picture depends on besides the input. seen: of the input that `picture`, uint8 [height, width, 3], shows.
    statistics [K] of each row's normalisations in the last whole frame, by (level, negative); empty if they were not kept. style:
    the painter's numbers [N] with its own folded in. window: the last one; age: frames since the last whole one.
    """

    key: Hashable
    seen: Small
    picture: Tensor | None = None
    statistics: Mapping[tuple[int, int], Tensor] = field(default_factory=dict)
    style: Tensor | None = None
    window: Window | None = None
    age: int = 0


@dataclass(frozen=True, slots=True, eq=False)
class Plan:
    """How one frame is computed: in a window, over `kept`, or as a whole. keeps: a whole frame keeps its statistics."""

    key: Hashable
    small: Small
    window: Window | None = None
    kept: Kept | None = None
    keeps: bool = False


def plan(kept: Kept | None, key: Hashable, now: Small, settings: PartialSettings) -> Plan:
    """A window where the kept frame has the same key and statistics that are not too old, and what changed fits. A whole frame
    keeps statistics where the next one may take a window: a moving camera costs nothing but this comparison."""
    if kept is None or kept.key != key:
        return Plan(key, now, keeps=True)
    height, width = now.shape[0] * CELL, now.shape[1] * CELL
    window = place(changed(now, kept.seen, settings.threshold), height, width, kept.window)
    if window is None or not kept.statistics or kept.age + 1 >= settings.refresh:
        return Plan(key, now, keeps=window is not None)
    return Plan(key, now, window, kept)


def seen_after(plan: Plan) -> Small:
    """What the picture of a finished frame shows of the inputs."""
    if plan.window is None or plan.kept is None:
        return plan.small
    seen = plan.kept.seen.copy()
    inner = plan.window.inner(seen.shape[0] * CELL, seen.shape[1] * CELL)
    rows, columns = (slice(one.start // CELL, one.stop // CELL) for one in inner)
    seen[rows, columns] = plan.small[rows, columns]
    return seen


def obstacle(settings: Settings) -> str | None:
    """Which setting lets every frame be computed as a whole, for people; None where partial frames can be."""
    for holds, why in (
        (settings.stream_batch.enabled and settings.steps > 1, "the stream batch has frames at several steps"),
        (
            settings.cache.enabled and settings.cache.reuse != "frames",
            "the feature cache reuses between the steps of whole frames",
        ),
        (settings.guidance_mode in ("adaptive", "linear"), f"{settings.guidance_mode} guidance remembers whole frames"),
        (settings.guidance_blur > 0.0 and settings.guidance_mode in ("self", "one-time"), "the blur of guidance reaches far"),
        (bool(regions.of(settings)), "a prompt with regions or weights is of several predictions"),
        (settings.refine.enabled, "the refinement at rest goes on with whole frames"),
        (settings.noise.mode == "walk", "the noise walks everywhere"),
        (settings.noise.motion > 0.0, "the strength follows the motion everywhere"),
        (settings.noise.warm_start > 0.0, "the warm start takes the last picture everywhere"),
        ("motion" in (settings.strength_map.mode, settings.omega_map.mode), "a map of motion reaches beyond what changed"),
    ):
        if holds:
            return why
    return None
