# ruff: noqa: INP001 - Seldon's wrapper is given the file
"""A model with metrics of its own, as Seldon's Python wrapper loads it: the price of a house by its area and its
rooms.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any


class HousePrice:
    """Counts what needs no truth. How far the prices are off is the feedback metrics server's to say."""

    def __init__(self) -> None:
        self._last = 0.0

    def predict(self, rows: Sequence[Sequence[float]], names: Sequence[str], meta: Any = None) -> list[float]:
        """A price for each row of area and rooms, as a number of Python: the wrapper cannot write those of NumPy."""
        prices = [20_000 + 2_500 * float(area) + 8_000 * float(rooms) for area, rooms in rows]
        self._last = sum(prices) / len(prices)
        return prices

    def metrics(self) -> list[dict[str, Any]]:
        """What the wrapper exposes after each call."""
        return [
            {"type": "COUNTER", "key": "house_price_calls", "value": 1},
            {"type": "GAUGE", "key": "house_price_last_mean", "value": self._last},
        ]
