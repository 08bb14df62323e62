"""Pictures of how something grows: lines over two logarithmic axes, as SVG."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from html import escape
from typing import NamedTuple

WIDTH, HEIGHT = 560, 300
LEFT, RIGHT, TOP, BOTTOM = 64, 150, 40, 44
FONT = 'font-family="sans-serif" font-size="12"'
MIDDLE = 'text-anchor="middle"'
COLORS = ("#2563eb", "#d97706", "#059669", "#9333ea", "#dc2626")

Line = Sequence[tuple[float, float]]


class Drawing(NamedTuple):
    """What is in a picture: lines by their names, with the names of the axes."""

    title: str
    x_name: str
    y_name: str
    lines: Mapping[str, Line]


def picture(title: str, x_name: str, y_name: str, lines: Mapping[str, Line]) -> str:
    """Draws lines by their names; every x and y is positive."""
    points = [point for line in lines.values() for point in line]
    across, up = _Axis([x for x, _ in points], LEFT, WIDTH - RIGHT), _Axis([y for _, y in points], HEIGHT - BOTTOM, TOP)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" {FONT}>',
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="#ffffff"/>',
        f'<text x="{LEFT}" y="20" font-size="14" font-weight="bold">{escape(title)}</text>',
        f'<text x="{(LEFT + WIDTH - RIGHT) / 2}" y="{HEIGHT - 8}" text-anchor="middle">{escape(x_name)}</text>',
        f'<text transform="translate(14 {(TOP + HEIGHT - BOTTOM) / 2}) rotate(-90)" {MIDDLE}>{escape(y_name)}</text>',
    ]
    for value in up.ticks:
        at = up.place(value)
        parts.append(f'<path d="M{LEFT} {at:.1f}H{WIDTH - RIGHT}" stroke="#e5e7eb"/>')
        parts.append(f'<text x="{LEFT - 6}" y="{at + 4:.1f}" text-anchor="end">{_short(value)}</text>')
    for value in across.ticks:
        at = across.place(value)
        parts.append(f'<text x="{at:.1f}" y="{HEIGHT - BOTTOM + 16}" text-anchor="middle">{_short(value)}</text>')
    for color, (name, line) in zip(COLORS, lines.items(), strict=False):
        parts += _drawn(name, [(across.place(x), up.place(y)) for x, y in line], color)
    return "\n".join([*parts, "</svg>\n"])


def _drawn(name: str, line: Line, color: str) -> list[str]:
    path = "L".join(f"{x:.1f} {y:.1f}" for x, y in line)
    x, y = line[-1]
    return [
        f'<path d="M{path}" fill="none" stroke="{color}" stroke-width="2"/>',
        *(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3" fill="{color}"/>' for x, y in line),
        f'<text x="{x + 8:.1f}" y="{y + 4:.1f}" fill="{color}">{escape(name)}</text>',
    ]


class _Axis:
    """A logarithmic axis from one place of the picture to another."""

    def __init__(self, values: Sequence[float], start: float, end: float) -> None:
        self._low, self._high = math.log10(min(values)), math.log10(max(values))
        if self._high - self._low < 1:  # a line that hardly rises is to look like one
            middle = (self._low + self._high) / 2
            self._low, self._high = middle - 0.5, middle + 0.5
        self._start, self._end = start, end

    @property
    def ticks(self) -> list[float]:
        steps = (1, 2, 5) if self._high - self._low < 2 else (1,)
        found = [
            step * 10.0**power for power in range(math.floor(self._low), math.ceil(self._high) + 1) for step in steps
        ]
        return [value for value in found if self._low - 1e-9 <= math.log10(value) <= self._high + 1e-9]

    def place(self, value: float) -> float:
        """Finds where a value lies."""
        return self._start + (math.log10(value) - self._low) / (self._high - self._low) * (self._end - self._start)


def _short(value: float) -> str:
    for unit, size in (("M", 1e6), ("k", 1e3)):
        if value >= size:
            return f"{value / size:g}{unit}"
    return f"{value:g}"
