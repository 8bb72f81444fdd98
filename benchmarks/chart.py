"""Draws a speed-quality chart with Pillow: panels of numbered points, and a list of their names."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from PIL import Image, ImageDraw, ImageFont

INK, GREY, LINE, PAPER = (32, 33, 38), (112, 116, 126), (226, 228, 233), (255, 255, 255)
COLOURS = ((0, 102, 204), (204, 85, 0), (0, 128, 96), (150, 50, 160), (120, 110, 20), (190, 30, 60))
SCALE = 2  # drawn at twice the size, for sharp text on dense screens
PANEL_W, PANEL_H, LIST_W, MARGIN, HEAD = 470, 430, 390, 64, 84
ROW_H, DOT = 17, 9

Font = ImageFont.FreeTypeFont | ImageFont.ImageFont
Box = tuple[float, float, float, float]


@dataclass(frozen=True, slots=True)
class Point:
    """One point. xs: one value for each panel; y: for all panels. group: determines the colour and the heading in the list."""

    group: str
    name: str
    xs: tuple[float, ...]
    y: float


@dataclass(frozen=True, slots=True)
class Axis:
    """A linear axis from low to high with a line every `step`."""

    low: float
    high: float
    step: float

    def lines(self) -> list[float]:
        first = math.ceil(self.low / self.step - 1e-9)
        return [k * self.step for k in range(first, math.floor(self.high / self.step + 1e-9) + 1)]

    def at(self, value: float) -> float:
        """0 at low, 1 at high."""
        return (value - self.low) / (self.high - self.low)


def axis(values: Sequence[float], floor: float | None = None, ceiling: float | None = None) -> Axis:
    """An axis with round limits that contains all values, floor and ceiling."""
    low = min([*values, *([] if floor is None else [floor])])
    high = max([*values, *([] if ceiling is None else [ceiling])])
    span = max(high - low, 1e-3)
    raw = span / 6
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(power * k for k in (1, 2, 5, 10) if power * k >= raw)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return Axis((first if first < last else first - 1) * step, last * step, step)


def draw(points: Sequence[Point], title: str, panels: Sequence[str], y_label: str) -> Image.Image:
    """The chart. panels: the label of each x axis, in the order of Point.xs. Raises ValueError without points."""
    if not points:
        raise ValueError("nothing to draw")
    groups = list(dict.fromkeys(point.group for point in points))
    height = max(HEAD + PANEL_H, HEAD + ROW_H * (len(points) + 2 * len(groups))) + MARGIN
    image = Image.new("RGB", ((MARGIN + PANEL_W) * len(panels) * SCALE + LIST_W * SCALE, height * SCALE), PAPER)
    pen = ImageDraw.Draw(image)
    pen.text((MARGIN * SCALE, 18 * SCALE), title, fill=INK, font=_font(17))
    y_axis = axis([point.y for point in points], ceiling=1.0)
    for index, label in enumerate(panels):
        x_axis = axis([point.xs[index] for point in points], floor=1.0)
        left = MARGIN + index * (PANEL_W + MARGIN)
        box = (left, HEAD, left + PANEL_W - MARGIN / 2, HEAD + PANEL_H)
        _panel(pen, box, x_axis, y_axis, label, y_label if index == 0 else "")
        _dots(pen, box, x_axis, y_axis, points, index, groups)
    _names(pen, (MARGIN + PANEL_W) * len(panels) + 8, points, groups)
    return image


def _panel(pen: ImageDraw.ImageDraw, box: Box, x_axis: Axis, y_axis: Axis, label: str, y_label: str) -> None:
    left, top, right, bottom = box
    for value in x_axis.lines():
        x = left + x_axis.at(value) * (right - left)
        strong = abs(value - 1.0) < 1e-9
        _line(pen, (x, top, x, bottom), GREY if strong else LINE)
        _text(pen, (x, bottom + 6), f"{value:g}x", "ma", 12)
    for value in y_axis.lines():
        y = bottom - y_axis.at(value) * (bottom - top)
        _line(pen, (left, y, right, y), LINE)
        _text(pen, (left - 8, y), f"{round(value, 6):g}", "rm", 12)
    _text(pen, ((left + right) / 2, bottom + 28), label, "ma", 13)
    _text(pen, (left, top - 22), y_label, "ls", 13)


def _dots(
    pen: ImageDraw.ImageDraw, box: Box, x_axis: Axis, y_axis: Axis, points: Sequence[Point], index: int, groups: list[str]
) -> None:
    left, top, right, bottom = box
    places: list[tuple[float, float]] = []
    for number, point in enumerate(points, 1):
        x = left + x_axis.at(point.xs[index]) * (right - left)
        y = bottom - y_axis.at(point.y) * (bottom - top)
        at = _beside((x, y), places)
        places.append(at)
        colour = COLOURS[groups.index(point.group) % len(COLOURS)]
        if at != (x, y):  # moved aside: a line leads to the true position
            _line(pen, (x, y, *at), colour)
            _circle(pen, (x, y), 2, colour)
        _circle(pen, at, DOT, colour)
        pen.text((at[0] * SCALE, at[1] * SCALE), str(number), fill=PAPER, font=_font(11), anchor="mm")


def _beside(at: tuple[float, float], taken: Sequence[tuple[float, float]]) -> tuple[float, float]:
    """The nearest position to `at` where a dot covers no other one. Searches rings of growing radius."""
    for ring in range(12):
        for turn in range(12 if ring else 1):
            angle = math.pi / 6 * turn
            place = (at[0] + ring * DOT * math.cos(angle), at[1] + ring * DOT * math.sin(angle))
            if all(math.dist(place, other) >= 2 * DOT for other in taken):
                return place
    return at


def _names(pen: ImageDraw.ImageDraw, left: float, points: Sequence[Point], groups: list[str]) -> None:
    y = float(HEAD)
    for group in groups:
        colour = COLOURS[groups.index(group) % len(COLOURS)]
        _text(pen, (left, y), group, "lm", 14, colour)
        y += ROW_H + 2
        for number, point in enumerate(points, 1):
            if point.group == group:
                _circle(pen, (left + 8, y), 7, colour)
                pen.text(((left + 8) * SCALE, y * SCALE), str(number), fill=PAPER, font=_font(9), anchor="mm")
                figures = "  ".join(f"{x:.2f}x" for x in point.xs)
                _text(pen, (left + 24, y), point.name, "lm", 12, INK)
                _text(pen, (left + LIST_W - 40, y), f"{figures}  {point.y:.3f}", "rm", 12, GREY)
                y += ROW_H
        y += ROW_H - 2


def _font(size: int) -> Font:
    return ImageFont.load_default(size * SCALE)


def _text(
    pen: ImageDraw.ImageDraw, at: tuple[float, float], words: str, anchor: str, size: int, colour: tuple[int, int, int] = GREY
) -> None:
    pen.text((at[0] * SCALE, at[1] * SCALE), words, fill=colour, font=_font(size), anchor=anchor)


def _line(pen: ImageDraw.ImageDraw, box: Box, colour: tuple[int, int, int]) -> None:
    left, top, right, bottom = box
    pen.line((left * SCALE, top * SCALE, right * SCALE, bottom * SCALE), fill=colour, width=SCALE)


def _circle(pen: ImageDraw.ImageDraw, at: tuple[float, float], radius: float, colour: tuple[int, int, int]) -> None:
    x, y, r = at[0] * SCALE, at[1] * SCALE, radius * SCALE
    pen.ellipse((x - r, y - r, x + r, y + r), fill=colour)
