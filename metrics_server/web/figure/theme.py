"""The colours of figures, on the light page and on the dark one.

Text has a contrast of 4.5 : 1 or more with the page and its panels, marks of 3 : 1. The colours of series differ by
more than 20 in CIELAB for normal sight, protanopia, deuteranopia and tritanopia (Machado, Oliveira, Fernandes 2009),
and each has a dash of its own.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

DASHES = ("solid", [6, 2], [2, 2], [8, 2, 2, 2], [4, 1], [1, 3])
STEPS = 33  # of the colours of shares


class Theme(NamedTuple):
    """Colours of one page.

    Attributes:
        text: of names and numbers, and of marks over others.
        soft: of the words on axes, and of marks that stand behind others.
        grid: lines that nobody has to see.
        series: of as many series as are told apart.
        band: how opaque an interval is.
        none: a share of 0; `all`: a share of 1.
    """

    text: str
    soft: str
    grid: str
    series: tuple[str, ...]
    band: float
    none: str
    all: str


LIGHT = Theme(
    text="#1b2530",
    soft="#66717d",
    grid="#e3e7ec",
    series=("#145cbd", "#942f0e", "#0b9f62", "#67206e", "#ad8200", "#1e2026"),
    band=0.2,
    none="#eef2f7",
    all="#0f4fa8",
)
DARK = Theme(
    text="#e6eaef",
    soft="#a3aebb",
    grid="#2d343e",
    series=("#3f92f4", "#e96231", "#17e295", "#d67bbb", "#f1d336", "#eff3f6"),
    band=0.3,
    none="#222a35",
    all="#7db8ff",
)
THEMES: Mapping[str, Theme] = {"light": LIGHT, "dark": DARK}


def shades(theme: Theme) -> list[str]:
    """Returns the colours of shares from 0 to 1."""
    ends = [_channels(colour) for colour in (theme.none, theme.all)]
    mixed = [
        [low + (high - low) * step / (STEPS - 1) for low, high in zip(*ends, strict=True)] for step in range(STEPS)
    ]
    return ["#" + "".join(f"{round(channel):02x}" for channel in channels) for channels in mixed]


def ink(colour: str) -> str:
    """Returns black or white, whichever can be read better on a colour."""
    return max("#000000", "#ffffff", key=lambda one: contrast(one, colour))


def contrast(one: str, other: str) -> float:
    """Computes the contrast of two colours, 1 to 21 (WCAG 2.2)."""
    darker, lighter = sorted((_luminance(one), _luminance(other)))
    return (lighter + 0.05) / (darker + 0.05)


def _channels(colour: str) -> list[int]:
    return [int(colour[at : at + 2], 16) for at in (1, 3, 5)]


def _luminance(colour: str) -> float:
    shares = [channel / 255 for channel in _channels(colour)]
    linear = [share / 12.92 if share <= 0.04045 else ((share + 0.055) / 1.055) ** 2.4 for share in shares]
    return sum(weight * channel for weight, channel in zip((0.2126, 0.7152, 0.0722), linear, strict=True))
