"""FFmpeg's filter graph for one kind of frame: deinterlaced, upright, in BT.709 with 8 bits, of the wanted size."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import av
import numpy as np
from av.sidedata.sidedata import Type as SideDataType
from av.video.reformatter import ColorPrimaries, ColorTrc

from pipelines.media import tone
from pipelines.values.types import Pixels

UNSPECIFIED = 2  # of primaries, transfer and matrix in H.273
RGB_MATRIX = 0
HD_HEIGHT = 720  # untagged clips of this height or more are BT.709 for players, lower ones BT.601
PLAIN_TRANSFERS = (0, 1, 2, 4, 5, 6, 7, 13, 14, 15)  # shown as they are; the others (PQ, HLG, linear, logarithmic) are converted
PLAIN_PRIMARIES = (0, 1, 2, 4, 5, 6, 7, 8, 22)
MATRICES = {1: "bt709", 4: "fcc", 5: "bt470bg", 6: "smpte170m", 7: "smpte240m", 9: "bt2020nc", 10: "bt2020c"}


QUARTERS: tuple[tuple[tuple[str, str], ...], ...] = (
    (),
    (("transpose", "cclock"),),
    (("hflip", ""), ("vflip", "")),
    (("transpose", "clock"),),
)
"""The filters for so many quarter turns to the left."""


@dataclass(frozen=True, slots=True)
class FrameKind:
    """What a graph is built for. matrix, transfer: as H.273 counts; converted: it is HDR or has wide primaries; turn: the filters
    that make the picture upright."""

    width: int
    height: int
    form: str
    matrix: int
    full_range: bool
    converted: bool
    transfer: int
    interlaced: bool
    turn: tuple[tuple[str, str], ...]

    @property
    def sideways(self) -> bool:
        """Are width and height exchanged?"""
        return any(name == "transpose" for name, _ in self.turn)


def kind_of(frame: Any, interlaced: bool) -> FrameKind:
    """interlaced: has any frame of the clip been?"""
    matrix = completed(frame)
    return FrameKind(
        frame.width,
        frame.height,
        frame.format.name,
        matrix,
        frame.color_range == 2 or frame.format.name.startswith("yuvj"),
        frame.color_trc not in PLAIN_TRANSFERS or frame.color_primaries not in PLAIN_PRIMARIES,
        int(frame.color_trc),
        interlaced,
        turn_of(frame),
    )


def completed(frame: Any) -> int:
    """The frame's matrix, chosen as players do where it has none; an incomplete HDR tag is completed on the frame."""
    if frame.color_trc in (ColorTrc.SMPTE2084, ColorTrc.ARIB_STD_B67) and frame.color_primaries == UNSPECIFIED:
        frame.color_primaries = ColorPrimaries.BT2020
    if frame.color_primaries not in PLAIN_PRIMARIES and frame.color_trc == UNSPECIFIED:
        frame.color_trc = ColorTrc.BT709
    matrix = int(frame.colorspace)
    if matrix != UNSPECIFIED:
        return matrix
    if frame.format.is_rgb:
        return RGB_MATRIX
    if frame.color_primaries == ColorPrimaries.BT2020:
        return 9
    return 1 if min(frame.width, frame.height) >= HD_HEIGHT or max(frame.width, frame.height) >= 1280 else 6


def upright(matrix: Sequence[int] | None) -> tuple[tuple[str, str], ...]:
    """The filters for a display matrix of nine integers, as FFmpeg's own player chooses them."""
    if matrix is None:
        return ()
    a, b, _, c, d = (value / 65536 for value in matrix[:5])
    across, down = math.hypot(a, c), math.hypot(b, d)
    if across == 0 or down == 0:
        return ()
    angle = math.degrees(math.atan2(b / down, a / across)) % 360
    if abs(angle - 90) < 1:
        return (("transpose", "cclock_flip" if c > 0 else "clock"),)
    if abs(angle - 180) < 1:
        return tuple((name, "") for name, turned in (("hflip", a < 0), ("vflip", d < 0)) if turned)
    if abs(angle - 270) < 1:
        return (("transpose", "clock_flip" if c < 0 else "cclock"),)
    if 1 < angle < 359:
        return (("rotate", f"{math.radians(angle):.6f}"),)
    return (("vflip", ""),) if d < 0 else ()


def has_alpha(frame: Any) -> bool:
    return frame.format.has_palette or any(part.is_alpha for part in frame.format.components)


class Graph:
    """A frame of one kind in, uint8 [height, width, 3 or 4] out; deinterlacing holds one frame back."""

    def __init__(self, kind: FrameKind, width: int, height: int, form: str) -> None:
        self._graph = av.filter.Graph()
        size = f"width={kind.width}:height={kind.height}:pix_fmt={kind.form}:time_base=1/1000"
        chain = [("buffer", f"{size}:colorspace={kind.matrix}:range={2 if kind.full_range else 1}")]
        if kind.interlaced:
            chain.append(("bwdif", "mode=send_frame:deint=interlaced"))
        chain += kind.turn
        chain += [*_scaling(kind, width, height, form), ("format", form), ("buffersink", "")]
        self._build(chain)

    def _build(self, chain: Iterable[tuple[str, str]]) -> None:
        before = None
        for name, arguments in chain:
            node = self._graph.add(name, arguments or None)
            if before is not None:
                before.link_to(node)
            before = node
        self._graph.configure()

    def take(self, frame: Any) -> list[Pixels]:
        """The pictures that are ready after this frame; None ends the clip."""
        self._graph.vpush(frame)
        ready = []
        while True:
            try:
                ready.append(self._graph.vpull().to_ndarray())
            except (av.error.BlockingIOError, av.error.EOFError):
                return ready


def _scaling(kind: FrameKind, width: int, height: int, form: str) -> list[tuple[str, str]]:
    """The filters that make the size and BT.709; highlights of HDR are compressed between scaling and conversion."""
    # Exact, where no primaries are converted: then FFmpeg mixes up the chroma with these flags.
    flags = "area" if kind.converted else "area+accurate_rnd+full_chroma_int"
    scaling = f"w={width}:h={height}:flags={flags}:out_range=full"
    if kind.matrix in MATRICES:
        scaling += f":in_color_matrix={MATRICES[kind.matrix]}"
    if not kind.converted:
        return [("scale", scaling)]
    transfer = "iec61966-2-1" if kind.transfer == ColorTrc.IEC61966_2_1 else "bt709"
    conversion = f"out_primaries=bt709:out_transfer={transfer}:intent=relative_colorimetric"
    if kind.transfer not in tone.PEAKS:
        return [("scale", f"{scaling}:{conversion}")]
    coded = ("format", "gbrap16le" if form == "rgba" else "gbrp16le")
    curve = ("curves", tone.curve(kind.transfer))
    return [("scale", scaling), coded, curve, ("scale", f"flags={flags}:out_range=full:{conversion}")]


def turn_of(frame: Any) -> tuple[tuple[str, str], ...]:
    """The filters that make a frame upright."""
    try:
        data = next((data for data in frame.side_data if data.type == SideDataType.DISPLAYMATRIX), None)
    except ValueError:  # side data of a kind that PyAV does not name hides all others; the angle is still known
        return QUARTERS[round(frame.rotation / 90) % 4]
    return upright(None if data is None else np.frombuffer(data, np.int32).tolist())


def tone_mapped(pixels: Pixels, primaries: int, transfer: int) -> Pixels:
    """uint8 [H, W, 3] of these primaries and transfer (H.273) in BT.709."""
    frame = av.VideoFrame.from_ndarray(pixels, format="rgb24")
    frame.color_primaries, frame.color_trc = primaries, transfer
    kind = kind_of(frame, interlaced=False)
    return Graph(kind, frame.width, frame.height, "rgb24").take(frame)[0]
